"""What a customer sets in motion: Pay, and the return from the provider's page.

    press_pay ── new ────> attempt reserved, checkout.start    somebody opens it; the page waits
              ├─ resume ─> the open attempt's page             two tabs, two people: one attempt
              ├─ wait ───> being opened, or asked about        what waits is hurried, never made twice
              └─ refused > paid, closed, under review ...      the page says why
    ask_for_link ─────────> link.wanted                        a person reissues it

Decided under the invoice's lock, by rules.links and the invoice's status. Nothing here calls a provider.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeVar

from contracts.messages import CheckoutStart, LinkCreate, LinkWanted
from contracts.statuses import AttemptState, InvoiceStatus, LinkState
from db import attempts, audit, customer_pages, exceptions, invoices, links, message_store, wishes
from db.database import Trouble, trouble_of
from db.tx import Cause, Record, Tx
from gateways.errors import Refused
from gateways.providers.base import CreateMode
from rules.links import PayDecision, may_pay
from rules.policy import LinkPolicy
from rules.verdicts import Reason
from runtime.checks import request_check
from runtime.deps import Deps
from runtime.reserving import reserve

# Somebody else holds the invoice's lock for milliseconds; each try waits up to the database's lock time-out.
TRIES = 3
PAUSE_SECONDS = 0.05

CLOSED = frozenset({InvoiceStatus.PAID, InvoiceStatus.REFUNDED, InvoiceStatus.MANUAL_REVIEW, InvoiceStatus.CANCELLED})
# A check may still find money after every end but these; a reserved attempt is unknown to the provider.
_NOTHING_TO_ASK = frozenset({AttemptState.RESERVED, AttemptState.PAID})

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class PayResult:
    """What Pay led to. `reason`: why it was refused; `account` and `pay_url` only with resume."""

    action: Literal["new", "resume", "wait", "refused"]
    reason: str = ""
    attempt_id: str | None = None
    account: str | None = None
    pay_url: str | None = field(default=None, repr=False)
    pay_fields: Mapping[str, str] = field(default_factory=dict, repr=False)  # what the browser posts there, if anything


def press_pay(deps: Deps, link_id: str, *, request_id: str | None = None) -> PayResult:
    """Do what Pay means for this link right now. The row of the link must exist."""
    return _patiently(lambda: _press_pay(deps, link_id, Cause.new(request_id)))


def look(deps: Deps, link_id: str) -> PayResult:
    """Tell what Pay would lead to, and change nothing."""
    with deps.database.read() as tx:
        link = links.get(tx, link_id)
        attempt = _attempt_in_the_way(tx, link)
        decision = _decide(tx, invoices.get(tx, link.invoice_id), link, attempt, customer_pages.now(tx))
        return _result(tx, decision, attempt)


def note_return(deps: Deps, link_id: str, *, request_id: str | None = None) -> bool:
    """Ask for a check, because the customer came back from the provider; return whether there is anything to ask."""
    return _patiently(lambda: _note_return(deps, link_id, Cause.new(request_id)))


def ask_for_link(deps: Deps, link_id: str, *, request_id: str | None = None) -> None:
    """Pass the customer's wish for a new link on, once a day; nothing where his link can be paid, or nothing is due."""
    _patiently(lambda: _ask_for_link(deps, link_id, Cause.new(request_id)))


def _ask_for_link(deps: Deps, link_id: str, cause: Cause) -> None:
    with deps.database.begin(cause) as tx:
        link = links.get(tx, link_id)
        wish = LinkWanted(invoice=link.invoice_id, link=link.id, day=customer_pages.now(tx).date().isoformat())
        if wishes.find(tx, wish) is None:  # else whoever presses again and again would fill the table
            tx.then(wish)


def _press_pay(deps: Deps, link_id: str, cause: Cause) -> PayResult:
    with deps.database.begin(cause) as tx:
        invoice = invoices.lock(tx, links.get(tx, link_id).invoice_id)
        link = links.get(tx, link_id)  # again: it may have moved until the lock was had
        now = customer_pages.now(tx)
        attempt = _without_lapsed(tx, deps, _attempt_in_the_way(tx, link), now)
        decision = _decide(tx, invoice, link, attempt, now)
        if decision.action == "new":
            elsewhere = attempts.processing_elsewhere(tx, invoice.id, link.id)
            if elsewhere is not None:  # money is on its way by an older link: a second payment must not start
                request_check(tx, elsewhere)
                return PayResult("wait", elsewhere.state, elsewhere.id)
            return _reserve(tx, deps, invoice, link)
        result = _result(tx, decision, attempt)
        if result.action in ("resume", "wait") and attempt is not None and attempt.link_id == link.id:
            attempts.note_visit(tx, attempt)
        if result.action == "wait" and attempt is not None:
            _hurry(tx, deps, link, attempt)
        return result


def _attempt_in_the_way(tx: Tx, link: Record) -> Record | None:
    """Return the link's open attempt, else one by another link of the invoice whose money is on its way."""
    return attempts.open_of_link(tx, link.id) or attempts.processing_elsewhere(tx, link.invoice_id, link.id)


