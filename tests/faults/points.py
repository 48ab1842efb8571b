"""Where each queue's worker may be stopped dead: between claim, intent, call and conclusion."""

CALLS_WITH_INTENT = ("claimed", "intent", "called", "concluding", "concluded")
CALLS = ("claimed", "called", "concluding", "concluded")

POINTS = {
    "link-creation": CALLS_WITH_INTENT,
    "checkout": CALLS_WITH_INTENT,
    "webhook-verification": CALLS,
    "crm-update": CALLS,
    "manager-tasks": CALLS_WITH_INTENT,
}


def points_of(queue: str) -> list[str]:
    """The full names, in the order in which a message meets them."""
    return [f"{queue}.{point}" for point in POINTS[queue]]
