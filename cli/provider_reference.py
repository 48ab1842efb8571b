"""The reference page of the payment providers: what each adapter can do, and what it was tested against.

python -m cli.provider_reference > docs/reference/providers/README.md
"""

import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from gateways.providers.base import Capabilities
from runtime.build import PROVIDERS_GROUP, installed, make_provider
from runtime.settings import AccountSettings

ACCOUNTS = Path(__file__).parents[1] / "docs" / "examples" / "accounts.toml"


@dataclass(frozen=True, slots=True)
class Tested:
    """What stands behind an adapter."""

    title: str
    written_from: str
    against: str


# One entry for each adapter that comes with us. No live account, and no test account, was used for any: whoever uses
# one first says so here, with the day and what was tried.
TESTED: Mapping[str, Tested] = {
    "ameriabank": Tested(
        "Ameriabank vPOS 3.1",
        "the bank's API description, its help pages, and what others saw and wrote down",
        "the simulator alone",
    ),
    "arca": Tested(
        "ArCa iPay, and gateways made by BPC",
        "BPC's public documentation",
        "the simulator; the published examples of signed callbacks, HMAC and RSA",
    ),
    "idram": Tested(
        "Idram",
        "the merchant interface description (edition of 2025)",
        "the simulator; a checksum calculated by another program. The description has no example of one",
    ),
    "sandbox": Tested(
        "The sandbox's own provider",
        "nothing: it does not exist",
        "itself, `paylinks sandbox provider`, in four families",
    ),
    "stripe": Tested(
        "Stripe Checkout",
        "Stripe's API documentation",
        "the simulator, which Stripe's official Python SDK drives too; events signed and checked by that SDK; "
        "payments, holds and refunds beside localstripe, a fake by others",
    ),
    "vpos": Tested(
        "VPOS.am payment sessions",
        "the public pages and openapi.yaml 0.1.0, which leave much open",
        "the simulator alone",
    ),
}

# Options that give an account more than the example's has. What they give is asked of the adapter.
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "ameriabank": {"two_phase": True},
    "arca": {"two_phase": True, "external_refund_id": True},
    "stripe": {"two_phase": True},
    "vpos": {"find_path": "v1/s", "cancel_path": "v1/s/{id}/c", "refund_path": "v1/s/{id}/r"},
}

# Each field of `Capabilities`, in the order of the page.
MEANINGS = {
    "create": "what a second create under the same reference does",
    "opens": "when the order is made: at once, or when the customer presses Pay",
    "session_life": "how long an order can be paid, at the longest",
    "settle": "after a lost create, *there is no such order* counts only when this has passed",
    "lookup": "it can be asked about an order",
    "lookup_gives_page": "and its answer still tells the page where the customer pays",
    "cancel": "an unpaid order can be closed",
    "refund": "money can be given back by a call",
    "refund_idempotent": "and the same refund asked twice is made once",
    "capture": "money is held first, and captured by a call",
    "push": "it tells of changes by itself",
    "signed_events": "and signs what it tells",
    "precheck": "it asks before money moves, and takes no for an answer",
    "answer": "what it must hear, literally, when its event is kept",
    "statement": "it lists the orders of a day, for reconciliation",
    "receipt": "its evidence tells of the fiscal receipt that it made by itself",
    "reference": "what an order may be called by us",
    "amount_unit": "amounts on the wire; the adapter converts",
    "currency_code": "currencies on the wire",
    "calls_per_second": "for all workers together, unless the account's settings say another number",
    "burst": "calls that may come at once after a pause",
}

_OPENING = """# Payment providers

<!-- Written by `python -m cli.provider_reference`; a test compares. Change the adapters, docs/examples/accounts.toml
or the facts in cli/provider_reference.py, not this page. -->

**No adapter has been used with a live account yet, nor with a provider's own test account.** Each was tested against a
simulator, a separate program that was written from the same documentation, apart from the adapter. A misreading that
both share would not show: go through the list of what is *assumed* on the adapter's page with your provider, and
rehearse on its test host, before money moves. One suite, `tests/conformance/test_every_provider*.py`, runs for all.

Your provider is not here? [Add a provider](../../how-to/add-a-provider.md): one file plus settings.

## What each was tested against
"""

_MATRIX = """## What each can do

Of the accounts in [docs/examples/accounts.toml](../../examples/accounts.toml), one for each adapter; *with* names the
option that an account needs for it. `paylinks providers` prints the same for your own settings.
"""


def page() -> str:
    """Return the page as Markdown."""
    return "\n".join([_OPENING, *_tests(), "", _MATRIX, *_matrix(example_accounts()), ""])


def example_accounts() -> dict[str, AccountSettings]:
    """Return the example's account of each adapter."""
    accounts = tomllib.loads(ACCOUNTS.read_text(encoding="utf-8"))["accounts"].values()
    return {one.adapter: one for one in map(AccountSettings.model_validate, accounts)}


def declared(account: AccountSettings, **options: Any) -> Capabilities:
    """Build an account in memory, with these options besides, and return what its adapter declares."""
    changed = account.model_copy(update={"options": {**account.options, **options}})
    with closing(make_provider("example", changed)) as provider:
        return provider.capabilities


def _tests() -> Iterator[str]:
    yield "| adapter | | written from | tested against | live account | assumed |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for name in installed(PROVIDERS_GROUP):
        one = TESTED[name]
        assumed = "nothing" if name == "sandbox" else f"[the list]({name}.md#assumed)"
        yield f"| [`{name}`]({name}.md) | {one.title} | {one.written_from} | {one.against} | none | {assumed} |"


def _matrix(accounts: Mapping[str, AccountSettings]) -> Iterator[str]:
    columns = {name: _column(name, account) for name, account in sorted(accounts.items())}
    yield f"| | | {' | '.join(f'`{name}`' for name in columns)} |"
    yield f"| --- | --- |{' --- |' * len(columns)}"
    for one, meaning in MEANINGS.items():
        yield f"| {one.replace('_', ' ')} | {meaning} | {' | '.join(column[one] for column in columns.values())} |"


def _column(name: str, account: AccountSettings) -> dict[str, str]:
    """Say each capability in words; what is not there without an option is there "with" it."""
    plain = declared(account)
    column = {one: _shown(getattr(plain, one)) for one in MEANINGS}
    for option, value in OPTIONS.get(name, {}).items():
        more = declared(account, **{option: value})
        column |= {
            one: f"with `{option}`" for one in MEANINGS if getattr(plain, one) is False and getattr(more, one) is True
        }
    return column


def _shown(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "-"
        case timedelta():
            return _duration(value)
        case float():
            return f"{value:g}"
        case "":
            return "any 2xx"
    return str(value).replace("_", " ")


def _duration(value: timedelta) -> str:
    seconds = value.total_seconds()
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size * (1 if unit == "min" else 2) and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


if __name__ == "__main__":
    sys.stdout.write(page())
