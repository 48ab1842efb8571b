"""Have a fiscal receipt printed, once, under the device's next number.

Takes     receipt.issue, written where money was entered into the books (`workers.receipts`).
Gives     the receipt's number; crm.update with the fiscal status; a push to the next receipt of the device.
Twice?    Safe: one worker at a time talks to a device (a lease), the number is written down before the call, and who
          finds one without an answer asks the device for it; nothing else is sent before that is known.
Waits     For its turn: receipts of a device are printed in the order in which they were wanted.
Gives up  After 300 tries over about a day: the receipt failed, dead letter, and the manager is told. What the device
          refuses, and an answer that was lost and cannot be asked for, is his at once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from contracts.fiscal import MONEY_CAME, ReceiptKind
from contracts.messages import ReceiptIssue
from db import audit, intents, invoices, message_store, receipts
from db.intents import Earlier
from db.tx import Record, Tx
from gateways.errors import GatewayError, Refused, Unavailable, Unknown
from gateways.fiscal.base import OUT_OF_STEP, FiscalDevice, PrintedReceipt, ReceiptRequest, Repeat
from rules.fiscal import OVER, PRINT_RECEIPT, ReceiptState
from rules.verdicts import Reason
from runtime import points
from runtime.deps import Deps
from workers.receipts import restate
from workers.stage import ALREADY_DONE, DONE, NOT_YET, SUPERSEDED, Outcome, Schedule, stage
from workers.standing import announce

LIMIT = timedelta(seconds=20)
SCHEDULE = Schedule.growing(300, first=2, longest=300)
# Longer than a run may take, so that two workers never talk to a device; a dead one's lease ends by itself.
LEASE_SECONDS = 30.0
# No request of ours is still on its way after this.
CALL_SECONDS = 20.0
# How long a receipt waits for its turn: half a second at first, then every minute, for about a day.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, PAUSES = 0.5, 60.0, 1450
# So many numbers that were used past us are looked up in one run.
CATCH_UP = 20
# A counter that the settings tell is a mistake when it is farther ahead than this.
MOST_TOLD = 1000


@stage(ReceiptIssue, schedule=SCHEDULE, time_limit=LIMIT, max_waits=PAUSES + 1000, waits_end_in=Reason.DEAD_LETTER)
def issue_receipt(message: ReceiptIssue, deps: Deps) -> Outcome:
    """Print one receipt when it is its turn."""
    with deps.read() as tx:
        receipt = receipts.find(tx, message.fiscal_receipt)
    if receipt is None or receipt.message_id != deps.claim.id:
        return SUPERSEDED
    if receipt.state in OVER:
        return ALREADY_DONE
    with _failures_written_down(deps, receipt):
        device = _device(deps, receipt)
        receipt = _renewed(deps, receipt)
        return _take_turn(message, deps, device, receipt)


def _take_turn(message: ReceiptIssue, deps: Deps, device: FiscalDevice, receipt: Record) -> Outcome:
    """Talk to the device alone, if this receipt is the one whose turn it is."""
    holder = f"{deps.claim.id}:{deps.claim.claim_no}"
    with deps.begin() as tx:
        head = receipts.head(tx, device.name)
        is_turn = head is not None and head.id == receipt.id
        line = receipts.take(tx, device.name, holder, seconds=LEASE_SECONDS) if is_turn else None
    if not is_turn:
        return _await_turn(deps, head.id if head is not None else receipt.original_id)
    if line is None:
        return _later(deps, "another worker talks to the device now")
    try:
        if line.last_seq is None:
            _meet(deps, device)
        if receipt.seq is not None:
            return _look(message, deps, device, receipt)
        _follow_settings(deps, device)
        return _print(message, deps, device, receipt)
    finally:
        with deps.begin() as tx:
            receipts.release(tx, device.name, holder)


def _await_turn(deps: Deps, first: str) -> Outcome:
    if deps.claim.waits >= PAUSES:
        raise Refused("its turn did not come for a day: receipts that come first wait for a person", code="no_turn")
    return _later(deps, f"the receipt {first} comes first")


def _later(deps: Deps, why: str) -> Outcome:
    pause = min(FIRST_PAUSE_SECONDS * 1.2 ** min(deps.claim.waits, 50), LONGEST_PAUSE_SECONDS)
    return NOT_YET(pause, why)


@contextmanager
def _failures_written_down(deps: Deps, receipt: Record) -> Iterator[None]:
    """Let the receipt's state say what its message's will: a refusal, or the last try, fails it."""
    try:
        yield
    except GatewayError as error:
        if isinstance(error, Refused) or SCHEDULE.pause_after(deps.claim.failures + 1) is None:
            with deps.begin() as tx:
                fresh = _locked(tx, receipt)
                if fresh.state not in OVER:
                    receipts.failed(tx, receipt.id, error.detail)
                    _tell(tx, receipt.invoice_id)
                    _push_next(tx, receipt.device)
        raise


def _tell(tx: Tx, invoice_id: str) -> None:
    if restate(tx, invoice_id):
        announce(tx, invoice_id)


def _push_next(tx: Tx, device: str) -> None:
    """Have the receipt whose turn it is now worked on at once."""
    following = receipts.head(tx, device)
    if following is not None and following.message_id is not None:
        message_store.hasten(tx, following.message_id)


def _locked(tx: Tx, receipt: Record) -> Record:
    """Lock the invoice, then the receipt."""
    invoices.lock(tx, receipt.invoice_id)
    return receipts.lock(tx, receipt.id)


def _device(deps: Deps, receipt: Record) -> FiscalDevice:
    device = deps.fiscal.get(receipt.device)
    if device is None:
        raise Refused(f"the fiscal device {receipt.device} is not configured here any more", code="no_device")
    _check(device, receipt)
    return device


def _check(device: FiscalDevice, receipt: Record) -> None:
    """Refuse before any call what the device declares that it cannot do."""
    able, kind = device.capabilities, ReceiptKind(receipt.kind)
    if able.currencies and receipt.currency not in able.currencies:
        raise Refused(f"{device.name} prints no receipts in {receipt.currency}", code="currency")
    if not able.returns and kind not in MONEY_CAME:
        raise Refused(f"{device.name} prints no returns: do it there", code="no_returns")
    if not able.advances and kind in (ReceiptKind.ADVANCE, ReceiptKind.ADVANCE_RETURN):
        raise Refused(f"{device.name} prints no receipts of advances: do it there", code="no_advances")


def _renewed(deps: Deps, receipt: Record) -> Record:
    """Let a failed one, whose dead letter somebody retried, be wanted again."""
    if receipt.state != ReceiptState.FAILED:
        return receipt
    with deps.begin() as tx:
        _locked(tx, receipt)
        receipts.again(tx, receipt.id)
        _tell(tx, receipt.invoice_id)
        return receipts.lock(tx, receipt.id)


def _meet(deps: Deps, device: FiscalDevice) -> None:
    """Begin to count where the device's counter stands."""
    known = deps.settings.fiscal.get(device.name)
    last = device.last_seq() if device.capabilities.lookup else (known.last_seq if known is not None else 0)
    with deps.begin() as tx:
        receipts.begin_counting(tx, device.name, last)


