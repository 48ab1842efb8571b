"""Read a provider's event: a hint that something happened, believed only as far as its signature reaches.

Takes     provider.event, written by the receiver or by intake: raw bytes and headers.
Gives     attempt.check, so that the provider itself is asked; a verdict at once where the signed event carries the
          facts, and the provider cannot be asked or its account is set to trust it.
Twice?    Safe: a second event only hastens the check that waits, or asks once more.
Gives up  A forged event ends at once and changes nothing. One that names no order of ours waits two minutes for the
          order, then its money lies in the unmatched inbox.
"""

import base64
from datetime import timedelta

from contracts.messages import ProviderEventReceived
from contracts.statuses import Proof
from db import attempts, event_counts, inbox, invoices
from gateways.errors import Refused
from gateways.providers.base import Provider, ProviderEvent
from rules.events import UNMATCHED, kind_of_refusal
from runtime.checks import request_check
from runtime.deps import Deps
from workers.holding import take_word
from workers.stage import DONE, NOT_YET, REFUSED, Outcome, Schedule, stage

WAITS = 24
PAUSE_SECONDS = 5.0


@stage(
    ProviderEventReceived,
    schedule=Schedule.growing(10, first=2, longest=900),
    time_limit=timedelta(milliseconds=1800),
    max_waits=WAITS + 1,
)
def read_event(message: ProviderEventReceived, deps: Deps) -> Outcome:
    """Check one event and lead it to its attempt."""
    provider = deps.providers.get(message.account)
    if provider is None:
        return REFUSED("no such provider account is configured here")
    try:
        event = _parse(provider, message)
    except Refused as error:
        return _refuse(message, deps, kind_of_refusal(error.code), error.detail)
    with deps.read() as tx:
        attempt = attempts.by_order(tx, message.account, event.reference, event.provider_order_id)
        if attempt is None and event.payment is not None:
            attempt = attempts.by_payment(tx, message.account, event.payment)
    if attempt is None:
        if deps.claim.waits < WAITS:
            return NOT_YET(PAUSE_SECONDS, "the event names an order that is not ours yet")
        return _keep_unmatched(message, deps, event)

    with deps.concluding(message, subject=attempt.invoice_id) as tx:
        invoices.lock(tx, attempt.invoice_id)
        if event.evidence is not None and _is_believed(deps, message.account, provider):
            word = event.evidence.model_copy(update={"proof": Proof.SIGNED_EVENT})
            take_word(tx, deps, attempts.lock(tx, attempt.id), word)
        else:
            request_check(tx, attempt)
    return DONE


def _is_believed(deps: Deps, account: str, provider: Provider) -> bool:
    """Tell whether a signed event's facts decide: where nobody can be asked, or where the account is set so."""
    settings = deps.settings.accounts.get(account)
    trusts = settings is not None and settings.verification == "trust_signed"
    return provider.capabilities.signed_events and (trusts or not provider.capabilities.lookup)


def _parse(provider: Provider, message: ProviderEventReceived) -> ProviderEvent:
    return provider.parse_event(
        method=message.method,
        query=message.query,
        headers=message.headers,
        body=base64.b64decode(message.body_base64),
        received_at=message.received_at,
    )


def _keep_unmatched(message: ProviderEventReceived, deps: Deps, event: ProviderEvent) -> Outcome:
    """Keep proven money that belongs to no invoice of ours; never guess whose it is."""
    provider = deps.providers[message.account]
    evidence = event.evidence.model_copy(update={"proof": Proof.SIGNED_EVENT}) if event.evidence else None
    if provider.capabilities.lookup and event.reference is not None:
        deps.alone()
        evidence = provider.fetch_evidence(event.reference, event.provider_order_id)
    if evidence is None or not evidence.transactions:
        detail = "the event names no order of ours, and the provider knows of no money"
        return _refuse(message, deps, UNMATCHED, detail)
    deps.alone()
    with deps.concluding(message, outcome="unmatched") as tx:
        inbox.keep(tx, message.account, evidence, message_id=deps.claim.id)
        event_counts.add(tx, {(message.account, UNMATCHED): 1})
    return DONE


def _refuse(message: ProviderEventReceived, deps: Deps, kind: str, detail: str) -> Outcome:
    """End an event that changes nothing, and count it, in a transaction that holds no other lock."""
    deps.alone()
    with deps.concluding(message, outcome="refused", detail=detail) as tx:
        event_counts.add(tx, {(message.account, kind): 1})
    return REFUSED(detail)
