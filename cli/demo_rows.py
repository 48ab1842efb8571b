"""Every row of the verdict table as an invoice of the demo.

What a row says happens, at the provider, at the link and in the CRM, and the invoice must end as the rules say about
the row. A row is driven by its own data, so that a new one needs nothing here unless it says something new.
"""

from functools import partial

from cli.demo_cases import Case, Ending, Scene
from cli.stack import CRMS
from contracts.evidence import OrderState, TransactionKind
from rules import verdict_table
from rules.verdict_table import ASKED, CURRENCY, Moved

ACCOUNT = "bank"  # takes the table's currency
TIMES = 100  # what the demo asks for, in the table's amounts

_ACTIONS = {
    TransactionKind.CAPTURE: "pay",
    TransactionKind.REFUND: "refund",
    TransactionKind.REVERSAL: "reverse",
    TransactionKind.CHARGEBACK: "chargeback",
}


def cases() -> list[Case]:
    """Return one case for each row."""
    return [_case(number, row) for number, row in enumerate(verdict_table.CASES, start=1)]


def _case(number: int, row: verdict_table.Case) -> Case:
    data = {
        "crm": CRMS[number % len(CRMS)],
        "invoice_id": f"ROW-{number:02}",
        "version": 1,
        "amount_minor": ASKED * TIMES,
        "currency": CURRENCY,
        "purpose": row.name,
        "customer": {"name": "Ani", "email": "ani@example.am", "locale": "en"},
        "manager": {"id": "17", "name": "Karen Hakobyan"},
        "policy": row.policy.model_dump(mode="json", exclude_defaults=True),
    }
    decided = verdict_table.decide(row)
    ending = Ending(decided.status, decided.flags, decided.rules, decided.tasks)
    return Case(data, row.name, ACCOUNT, partial(_drive, row), ending)


def _drive(row: verdict_table.Case, scene: Scene) -> None:
    scene.customer.press_pay()
    _before_the_money(row, scene)
    _money_comes(row, scene)
    _the_order_ends(row, scene)
    if row.cancelled == "after":
        scene.office.cancel_in_crm()
        scene.office.wait_for_task("cancelled_after_payment")
        # Nobody asks about a paid order by himself: the provider says once more how it stands.
        scene.customer.at_provider("tell")


def _before_the_money(row: verdict_table.Case, scene: Scene) -> None:
    """Let happen to link and invoice what the row says, and wait until the customer can see it."""
    match row.by:
        case "late":
            scene.end_link()
            scene.customer.wait_for("expired")
        case "old":
            scene.office.command("link.reissue")
            scene.customer.wait_for("replaced")
        case "cancelled":
            scene.office.command("link.cancel")
            scene.customer.wait_for("cancelled")
    if row.cancelled == "before":
        scene.office.cancel_in_crm()
        scene.customer.wait_for("cancelled")
    if row.elsewhere:
        scene.office.settle_elsewhere()
        scene.customer.wait_for("paid_elsewhere")


def _money_comes(row: verdict_table.Case, scene: Scene) -> None:
    """Move the money in the order in which it moved; where the provider tells it in another, it tells captures last."""
    as_moved = _as_moved(row.moved)
    is_told_otherwise = as_moved != list(row.moved)
    closed = row.by != "link" or row.cancelled == "before" or row.elsewhere
    for place, moved in enumerate(as_moved):
        revision = scene.office.invoice()["revision"]
        untold = is_told_otherwise and moved.kind is TransactionKind.CAPTURE
        _move(scene, moved, force=closed or place > 0, untold=untold)
        if not untold:
            scene.office.wait_for_news(revision)
    if is_told_otherwise:
        scene.customer.at_provider("tell")


def _as_moved(told: tuple[Moved, ...]) -> list[Moved]:
    """Sort what is told by when it moved."""
    minutes = [place if one.minute is None else one.minute for place, one in enumerate(told)]
    return [told[place] for place in sorted(range(len(told)), key=minutes.__getitem__)]


def _move(scene: Scene, moved: Moved, **how: bool) -> None:
    asked = scene.customer.amount_minor
    options: dict[str, object] = {"amount_minor": moved.amount_minor * asked // ASKED}
    if moved.kind is TransactionKind.CAPTURE:
        options |= {"currency": moved.currency, **how}
    scene.customer.at_provider(_ACTIONS[moved.kind], **options)


def _the_order_ends(row: verdict_table.Case, scene: Scene) -> None:
    """Let the provider say of the order what its money does not."""
    match row.order, bool(row.moved):
        case OrderState.DECLINED, has_money:
            scene.customer.at_provider("decline", final=True, force=has_money)
        case OrderState.HELD, _:
            scene.customer.at_provider("hold")
        case OrderState.PAID, False:
            scene.customer.at_provider("say_paid")
