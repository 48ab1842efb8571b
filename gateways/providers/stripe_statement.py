"""Which sessions had money moved in a time: the statement that reconciliation compares with.

Source: https://docs.stripe.com/api, lists of charges, refunds, disputes and Checkout Sessions. A refund or a dispute
may come long after its session, so each list of movements is read, and leads to its payment's session.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from gateways.providers.stripe_client import WHOLE, StripeClient
from gateways.providers.stripe_wire import Intent, Page, Paid, Session

# Each list of movements, and how long before the time what moves in it may have begun: a dispute takes its time.
_MOVEMENTS = {"v1/charges": timedelta(0), "v1/refunds": timedelta(0), "v1/disputes": timedelta(days=120)}
# A session that was paid in the time was mostly made in it or the day before: these are read by the page.
_LIFE_OF_SESSION = timedelta(days=1)
# Whole sessions are long, and an answer has a limit.
_PAGE = "20"


class Statement:
    """The movements of one account."""

    def __init__(self, client: StripeClient) -> None:
        """Nothing is asked yet."""
        self._client = client

    def sessions(self, since: datetime, until: datetime) -> Iterator[Session]:
        """Return the sessions of ours that may have a movement in [since, until), each once."""
        payments = self._payments(since, until)
        for session in self._made(since - _LIFE_OF_SESSION, until):
            payment = session.payment_intent
            if isinstance(payment, Intent) and payment.id in payments:
                payments.discard(payment.id)
                if session.our_reference:
                    yield session
        for payment_id in sorted(payments):
            found = self._client.of_payment("list_orders", payment_id)
            if found is not None and found.our_reference:
                yield found

    def _payments(self, since: datetime, until: datetime) -> set[str]:
        found = set()
        for path, earlier in _MOVEMENTS.items():
            for one in self._client.every("list_orders", path, _between(since - earlier, until), Page[Paid]):
                if one.payment_intent:
                    found.add(one.payment_intent)
        return found

    def _made(self, since: datetime, until: datetime) -> Iterator[Session]:
        params = {**_between(since, until), "expand[]": f"data.{WHOLE}", "limit": _PAGE}
        return self._client.every("list_orders", "v1/checkout/sessions", params, Page[Session])


def _between(since: datetime, until: datetime) -> dict[str, str]:
    return {"created[gte]": _seconds(since), "created[lt]": _seconds(until + timedelta(seconds=1))}


def _seconds(when: datetime) -> str:
    return str(int(when.astimezone(UTC).timestamp()))
