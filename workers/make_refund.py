"""Give money back at the provider, at most once.

Takes     refund.make, written when a refund was asked for, and agreed to where that needs a second person.
Gives     attempt.check, so that the provider's own word brings the money into the books; a task when it refuses.
Twice?    Safe: the provider is asked under the refund's own reference, or an intent is declared and whoever finds it
          without a result looks at the order's refunds, and never calls again blindly.
Gives up  After 12 tries over about 3 hours: dead letter, and the manager is told.
"""

from datetime import timedelta

from contracts.evidence import ProviderTransaction, TransactionKind
from contracts.messages import RefundMake
from contracts.money import display
from db import attempts, audit, customer_pages, inbox, intents, invoices, ledger, refunds
from db.intents import Earlier
from db.tx import Record, Tx
from gateways.errors import Refused, Unavailable, Unknown
from gateways.providers.base import Provider, RefundRequest
from rules.refunds import MAKE_REFUND, RefundState
from rules.verdicts import Reason
from runtime import points
from runtime.checks import request_check
from runtime.deps import Deps
from workers.receipts import known_money, want_receipts
from workers.stage import ALREADY_DONE, DONE, NOT_YET, Outcome, Schedule, stage
from workers.standing import raise_exception, restand

# No refund call of ours is still on its way after this.
CALL_SECONDS = 20.0


@stage(
    RefundMake,
    schedule=Schedule.growing(12, first=2, longest=1800),
    time_limit=timedelta(seconds=20),
    waits_end_in=Reason.REFUND_FAILED,
)
def make_refund(message: RefundMake, deps: Deps) -> Outcome:
    """Give back one sum."""
    with deps.begin() as tx:
        refund = _locked(tx, message.refund)
        if refund.state != RefundState.PENDING:
            return ALREADY_DONE
        provider = deps.providers.get(refund.account)
        repeatable = provider is None or provider.capabilities.refund_idempotent
        earlier = None if repeatable else _declare(tx, deps, refund)
    if provider is None:
        return _failed(message, deps, refund, f"the account {refund.account} is not configured here any more")
    points.reach(f"{deps.claim.queue}.{points.INTENT}")
    if earlier is not None:
        return _look(message, deps, provider, refund, earlier)

    try:
        made = provider.refund(_request(refund))
    except Unavailable:
        _forget(deps, refund, (deps.claim.id, deps.claim.claim_no))
        raise
    except Unknown:
        with deps.begin() as tx:
            intents.ended_unheard(tx, MAKE_REFUND, refund.id, (deps.claim.id, deps.claim.claim_no))
        raise
    except Refused as error:
        return _failed(message, deps, refund, error.detail)
    points.reach(f"{deps.claim.queue}.{points.CALLED}")
    return _made(message, deps, provider, refund, made.provider_transaction_id)


def _locked(tx: Tx, refund_id: str) -> Record:
    found = refunds.find(tx, refund_id)
    if found is not None and found.invoice_id is not None:
        invoices.lock(tx, found.invoice_id)
    return refunds.lock(tx, refund_id)


def _declare(tx: Tx, deps: Deps, refund: Record) -> Earlier | None:
    return intents.declare(tx, MAKE_REFUND, refund.id, deps.claim, call_seconds=CALL_SECONDS)


def _request(refund: Record) -> RefundRequest:
    return RefundRequest(
        refund_reference=refund.id,
        reference=refund.reference,
        provider_order_id=refund.provider_order_id,
        amount_minor=refund.amount_minor,
        currency=refund.currency,
    )


def _look(message: RefundMake, deps: Deps, provider: Provider, refund: Record, earlier: Earlier) -> Outcome:
    """Somebody may have called and died, or had no answer: look whether the order shows this refund."""
    if not provider.capabilities.lookup:
        return _undecidable(message, deps, refund, "this provider answers no questions")
    evidence = provider.fetch_evidence(refund.reference, refund.provider_order_id)
    told = evidence.transactions if evidence is not None else ()
    if not any(one.kind is TransactionKind.CAPTURE for one in told):
        return NOT_YET(30, "the provider's answer does not show the payment, so it says nothing about its refunds")
    with deps.begin() as tx:
        known = refunds.strangers(tx, refund)
        moved = ledger.told(tx, refund.account, told)
    open_refunds = [one for one in moved if _may_be(refund, one, known)]
    made = next((one for one in open_refunds if one.amount_minor == refund.amount_minor), None)
    if made is not None:
        return _made(message, deps, provider, refund, made.provider_transaction_id)
    is_total = any(one.cumulative and one.kind is TransactionKind.REFUND for one in told)
    if is_total and sum(one.amount_minor for one in open_refunds) >= refund.amount_minor:
        return _undecidable(message, deps, refund, "more went back meanwhile than this refund")
    left = (earlier.deadline - earlier.now + provider.capabilities.settle).total_seconds()
    if left > 0:
        return NOT_YET(max(left, 0.5), "a lost call may still give the money back")
    _forget(deps, refund, earlier.by)
    return NOT_YET(0.0, "the lost call never gave the money back: do it now")


