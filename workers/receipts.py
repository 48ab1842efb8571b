"""Which fiscal receipts an invoice wants, where they stand together, and what a person may say about one.

Called inside the transaction of the change, with the invoice's lock held. Nothing about payment waits for a receipt.
"""

from collections.abc import Set as AbstractSet

from contracts.commands import FiscalStatusChanged
from contracts.evidence import ProviderReceipt, TransactionKind
from contracts.fiscal import MONEY_CAME, RETURN_OF, ReceiptKind
from contracts.ids import new_id
from contracts.messages import ReceiptIssue
from contracts.statuses import FiscalStatus
from db import audit, dead_letters, exceptions, intents, invoices, message_store, receipts
from db.tx import Record, Tx
from rules.fiscal import OVER, PRINT_RECEIPT, ReceiptState, fiscal_refusal, fiscal_status, original_of
from rules.verdicts import Reason
from runtime.deps import Deps
from runtime.settings import Settings


class WordRefused(Exception):
    """A person's word about a receipt cannot be taken; the text says what is in the way. Nothing was written."""


# A chargeback wants none by itself: the sale took place, and a person decides what follows.
_MONEY_WENT = frozenset({TransactionKind.REFUND, TransactionKind.REVERSAL})


def known_money(tx: Tx, settings: Settings, invoice: Record) -> frozenset[str] | None:
    """Return the ids of the money in the books before more is entered; None: no receipt of ours is in question."""
    if settings.fiscal_for(invoice.crm) is None and invoice.fiscal_status == FiscalStatus.NOT_REQUIRED:
        return None
    return frozenset(row.id for row in receipts.money(tx, invoice.id))


def want_receipts(tx: Tx, settings: Settings, invoice: Record, known: AbstractSet[str] | None) -> bool:
    """Want a receipt for each movement of money beyond those known before; tell whether the fiscal status changed.

    Money from before a device was configured gets none, and neither does a return of it.
    """
    if known is None:
        return False
    device = settings.fiscal_for(invoice.crm)
    for moved in receipts.money(tx, invoice.id, but=known):
        kind = TransactionKind(moved.kind)
        if kind is TransactionKind.CAPTURE and device is not None:
            sale = ReceiptKind.ADVANCE if invoice.kind == "prepayment" else ReceiptKind.SALE
            _want(tx, settings, invoice, moved, device=device, kind=sale)
        elif kind in _MONEY_WENT:
            _want_return(tx, settings, invoice, moved)
    return restate(tx, invoice.id)


def _want_return(tx: Tx, settings: Settings, invoice: Record, moved: Record) -> None:
    sold = original_of(moved.attempt_id, moved.amount_minor, moved.currency, receipts.slips(tx, invoice.id))
    if sold is not None:
        _want(tx, settings, invoice, moved, device=sold.device, kind=RETURN_OF[sold.kind], original=sold.id)


def _want(
    tx: Tx,
    settings: Settings,
    invoice: Record,
    moved: Record,
    *,
    device: str,
    kind: ReceiptKind,
    original: str | None = None,
) -> None:
    receipt_id = new_id()
    is_new = receipts.want(
        tx,
        receipt_id,
        device=device,
        kind=kind.value,
        invoice_id=invoice.id,
        transaction_id=moved.id,
        original_id=original,
        amount_minor=moved.amount_minor,
        currency=moved.currency,
        purpose=_item(settings, invoice, device),
    )
    if is_new:
        message_id = tx.then(ReceiptIssue(invoice=invoice.id, fiscal_receipt=receipt_id))
        receipts.belongs_to(tx, receipt_id, message_id)


def _item(settings: Settings, invoice: Record, device: str) -> str:
    """Say what was sold. Kept with the receipt: a repeat must say the same, whatever changed meanwhile."""
    known = settings.fiscal.get(device)
    text = known.item if known is not None else "{invoice_id}"
    return text.format(invoice_id=invoice.external_id, purpose=invoice.purpose)


def restate(tx: Tx, invoice_id: str) -> bool:
    """Write where the invoice's receipts stand together; tell whether that changed, so that the CRM must hear of it."""
    slips = receipts.slips(tx, invoice_id)
    status = fiscal_status(slips)
    if not slips or status == invoices.get(tx, invoice_id).fiscal_status:
        return False
    invoices.set_fiscal(tx, invoice_id, status)
    return True