def _follow_settings(deps: Deps, device: FiscalDevice) -> None:
    """Explain the numbers that were used past us at a device that cannot be asked: a person read its counter."""
    known = deps.settings.fiscal.get(device.name)
    if known is None or device.capabilities.lookup:
        return
    with deps.begin() as tx:
        ours = receipts.last_seq(tx, device.name) or 0
        if known.last_seq > ours + MOST_TOLD:
            raise Refused(f"the settings say {known.last_seq} of {device.name}, we counted {ours}", code="not_believed")
        for seq in range(ours + 1, known.last_seq + 1):
            receipts.foreign(tx, device.name, seq, None)
            receipts.count(tx, device.name, seq)


# --- printing -------------------------------------------------------------------------------------------------------


def _print(message: ReceiptIssue, deps: Deps, device: FiscalDevice, receipt: Record) -> Outcome:
    with deps.begin() as tx:
        original = _original_number(tx, receipt)
        fresh, holder = _locked(tx, receipt), f"{deps.claim.id}:{deps.claim.claim_no}"
        if fresh.state != ReceiptState.WANTED:
            return NOT_YET(0.0, "somebody decided about it in this moment")
        if receipts.take(tx, device.name, holder, seconds=LEASE_SECONDS) is None:
            return _later(deps, "another worker talks to the device now")
        seq = (receipts.last_seq(tx, device.name) or 0) + 1
        receipts.sent(tx, receipt.id, seq)
        intents.declare(tx, PRINT_RECEIPT, receipt.id, deps.claim, call_seconds=CALL_SECONDS)
    points.reach(f"{deps.claim.queue}.{points.INTENT}")
    return _call(message, deps, device, _request(receipt, seq, original))