def _may_be(refund: Record, one: ProviderTransaction, strangers: set[str]) -> bool:
    """Tell whether a movement may be this refund's: it is one in its currency, and surely no other's."""
    is_refund = one.kind is TransactionKind.REFUND and one.currency == refund.currency
    return is_refund and one.provider_transaction_id not in strangers


def _forget(deps: Deps, refund: Record, by: tuple[str, int]) -> None:
    with deps.begin() as tx:
        intents.resolve(tx, MAKE_REFUND, refund.id, "not_done", by=by)


def _made(message: RefundMake, deps: Deps, provider: Provider, refund: Record, transaction_id: str) -> Outcome:
    with deps.concluding(message) as tx:
        _locked(tx, refund.id)
        intents.resolve(tx, MAKE_REFUND, refund.id, "done")
        refunds.move(tx, refund.id, RefundState.DONE, provider_transaction_id=transaction_id)
        _write(tx, message, refund, "refund.made", transaction=transaction_id)
        if refund.attempt_id is not None and provider.capabilities.lookup:
            request_check(tx, attempts.get(tx, refund.attempt_id))
        else:
            _book(tx, deps, refund, transaction_id)
    return DONE


def _book(tx: Tx, deps: Deps, refund: Record, transaction_id: str) -> None:
    """Enter what the provider answered, where no later question would."""
    moved = ProviderTransaction(
        provider_transaction_id=transaction_id,
        kind=TransactionKind.REFUND,
        amount_minor=refund.amount_minor,
        currency=refund.currency,
        occurred_at=customer_pages.now(tx),
    )
    invoice = invoices.get(tx, refund.invoice_id) if refund.invoice_id is not None else None
    known = known_money(tx, deps.settings, invoice) if invoice is not None else None
    ledger.record(
        tx,
        refund.account,
        [moved],
        invoice_id=refund.invoice_id,
        attempt_id=refund.attempt_id,
        unmatched_id=refund.unmatched_id,
    )
    if invoice is not None:
        want_receipts(tx, deps.settings, invoice, known)
        restand(tx, invoice.id)
    else:
        inbox.settle(tx, refund.unmatched_id)


def _failed(message: RefundMake, deps: Deps, refund: Record, why: str) -> Outcome:
    """Nothing moved: the provider said no, or nobody is there to ask."""
    with deps.concluding(message, outcome="refused", detail=why) as tx:
        _locked(tx, refund.id)
        intents.resolve(tx, MAKE_REFUND, refund.id, "not_done")
        refunds.move(tx, refund.id, RefundState.REFUSED, error=why)
        _write(tx, message, refund, "refund.refused")
        _tell(tx, refund, f"refused: {why}")
    return DONE


def _undecidable(message: RefundMake, deps: Deps, refund: Record, because: str) -> Outcome:
    why = f"its answer was lost, and {because}"
    with deps.concluding(message, outcome="unknown", detail=why) as tx:
        _locked(tx, refund.id)
        refunds.move(tx, refund.id, RefundState.UNKNOWN, error=why)
        _tell(tx, refund, f"{why}: look there, then approve it again, or reject it if it never happened")
    return DONE


def _tell(tx: Tx, refund: Record, what: str) -> None:
    if refund.invoice_id is not None:
        money = display(refund.amount_minor, refund.currency)
        raise_exception(tx, refund.invoice_id, Reason.REFUND_FAILED, f"refund {refund.id} of {money}: {what}")


def _write(tx: Tx, message: RefundMake, refund: Record, action: str, **detail: str) -> None:
    audit.write(
        tx,
        actor="paylinks",
        action=action,
        subject=message.about,
        refund=refund.id,
        amount_minor=refund.amount_minor,
        currency=refund.currency,
        **detail,
    )
