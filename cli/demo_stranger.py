"""The demo's money of nobody: an order that was never made here is paid at the provider.

It lies in the inbox, because nothing may be guessed; a person of the office gives it back.
"""

import time

from cli import inbox as desk
from cli.stack import Stack
from contracts.money import display
from db import inbox
from db.tx import Record

ACCOUNT = "bank"
PATIENCE_SECONDS = 60.0
REFERENCE, AMOUNT_MINOR, CURRENCY = "from-another-system", 777_700, "AMD"
_ORDER = {
    "reference": REFERENCE,
    "amount_minor": AMOUNT_MINOR,
    "currency": CURRENCY,
    "description": "Somebody else's order",
    "return_url": "http://127.0.0.1/",
    "expires_in_seconds": 600,
    "locale": "en",
}


def pays(stack: Stack) -> None:
    """Let a stranger pay; the provider's event comes here, since the account is the same."""
    stack.provider.control.create_at_last(_ORDER, api_key=stack.provider.api_key, account=ACCOUNT)
    stack.provider.control.act(REFERENCE, "pay", account=ACCOUNT)


def is_given_back(stack: Stack) -> list[str]:
    """Wait until his money lies in the inbox, and give it back; return what is wrong, in sentences."""
    entry = _wait(stack, inbox.OPEN)
    if entry is None:
        return ["money of nobody never reached the inbox"]
    desk.refund(stack.deps, entry.id, actor="demo", reason="nobody here knows the order")
    if _wait(stack, inbox.REFUNDED) is None:
        return ["money of nobody was never given back"]
    return []


def line() -> str:
    """Sum it up, for the end of the table."""
    money = display(AMOUNT_MINOR, CURRENCY)
    return f"money of nobody: {money} by the order {REFERENCE}, kept in the inbox, then given back"


def _wait(stack: Stack, state: str) -> Record | None:
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        with stack.deps.database.read() as tx:
            for entry in inbox.listed(tx, every=True):
                if (entry.reference, entry.state) == (REFERENCE, state):
                    return entry
        time.sleep(0.5)
    return None