def take_providers_receipt(tx: Tx, settings: Settings, invoice: Record, receipt: ProviderReceipt | None) -> bool:
    """Note how the provider's own receipt stands; tell whether that is news.

    Where a device of ours prints the receipts, or another word already stands in the way, theirs is left alone.
    """
    now = FiscalStatus(invoice.fiscal_status)
    if receipt is None or receipt.status is now or settings.fiscal_for(invoice.crm) is not None:
        return False
    if receipts.slips(tx, invoice.id) or fiscal_refusal(now, receipt.status) is not None:
        return False
    invoices.set_fiscal(tx, invoice.id, receipt.status)
    audit.write(
        tx,
        actor="provider",
        action="fiscal.changed",
        subject=invoice.id,
        reason="",
        status=receipt.status,
        before=now,
        **({"receipt_no": receipt.number} if receipt.number else {}),
    )
    return True


# --- a person's word ------------------------------------------------------------------------------------------------


def take_fiscal_word(tx: Tx, deps: Deps, invoice: Record, message: FiscalStatusChanged) -> str | None:
    """Do what a person says with the receipts that are not over; None: there are none, and only his word counts.

    WordRefused says what is in the way.
    """
    left = [row for row in receipts.of_invoice(tx, invoice.id) if row.state not in OVER]
    if not left:
        return None
    if any(row.state == ReceiptState.SENT and not message_store.is_waiting(tx, row.message_id) for row in left):
        raise WordRefused("a receipt of it is being printed at this moment: wait for its end")
    match message.status:
        case FiscalStatus.ISSUED | FiscalStatus.RETURNED:
            done = _printed_elsewhere(tx, deps, left, message)
        case FiscalStatus.PENDING:
            done = _try_again(tx, left, deps.claim.id)
        case FiscalStatus.NOT_REQUIRED:
            done = _waive(tx, left)
        case _:
            done = _give_up(tx, left)
    for row in done:
        _discard(tx, row, message)
    restate(tx, invoice.id)
    now = invoices.get(tx, invoice.id).fiscal_status
    still = len(left) - len(done) if message.status is not FiscalStatus.PENDING else 0
    return f"the receipt is {now}" + (f"; {still} more are open" if still else "")


def _printed_elsewhere(tx: Tx, deps: Deps, left: list[Record], message: FiscalStatusChanged) -> list[Record]:
    """The oldest open one was printed after all, or elsewhere.

    Whether the number that it was sent with was used, a device that can be asked tells when the next one is sent;
    of another only this word tells.
    """
    is_sale = message.status is FiscalStatus.ISSUED
    for row in left:
        if (ReceiptKind(row.kind) in MONEY_CAME) is not is_sale:
            continue
        device = deps.fiscal.get(row.device)
        if device is not None and device.capabilities.lookup:
            _free(tx, row)
            receipts.issued(tx, row.id, seq=None, number=message.receipt_no, provider_request_id=None)
            return [row]
        receipts.issued(tx, row.id, seq=row.seq, number=message.receipt_no, provider_request_id=None)
        if row.seq is not None:
            receipts.count(tx, row.device, row.seq)
            intents.resolve(tx, PRINT_RECEIPT, row.id, "done")
        return [row]
    raise WordRefused(f"no receipt of it waits that could become {message.status}")


def _try_again(tx: Tx, left: list[Record], decision: str) -> list[Record]:
    """Print what failed. Nobody saw a printed one, so a number that it was sent with is free again."""
    failed = [row for row in left if row.state == ReceiptState.FAILED]
    for row in failed:
        _free(tx, row)
        wish = ReceiptIssue(invoice=row.invoice_id, fiscal_receipt=row.id, decision=decision)
        receipts.again(tx, row.id, message_id=tx.then(wish))
    return failed


def _waive(tx: Tx, left: list[Record]) -> list[Record]:
    for row in left:
        _free(tx, row)
        receipts.waived(tx, row.id)
        receipts.belongs_to(tx, row.id, None)
    return left


def _give_up(tx: Tx, left: list[Record]) -> list[Record]:
    """Print none of it; a person sees to it elsewhere."""
    for row in left:
        _free(tx, row)
        receipts.failed(tx, row.id, "given up by a person")
        receipts.belongs_to(tx, row.id, None)
    return left


def _free(tx: Tx, row: Record) -> None:
    if row.seq is not None:
        receipts.not_printed(tx, row.id)
        intents.resolve(tx, PRINT_RECEIPT, row.id, "not_done")


def _discard(tx: Tx, row: Record, message: FiscalStatusChanged) -> None:
    """End the dead letter of a receipt that a person decided about, and the case that came with it."""
    if row.message_id is None or not message_store.discard(tx, row.message_id, message.reason or "decided by a person"):
        return
    audit.write(
        tx,
        actor=message.author(),
        action="message.discarded",
        subject=row.invoice_id,
        reason=message.reason or "decided by a person",
        message=row.message_id,
        type=ReceiptIssue.TYPE,
    )
    if dead_letters.is_last_of(tx, row.invoice_id, row.message_id):
        exceptions.clear(tx, row.invoice_id, Reason.DEAD_LETTER)
