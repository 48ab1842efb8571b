"""Make a link's next attempt under a name that its provider takes."""

from db import attempts
from db.tx import Record, Tx
from gateways.errors import Refused
from gateways.providers.base import References
from runtime.deps import Deps


def reserve(tx: Tx, deps: Deps, link: Record, account: str, *, visited: bool = False) -> Record:
    """Reserve as `attempts.reserve` does. Refused when the account's numbers are used up: nothing is made then."""
    return attempts.reserve(tx, link, account, visited=visited, reference=_number(tx, deps, account))


def _number(tx: Tx, deps: Deps, account: str) -> str | None:
    """Return the next number, where the provider takes nothing but numbers; None: the attempt's id will do."""
    provider = deps.providers.get(account)
    if provider is None or provider.capabilities.reference is not References.NUMBER:
        return None
    allowed = deps.settings.accounts[account].order_numbers
    number = attempts.next_number(tx, account, allowed.first)
    if number > allowed.last:
        raise Refused(f"accounts.{account}.order_numbers: all up to {allowed.last} are used", code="numbers_used_up")
    return str(number)