def _original_number(tx: Tx, receipt: Record) -> str | None:
    """Return the number that a return names. It waits for the sale's receipt, also one that a person sees to."""
    if receipt.original_id is None:
        return None
    original = receipts.find(tx, receipt.original_id)
    if original is None or original.state != ReceiptState.ISSUED:
        raise Unavailable("the receipt that it returns is not issued yet", code="no_original")
    if original.number is None:
        raise Refused("the receipt that it returns was issued elsewhere, and nobody told its number", code="no_number")
    return str(original.number)


def _request(receipt: Record, seq: int, original_number: str | None) -> ReceiptRequest:
    return ReceiptRequest(
        receipt=receipt.id,
        seq=seq,
        kind=ReceiptKind(receipt.kind),
        amount_minor=receipt.amount_minor,
        currency=receipt.currency,
        purpose=receipt.purpose,
        original_number=original_number,
    )


def _call(message: ReceiptIssue, deps: Deps, device: FiscalDevice, request: ReceiptRequest) -> Outcome:
    """Call the device for the first time; the number and the intent are committed."""
    try:
        printed = _ask_to_print(device, request)
    except Unavailable:
        _free(deps, message, by=(deps.claim.id, deps.claim.claim_no))
        raise
    except Unknown:
        with deps.begin() as tx:
            intents.ended_unheard(tx, PRINT_RECEIPT, request.receipt, (deps.claim.id, deps.claim.claim_no))
        raise
    except Refused as error:
        _free(deps, message, by=(deps.claim.id, deps.claim.claim_no))
        if error.code == OUT_OF_STEP and device.capabilities.lookup:
            return _catch_up(deps, device)
        raise
    points.reach(f"{deps.claim.queue}.{points.CALLED}")
    return _printed(message, deps, device, printed)


def _ask_to_print(device: FiscalDevice, request: ReceiptRequest) -> PrintedReceipt:
    return device.print_sale(request) if request.kind in MONEY_CAME else device.print_return(request)


def _free(deps: Deps, message: ReceiptIssue, *, by: tuple[str, int]) -> None:
    """Take the number back: nothing was printed under it."""
    with deps.begin() as tx:
        invoices.lock(tx, message.invoice)
        if receipts.lock(tx, message.fiscal_receipt).state == ReceiptState.SENT:
            receipts.not_printed(tx, message.fiscal_receipt)
            intents.resolve(tx, PRINT_RECEIPT, message.fiscal_receipt, "not_done", by=by)


def _printed(message: ReceiptIssue, deps: Deps, device: FiscalDevice, printed: PrintedReceipt) -> Outcome:
    with deps.concluding(message, provider_request_id=printed.provider_request_id) as tx:
        _write(tx, device.name, message.fiscal_receipt, printed)
        receipts.release(tx, device.name, f"{deps.claim.id}:{deps.claim.claim_no}")
        _push_next(tx, device.name)
    return DONE


