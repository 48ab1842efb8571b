"""Imports every stage, so that each registers itself. A new stage is one line here."""

from importlib import import_module

STAGES = (
    "accept_invoice",
    "cancel_invoice",
    "create_link",
    "start_checkout",
    "close_attempt",
    "expire_link",
    "command_link",
    "command_hold",
    "settle_hold",
    "command_refund",
    "make_refund",
    "issue_receipt",
    "want_link",
    "read_event",
    "verify_attempt",
    "update_crm",
    "check_crm",
    "give_task",
    "close_task",
    "publish_event",
)


def load_all() -> None:
    """Import every stage module."""
    for name in STAGES:
        import_module(f"workers.{name}")
