"""Make the link of an invoice, and close the one before: shared by what accepts versions and by what reissues."""

from contracts.ids import new_id
from contracts.messages import LinkCreate, LinkExpire
from contracts.statuses import AttemptState, LinkState
from db import attempts, audit, exceptions, links
from db.tx import Record, Tx
from gateways.providers.base import Opens
from rules.policy import LinkPolicy
from rules.verdicts import Reason
from runtime.deps import Deps
from runtime.reserving import reserve
from runtime.tokens import token_hash
from workers.standing import ask_to_close


def make_link(tx: Tx, deps: Deps, invoice: Record, policy: LinkPolicy, *, actor: str, reason: str = "") -> Record:
    """Make the invoice's next link; the caller holds the invoice's lock and closed the one before."""
    link_id = new_id()
    key_id = deps.tokens.newest_key_id
    lifetime = policy.expires_in.total_seconds()
    link = links.create(
        tx,
        invoice,
        link_id=link_id,
        key_id=key_id,
        token_hash=token_hash(deps.tokens.token(link_id, 1, key_id)),
        policy=policy.model_dump_json(),
        lifetime_seconds=lifetime,
    )
    audit.write(
        tx,
        actor=actor,
        action="link.created",
        subject=invoice.id,
        reason=reason,
        link=link.id,
        version=invoice.version,
    )
    exceptions.clear(tx, invoice.id, Reason.LINK_WANTED)
    tx.then(LinkExpire(invoice=invoice.id, link=link.id), delay_seconds=lifetime)
    provider = deps.providers.get(invoice.account)
    if provider is not None and provider.capabilities.opens is Opens.EARLY:
        attempt = reserve(tx, deps, link, invoice.account)
        tx.then(LinkCreate(invoice=invoice.id, link=link.id, attempt=attempt.id))
    return link


def amend_link(tx: Tx, deps: Deps, invoice: Record, policy: LinkPolicy, *, actor: str) -> bool:
    """Let the link that nobody was shown ask what the new version asks; False: it must be replaced."""
    link = links.newest(tx, invoice.id)
    lifetime = policy.expires_in.total_seconds()
    if link is None or policy.unsent != "amend":
        return False
    if not links.amend(tx, link.id, invoice, policy=policy.model_dump_json(), lifetime_seconds=lifetime):
        return False
    audit.write(
        tx, actor=actor, action="link.amended", subject=invoice.id, reason="", link=link.id, version=invoice.version
    )
    clear_of_versions(tx, invoice.id)
    tx.then(LinkExpire(invoice=invoice.id, link=link.id, extension=deps.claim.id), delay_seconds=lifetime)
    return True


def clear_of_versions(tx: Tx, invoice_id: str) -> None:
    """Clear the exceptions that a newer version answers."""
    for reason in (
        Reason.OUTCOME_UNKNOWN,
        Reason.VERSION_CONFLICT,
        Reason.CHANGED_AFTER_PAYMENT,
        Reason.CHANGED_IN_FLIGHT,
    ):
        exceptions.clear(tx, invoice_id, reason)


def supersede(tx: Tx, invoice_id: str) -> None:
    """Close the link before; an order that a customer may still pay is closed at the provider too, and watched."""
    links.move_active(tx, invoice_id, LinkState.SUPERSEDED)
    for attempt in attempts.open_of_invoice(tx, invoice_id):
        if attempt.state == AttemptState.UNKNOWN:
            # Nobody could be asked about it; who sends a new version has decided. Its money would still be found.
            attempts.move(tx, attempt.id, AttemptState.CLOSED, error="superseded")
        else:
            ask_to_close(tx, attempt, "superseded")
    clear_of_versions(tx, invoice_id)