def _decide(tx: Tx, invoice: Record, link: Record, attempt: Record | None, now: datetime) -> PayDecision:
    if InvoiceStatus(invoice.status) in CLOSED:
        return PayDecision("refused", invoice.status)
    if _kept(invoice) > 0 and LinkPolicy.kept(link.policy).partial != "collect":
        # The link's amount is locked, so this link would take the whole amount on top of what was paid.
        return PayDecision("refused", "partly_paid")
    return may_pay(
        link=LinkState(link.state),
        expires_at=link.expires_at,
        now=now,
        open_attempt=AttemptState(attempt.state) if attempt is not None else None,
        attempt_expires_at=attempt.expires_at if attempt is not None else None,
        attempts_left=attempt is not None or _are_left(tx, link),
    )


def _are_left(tx: Tx, link: Record) -> bool:
    """Tell whether the policy allows one more attempt."""
    newest = customer_pages.newest_attempt(tx, link.id)
    return newest is None or newest.number < LinkPolicy.kept(link.policy).attempts


def _without_lapsed(tx: Tx, deps: Deps, attempt: Record | None, now: datetime) -> Record | None:
    """End an attempt whose session lapsed at a provider that nobody can ask: only its signed events would speak.

    Elsewhere a check decides. Money that was in flight still pays the invoice: expired attempts become paid too.
    """
    if attempt is None or attempt.state != AttemptState.OPEN or attempt.expires_at is None:
        return attempt
    provider = deps.providers.get(attempt.account)
    if provider is None or provider.capabilities.lookup or now < attempt.expires_at + provider.capabilities.settle:
        return attempt
    attempts.move(tx, attempt.id, AttemptState.EXPIRED)
    return None


def _reserve(tx: Tx, deps: Deps, invoice: Record, link: Record) -> PayResult:
    if invoice.account not in deps.providers:
        return PayResult("refused", "unavailable")
    try:
        attempt = reserve(tx, deps, link, invoice.account, visited=True)
    except Refused as error:
        exceptions.raise_(tx, invoice.id, Reason.PROVIDER_REFUSED, error.detail)
        return PayResult("refused", "unavailable")
    tx.then(CheckoutStart(invoice=invoice.id, link=link.id, attempt=attempt.id))
    return PayResult("new", attempt_id=attempt.id)


def _kept(invoice: Record) -> int:
    """Return what is paid already, in minor units."""
    return int(invoice.paid_minor - invoice.refunded_minor)


def _result(tx: Tx, decision: PayDecision, attempt: Record | None) -> PayResult:
    if attempt is None or decision.action in ("new", "refused"):
        return PayResult("new" if decision.action == "new" else "refused", decision.reason)
    if decision.action == "resume":
        url = attempts.pay_url(tx, attempt)
        if url is not None:
            return PayResult(
                "resume",
                attempt_id=attempt.id,
                account=attempt.account,
                pay_url=url,
                pay_fields=attempts.pay_fields(tx, attempt),
            )
    return PayResult("wait", attempt.state, attempt.id)


def _hurry(tx: Tx, deps: Deps, link: Record, attempt: Record) -> None:
    """Make what the customer waits for due now: a pause after a failure, or work behind a long queue, is not his."""
    if AttemptState(attempt.state) in (AttemptState.OPEN, AttemptState.PROCESSING):
        request_check(tx, attempt)
        return
    start = CheckoutStart(invoice=link.invoice_id, link=link.id, attempt=attempt.id)
    known = wishes.find(tx, start)
    if known is None:
        _overtake(tx, deps, link, attempt, start)
    elif known.state == "ready":
        message_store.hasten(tx, known.message_id)
    elif known.state == "dead" and message_store.retry(tx, known.message_id):
        audit.write(
            tx,
            actor="customer",
            action="message.retried",
            subject=link.invoice_id,
            reason="pressed Pay again",
            message=known.message_id,
        )


def _overtake(tx: Tx, deps: Deps, link: Record, attempt: Record, start: CheckoutStart) -> None:
    """Open an attempt that was to be opened early, by a queue where nobody waits, on the queue of those who do.

    Not where a second opener could not ask what the first one did.
    """
    provider = deps.providers.get(attempt.account)
    if provider is None:
        return
    early = wishes.find(tx, LinkCreate(invoice=link.invoice_id, link=link.id, attempt=attempt.id))
    may_ask = provider.capabilities.create is CreateMode.IDEMPOTENT or provider.capabilities.lookup
    if may_ask or early is None or early.state == "dead":
        tx.then(start)


def _note_return(deps: Deps, link_id: str, cause: Cause) -> bool:
    with deps.database.begin(cause) as tx:
        invoices.lock(tx, links.get(tx, link_id).invoice_id)
        attempt = customer_pages.newest_attempt(tx, link_id)
        if attempt is None or AttemptState(attempt.state) in _NOTHING_TO_ASK:
            return False
        provider = deps.providers.get(attempt.account)
        if provider is None or not provider.capabilities.lookup:
            return False
        attempts.note_visit(tx, attempt)  # the check will tell whether he was declined this time
        request_check(tx, attempt)
        return True


def _patiently(attempt: Callable[[], _T]) -> _T:
    """Try again when a lock was not had in time."""
    for _ in range(TRIES - 1):
        try:
            return attempt()
        except Exception as error:
            if trouble_of(error) is not Trouble.BUSY:
                raise
        time.sleep(PAUSE_SECONDS)
    return attempt()
