"""Open an attempt at the provider, exactly once: shared by create_link (early) and start_checkout (a customer waits).

reserved ── intent ── call ──> open            the page is known
               │        └────> unknown         asked next time under our own reference, never repeated blindly
               └─ refused ───> failed          the customer may press Pay again
"""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

from contracts.messages import CheckoutStart, LinkCreate
from contracts.statuses import OPEN_ATTEMPTS, AttemptState, LinkState
from db import attempts, intents, invoices, links
from db.intents import Earlier
from db.tx import Record, Tx
from gateways.errors import Refused, Unavailable, Unknown
from gateways.providers.base import CreateMode, OrderRequest, Provider, ProviderOrder
from rules.links import next_check_seconds, session_life
from rules.verdicts import Reason
from runtime import points
from runtime.checks import request_check, schedule_check
from runtime.deps import Deps
from runtime.reserving import reserve
from workers.stage import ALREADY_DONE, DONE, NOT_YET, SUPERSEDED, Outcome
from workers.standing import ask_to_close, raise_exception, restand

CREATE_ORDER = "create_order"
# No create call of ours is still on its way after this.
CALL_SECONDS = 20.0

Opening = LinkCreate | CheckoutStart


def open_attempt(message: Opening, deps: Deps) -> Outcome:
    """Make the provider order of an attempt that is ours alone so far."""
    with deps.begin() as tx:
        invoice = invoices.lock(tx, message.invoice)
        link = links.get(tx, message.link)
        attempt = attempts.lock(tx, message.attempt)
        if attempt.state not in (AttemptState.RESERVED, AttemptState.UNKNOWN):
            return ALREADY_DONE
        provider = deps.providers[attempt.account]
        earlier = intents.declare(tx, CREATE_ORDER, attempt.id, deps.claim, call_seconds=CALL_SECONDS)
        if link.state != LinkState.ACTIVE and earlier is None:
            intents.resolve(tx, CREATE_ORDER, attempt.id, "not_done")
            attempts.move(tx, attempt.id, AttemptState.CLOSED, error=f"link {link.state}")
            restand(tx, invoice.id)
            return SUPERSEDED
    points.reach(f"{deps.claim.queue}.{points.INTENT}")

    # No transaction is open here: a slow provider must not hold a row.
    # An idempotent create is its own question: it gives the order that an earlier call may have made.
    if earlier is not None and provider.capabilities.create is not CreateMode.IDEMPOTENT:
        return _recover(message, deps, provider, attempt, earlier)
    request = _request(deps, invoice, link, attempt, provider)
    try:
        order = provider.create_order(request)
    except Unavailable:
        _forget(deps, attempt, (deps.claim.id, deps.claim.claim_no))
        raise
    except Unknown:
        with deps.begin() as tx:
            intents.ended_unheard(tx, CREATE_ORDER, attempt.id, (deps.claim.id, deps.claim.claim_no))
        raise
    except Refused as error:
        return _refused(message, deps, attempt, error)
    points.reach(f"{deps.claim.queue}.{points.CALLED}")
    return _opened(message, deps, attempt, order)


def _request(deps: Deps, invoice: Record, link: Record, attempt: Record, provider: Provider) -> OrderRequest:
    url = deps.tokens.url(link.id, link.generation, link.key_id)
    return OrderRequest(
        reference=attempt.reference,
        amount_minor=attempt.amount_minor,
        currency=attempt.currency,
        description=invoice.purpose,
        return_url=f"{url}/return",
        expires_in=session_life(link.expires_at, datetime.now(UTC), provider.capabilities.session_life),
        locale=invoice.locale,
    )


def _opened(message: Opening, deps: Deps, attempt: Record, order: ProviderOrder) -> Outcome:
    if order.pay_url is None:
        raise ValueError("an order without a page cannot be opened")
    with deps.concluding(message, provider_request_id=order.provider_request_id) as tx:
        invoices.lock(tx, attempt.invoice_id)
        intents.resolve(tx, CREATE_ORDER, attempt.id, "done")
        moved = attempts.opened(
            tx,
            attempt.id,
            provider_order_id=order.provider_order_id,
            pay_url=order.pay_url,
            pay_fields=order.pay_fields,
            expires_at=order.expires_at,
        )
        if not moved:  # a second opener was first, or it ended meanwhile: keep the order's id
            attempts.learn_order(tx, attempt.id, order.provider_order_id)
        now = attempts.lock(tx, attempt.id)
        if AttemptState(now.state) not in OPEN_ATTEMPTS or links.get(tx, now.link_id).state != LinkState.ACTIVE:
            ask_to_close(tx, now, "its link closed while it was opened")
            request_check(tx, now)
        elif moved:
            schedule_check(tx, now, delay_seconds=next_check_seconds(0) * deps.settings.time_scale)
        restand(tx, attempt.invoice_id)
    return DONE