def _write(tx: Tx, device: str, receipt_id: str, printed: PrintedReceipt) -> None:
    """Enter a printed receipt of ours: its number, the counter, the invoice's fiscal status."""
    known = receipts.find(tx, receipt_id)
    if known is None or known.invoice_id is None:
        raise LookupError(f"no receipt {receipt_id}")
    invoices.lock(tx, known.invoice_id)
    receipts.count(tx, device, printed.seq)
    receipts.issued(
        tx,
        receipt_id,
        seq=printed.seq,
        number=printed.number,
        provider_request_id=printed.provider_request_id,
    )
    intents.resolve(tx, PRINT_RECEIPT, receipt_id, "done")
    audit.write(
        tx,
        actor="paylinks",
        action="receipt.issued",
        subject=known.invoice_id,
        receipt=receipt_id,
        kind=known.kind,
        device=device,
        seq=printed.seq,
        number=printed.number,
    )
    _tell(tx, known.invoice_id)


# --- a lost answer --------------------------------------------------------------------------------------------------


def _look(message: ReceiptIssue, deps: Deps, device: FiscalDevice, receipt: Record) -> Outcome:
    """Somebody may have called and died, or had no answer: ask what the number became."""
    with deps.begin() as tx:
        original = _original_number(tx, receipt)
        if _locked(tx, receipt).state != ReceiptState.SENT:
            return NOT_YET(0.0, "somebody decided about it in this moment")
        earlier = intents.declare(tx, PRINT_RECEIPT, receipt.id, deps.claim, call_seconds=CALL_SECONDS)
    if not device.capabilities.lookup:
        return _repeat(message, deps, device, _request(receipt, receipt.seq, original))
    found = device.find(receipt.seq)
    if found is not None and found.receipt == receipt.id:
        return _printed(message, deps, device, found)
    if found is None and earlier is not None and (left := _left(device, earlier)) > 0:
        return NOT_YET(max(left, 0.5), "a lost request may still be printed")
    by = earlier.by if earlier is not None else (deps.claim.id, deps.claim.claim_no)
    _free(deps, message, by=by)
    return NOT_YET(0.0, "the lost request never was printed: do it now")


def _repeat(message: ReceiptIssue, deps: Deps, device: FiscalDevice, request: ReceiptRequest) -> Outcome:
    """Send the same again, where that gives the first receipt; whatever else comes of it says nothing of the first."""
    if device.capabilities.repeat is not Repeat.GIVES_FIRST:
        raise Refused(
            "the answer was lost, and this device answers no questions: look there, then say issued with its number, "
            "or pending to have it printed again",
            code="undecidable",
        )
    return _printed(message, deps, device, _ask_to_print(device, request))


def _left(device: FiscalDevice, earlier: Earlier) -> float:
    return (earlier.deadline - earlier.now + device.capabilities.settle).total_seconds()


# --- a counter that others move too ---------------------------------------------------------------------------------


def _catch_up(deps: Deps, device: FiscalDevice) -> Outcome:
    """Explain the numbers that were used past us, some of them perhaps by a late request of ours, and go on."""
    theirs = device.last_seq()
    with deps.begin() as tx:
        ours = receipts.last_seq(tx, device.name) or 0
    if theirs <= ours:
        raise Refused(
            f"{device.name} counts from {theirs}, and we from {ours}: was it reset? Give a new one a new name",
            code=OUT_OF_STEP,
        )
    for seq in range(ours + 1, min(theirs, ours + CATCH_UP) + 1):
        _explain(deps, device, seq, device.find(seq))
    return NOT_YET(0.0, "numbers of the device were used past us: go on behind them")


def _explain(deps: Deps, device: FiscalDevice, seq: int, found: PrintedReceipt | None) -> None:
    with deps.begin() as tx:
        mine = receipts.find(tx, found.receipt) if found is not None and found.receipt is not None else None
        if found is not None and mine is not None and mine.invoice_id is not None and mine.state not in OVER:
            _write(tx, device.name, mine.id, found)
        else:
            receipts.foreign(tx, device.name, seq, found.number if found is not None else None)
            receipts.count(tx, device.name, seq)
