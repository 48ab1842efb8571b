"""How an order at Ameriabank's vPOS 3.1 is looked at, and told from another one, from a fault and from a wrong login.

Sources: see ameriabank_wire. About an order that nobody tried to pay GetPaymentDetails was seen to answer HTTP 500
with ASP.NET's fault (4.2), or the code 550 (13); a wrong password is 550 as well (4.25), and the fault says nothing
about the login (4.26). So after either of them GetPaymentId is asked with the same login: it names a wrong password
(20, seen in 13) and an unknown number (06, Table 1). Where it gives our PaymentID, the details are asked for once more,
as a fault may also be a fault; and an order of which nothing is told then is there and was not tried.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from contracts.evidence import Evidence, OrderState
from gateways.errors import Unavailable
from gateways.http import Answer
from gateways.providers.ameriabank_client import AmeriabankClient
from gateways.providers.ameriabank_evidence import Money, Reading, says_how_it_went
from gateways.providers.ameriabank_wire import Details, guid

_NO_SUCH_ORDER = "06"
_TELL_NOTHING = frozenset({"550", "0-100", _NO_SUCH_ORDER})


@dataclass(frozen=True, slots=True)
class Seen:
    """An order as the bank shows it."""

    evidence: Evidence
    money: Money | None = None


def opaque(reference: str) -> str:
    """Return what we give an order along, and get back with each answer about it.

    A shop of the same merchant may count its orders too: under a number of ours its order would be found.
    """
    return f"paylinks-{reference}"


class Looks:
    """The look-ups of one account."""

    def __init__(self, client: AmeriabankClient, reading: Reading) -> None:
        """Ask with `client`, and read as `reading` says."""
        self._client = client
        self._reading = reading

    def at(self, operation: str, reference: str, payment_id: str | None) -> Seen | None:
        """Look at our order; None: the bank says that it has none."""
        # The moment before the question: what happened while it travelled may be missing from the answer.
        asked_at = datetime.now(UTC)
        self._client.number(operation, reference)
        known = None if payment_id else self._client.payment_id(operation, reference)
        payment_id = guid(payment_id) or payment_id or known
        if payment_id is None:
            return None
        answer = self._client.details(operation, payment_id)
        if _tells_nothing(answer.body):
            known = known or self._client.payment_id(operation, reference)
            if known is None:
                return None
            self._require(known == payment_id, operation)
            answer = self._client.details(operation, payment_id)
            if _tells_nothing(answer.body):
                return Seen(self._untried(operation, answer, reference, payment_id, asked_at))
        self._check(operation, answer, reference)
        evidence = self._reading.evidence(answer.body, payment_id, reference, asked_at, answer.request_id)
        return Seen(evidence, self._reading.money(answer.body))

    def refuse_unless_held(self, operation: str, reference: str, payment_id: str) -> None:
        """Refuse what may only be done while money is held."""
        if not self.is_held(operation, reference, payment_id):
            raise self._client.refused(operation, "nothing is held", "not_held")

    def is_held(self, operation: str, reference: str, payment_id: str) -> bool:
        """Tell whether money is held now."""
        seen = self.at(operation, reference, payment_id)
        return seen is not None and seen.evidence.state is OrderState.HELD

    def _untried(
        self, operation: str, answer: Answer[Details], reference: str, payment_id: str, asked_at: datetime
    ) -> Evidence:
        if answer.body.response_code == _NO_SUCH_ORDER:
            why = "the bank knows the number, and not its payment"
            raise Unavailable(f"{operation} at {self._client.name}: {why}", code=_NO_SUCH_ORDER)
        return Evidence(
            reference=reference,
            provider_order_id=payment_id,
            state=OrderState.OPEN,
            provider_request_id=answer.request_id,
            asked_at=asked_at,
        )

    def _check(self, operation: str, answer: Answer[Details], reference: str) -> None:
        """Believe an answer only if it names our order and says how that stands."""
        details, code = answer.body, answer.body.response_code
        if not details.order_id and not details.is_done and not says_how_it_went(code):
            raise self._client.failure(operation, answer, idempotent=True)
        is_ours = details.order_id == reference and details.opaque in {None, opaque(reference)}
        self._require(is_ours, operation)
        if details.status is None and not says_how_it_went(code):
            raise self._client.failure(operation, answer, idempotent=True)

    def _require(self, is_ours: bool, operation: str) -> None:
        if not is_ours:
            # Facts about another order say nothing about ours.
            raise self._client.unknown(operation, "the answer is about another order", "other_order")


def _tells_nothing(details: Details) -> bool:
    return not details.order_id and (details.is_fault or details.response_code in _TELL_NOTHING)