def _recover(message: Opening, deps: Deps, provider: Provider, attempt: Record, earlier: Earlier) -> Outcome:
    """Somebody may have called and died, or had no answer: ask, never repeat."""
    if not provider.capabilities.lookup:
        return _leave_to_a_person(message, deps, attempt)
    order = provider.find_order(attempt.reference)
    if order is None:
        settled = earlier.deadline + provider.capabilities.settle
        if earlier.now < settled:
            pause = max((settled - earlier.now).total_seconds(), 0.5)
            return NOT_YET(min(pause, 30.0), "a lost create may still arrive at the provider")
        _forget(deps, attempt, earlier.by)
        return NOT_YET(0.0, "the lost create never arrived: create it now")
    if order.pay_url is not None:
        return _opened(message, deps, attempt, order)
    return _replace(message, deps, attempt, order)


def _replace(message: Opening, deps: Deps, attempt: Record, order: ProviderOrder) -> Outcome:
    """The order exists but its page is lost for ever: close it, and open the link's next attempt."""
    with suppress(Refused):  # closed or paid already: the check that follows tells which
        deps.providers[attempt.account].cancel_order(attempt.reference, order.provider_order_id)
    with deps.concluding(message, outcome="replaced", provider_request_id=order.provider_request_id) as tx:
        invoices.lock(tx, attempt.invoice_id)
        intents.resolve(tx, CREATE_ORDER, attempt.id, "done")
        attempts.learn_order(tx, attempt.id, order.provider_order_id)
        attempts.move(tx, attempt.id, AttemptState.CLOSED, error="the provider's page was lost with its answer")
        request_check(tx, attempt)
        _next_attempt(tx, deps, message, attempt)
    return DONE


def _next_attempt(tx: Tx, deps: Deps, message: Opening, attempt: Record) -> None:
    link = links.get(tx, attempt.link_id)
    if link.state != LinkState.ACTIVE or attempts.open_of_link(tx, link.id) is not None:
        return
    fresh = reserve(tx, deps, link, attempt.account)
    tx.then(type(message)(invoice=message.invoice, link=link.id, attempt=fresh.id))


def _leave_to_a_person(message: Opening, deps: Deps, attempt: Record) -> Outcome:
    """Nobody can be asked, and a second call could charge twice: a person decides."""
    with deps.concluding(message, outcome="outcome_unknown") as tx:
        invoices.lock(tx, attempt.invoice_id)
        attempts.move(tx, attempt.id, AttemptState.UNKNOWN, error="create: no answer, and no look-up is offered")
        detail = f"the order {attempt.reference} may exist at the provider: look there; if it does not, "
        detail += "`paylinks invoice give-up-attempt` lets the customer pay again"
        raise_exception(tx, attempt.invoice_id, Reason.OUTCOME_UNKNOWN, detail)
    return DONE


def _refused(message: Opening, deps: Deps, attempt: Record, error: Refused) -> Outcome:
    with deps.concluding(message, outcome="refused", detail=error.detail) as tx:
        invoices.lock(tx, attempt.invoice_id)
        intents.resolve(tx, CREATE_ORDER, attempt.id, "not_done")
        if attempts.refused(tx, attempt.id, error.code or "refused"):
            raise_exception(tx, attempt.invoice_id, Reason.PROVIDER_REFUSED, error.detail)
        restand(tx, attempt.invoice_id)
    return DONE


def _forget(deps: Deps, attempt: Record, by: tuple[str, int]) -> None:
    """Note that surely nothing came of this caller's intent, so that the next try may call."""
    with deps.begin() as tx:
        intents.resolve(tx, CREATE_ORDER, attempt.id, "not_done", by=by)


LIMIT = timedelta(seconds=CALL_SECONDS)
