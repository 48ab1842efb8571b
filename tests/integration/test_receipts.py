"""Fiscal receipts from the money to the CRM, by a simulated device that is strict about its counter; both databases."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from cli.first_aid import Deed, do
from contracts.commands import FiscalStatusChanged, PaymentRefund, PaymentVerify
from contracts.evidence import OrderState, ProviderTransaction, TransactionKind
from contracts.ids import new_id
from contracts.statuses import FiscalStatus, InvoiceStatus
from db import message_store
from gateways.fiscal.sandbox import SandboxFiscalDevice
from runtime.deps import Deps
from runtime.settings import FiscalSettings
from sandbox.control import FiscalControl
from sandbox.launch import FiscalProcess
from tests.office_desk import CRM, breaches, deeds, give, open_order, pay
from tests.shop import NOW, accept, office, open_shop, reasons, shop, the_invoice, work

KEY = "key-of-the-till"
ALL = ("checkout", "webhook-verification", "commands", "refunds", "fiscal", "crm-update", "manager-tasks", "outbound")
PRINTS_AND_LOSES = ["timeout_after", "error_500_after", "truncated"]
LOSES = ["timeout_before", "error_500_before", *PRINTS_AND_LOSES]


@pytest.fixture(scope="module")
def service() -> Iterator[FiscalProcess]:
    with FiscalProcess() as process:
        yield process


class Till:
    """A device of a test's own."""

    def __init__(self, control: FiscalControl, name: str, base_url: str) -> None:
        self.control = control
        self.name = name
        self.base_url = base_url
        self._adapters: list[SandboxFiscalDevice] = []

    def settings(self, **more: Any) -> FiscalSettings:
        return FiscalSettings(adapter="sandbox", base_url=self.base_url, api_key=KEY, **more)

    def adapter(self, **options: Any) -> SandboxFiscalDevice:
        self._adapters.append(SandboxFiscalDevice("till", self.base_url, KEY, **{"settle": "PT0S", **options}))
        return self._adapters[-1]

    def nobody(self) -> SandboxFiscalDevice:
        """The same device behind an address where nobody is."""
        self._adapters.append(SandboxFiscalDevice("till", "http://127.0.0.1:1/till", KEY))
        return self._adapters[-1]

    def close(self) -> None:
        for adapter in self._adapters:
            adapter.close()

    def configure(self, **settings: Any) -> None:
        self.control.configure(self.name, **settings)

    def fault(self, fault: str, operation: str = "print", **rule: Any) -> None:
        self.control.fault(fault, account=self.name, operation=operation, **{"seconds": 0.05, **rule})

    def printed(self) -> list[tuple[int, str, int]]:
        return [(one["seq"], one["kind"], one["amount_minor"]) for one in self.control.receipts(self.name)]

    def calls(self, operation: str = "print") -> int:
        return int(self.control.stats(self.name)["calls"].get(operation, 0))


@pytest.fixture
def till(service: FiscalProcess) -> Iterator[Till]:
    name = f"till-{new_id()}"
    service.control.configure(name, api_key=KEY, last_seq=65)
    made = Till(service.control, name, service.device_url(name))
    yield made
    made.close()


@pytest.fixture
def deps(clean_url: str, till: Till) -> Iterator[Deps]:
    given = {"crms": {"office": CRM}, "fiscal": {"till": till.settings()}, "fiscal_device": "till"}
    with open_shop(clean_url, **given) as made:
        accept(made)
        whole = replace(made, fiscal={"till": till.adapter()})
        yield whole
        work(whole, rounds=6)
        assert breaches(made) == []


def with_device(deps: Deps, till: Till, **options: Any) -> Deps:
    return replace(deps, fiscal={"till": till.adapter(**options)})


def kept(deps: Deps) -> list[Any]:
    with deps.database.read() as tx:
        return list(tx.execute(text("SELECT * FROM fiscal_receipts ORDER BY id")).all())


def states(deps: Deps) -> list[tuple[str, str, int | None]]:
    return [(row.kind, row.state, row.seq) for row in kept(deps)]


def paid(deps: Deps) -> None:
    """Let the customer pay; no receipt is worked on yet."""
    attempt = open_order(deps)
    shop(deps).orders[attempt.reference] = OrderState.PAID
    shop(deps).money[attempt.reference] = (capture(f"t-{attempt.reference}"),)
    check(deps)


def capture(name: str, amount: int = 10_000, kind: TransactionKind = TransactionKind.CAPTURE) -> ProviderTransaction:
    return ProviderTransaction(
        provider_transaction_id=name, kind=kind, amount_minor=amount, currency="AMD", occurred_at=NOW
    )


def check(deps: Deps) -> None:
    """Have the provider asked."""
    give(deps, PaymentVerify)
    work(deps, "webhook-verification", rounds=2)


def print_all(deps: Deps, rounds: int = 6) -> None:
    work(deps, "fiscal", rounds=rounds)


def over(deps: Deps) -> None:
    """A request that was lost cannot be on its way any more, nor may its worker's lease hold others up."""
    with deps.database.begin() as tx:
        tx.execute(text("UPDATE intents SET deadline = created_at WHERE operation = 'print_receipt'"))
        tx.execute(text("UPDATE fiscal_devices SET holder = NULL"))


# --- the good way ---------------------------------------------------------------------------------------------------


def test_money_that_came_gets_a_receipt_and_the_crm_sees_it(deps: Deps, till: Till) -> None:
    paid(deps)
    assert the_invoice(deps).status == InvoiceStatus.PAID, "no payment waits for a receipt"
    assert the_invoice(deps).fiscal_status == FiscalStatus.PENDING
    work(deps, "crm-update", rounds=2)
    assert (office(deps).record.status, office(deps).record.fiscal_status) == ("paid", "pending")

    work(deps, *ALL)

    assert till.printed() == [(66, "sale", 10_000)], "the counter goes on from where the device stood"
    assert office(deps).record.fiscal_status == FiscalStatus.ISSUED
    (receipt,) = kept(deps)
    assert (receipt.state, receipt.number) == ("issued", till.control.receipts(till.name)[0]["number"])
    assert [json_of(row)["seq"] for row in deeds(deps) if row.action == "receipt.issued"] == [66]


def json_of(row: Any) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(row.detail)
    return told


def test_money_and_receipt_are_one_revision_for_the_crm(deps: Deps) -> None:
    before = the_invoice(deps).revision
    paid(deps)
    assert the_invoice(deps).revision == before + 1


def test_the_same_evidence_again_wants_nothing_more(deps: Deps, till: Till) -> None:
    paid(deps)
    check(deps)
    print_all(deps)
    check(deps)
    print_all(deps)
    assert till.printed() == [(66, "sale", 10_000)]


def test_a_prepayment_gets_the_receipt_of_an_advance(deps: Deps, till: Till) -> None:
    with deps.database.begin() as tx:
        tx.execute(text("UPDATE invoices SET kind = 'prepayment'"))
    paid(deps)
    print_all(deps)
    give(deps, PaymentRefund)
    work(deps)
    assert [kind for _, kind, _ in till.printed()] == ["advance", "advance_return"]


def test_a_receipt_says_the_invoices_number_and_not_its_purpose(deps: Deps, till: Till) -> None:
    """A purpose is free text of the CRM, and may name the customer."""
    with deps.database.begin() as tx:
        tx.execute(text("UPDATE invoices SET purpose = 'for Ani Sargsyan'"))
    paid(deps)
    print_all(deps)
    (told,) = till.control.receipts(till.name)
    assert told["purpose"] == "I-1"
    assert "Ani" not in str(told)


def test_a_merchant_may_say_what_he_sells(deps: Deps, till: Till) -> None:
    known = {"till": till.settings(item="Consulting, {purpose} ({invoice_id})")}
    paid(replace(deps, settings=deps.settings.model_copy(update={"fiscal": known})))
    print_all(deps)
    assert till.control.receipts(till.name)[0]["purpose"] == "Consulting, p (I-1)"


def test_without_a_device_nothing_is_wanted_and_the_crms_word_counts(deps: Deps, till: Till) -> None:
    bare = replace(deps, settings=deps.settings.model_copy(update={"fiscal_device": None}))
    pay(bare, open_order(bare))
    assert (kept(bare), the_invoice(bare).fiscal_status) == ([], FiscalStatus.NOT_REQUIRED)
    assert give(bare, FiscalStatusChanged, actor="1c", status="issued", receipt_no="7").outcome == "done"

    give(deps, PaymentRefund)
    work(deps)

    assert kept(deps) == [], "money from before the device was there gets none, nor does its return"
    assert the_invoice(deps).fiscal_status == FiscalStatus.ISSUED


def test_a_crm_may_have_a_device_of_its_own_or_none(deps: Deps) -> None:
    settings = deps.settings
    for said, device in ((None, "till"), ("", None), ("desk", "desk")):
        crms = {"office": CRM.model_copy(update={"fiscal": said})}
        assert settings.model_copy(update={"crms": crms}).fiscal_for("office") == device
    assert settings.fiscal_for("unknown") == "till"


# --- what goes back -------------------------------------------------------------------------------------------------


def test_a_part_that_goes_back_has_a_receipt_and_the_sales_stays_issued(deps: Deps, till: Till) -> None:
    paid(deps)
    print_all(deps)
    give(deps, PaymentRefund, amount_minor=4_000, currency="AMD")
    work(deps)

    assert till.printed() == [(66, "sale", 10_000), (67, "return", 4_000)]
    sold, back = till.control.receipts(till.name)
    assert back["original_number"] == sold["number"]
    assert office(deps).record.fiscal_status == FiscalStatus.ISSUED

    give(deps, PaymentRefund, amount_minor=6_000, currency="AMD")
    work(deps)
    assert till.printed()[2:] == [(68, "return", 6_000)]
    assert office(deps).record.fiscal_status == FiscalStatus.RETURNED


def test_a_return_is_printed_after_its_sale_however_fast_the_money_went_back(deps: Deps, till: Till) -> None:
    paid(deps)
    give(deps, PaymentRefund)
    work(deps, "refunds", "webhook-verification", rounds=3)
    assert [(kind, state) for kind, state, _ in states(deps)] == [("sale", "wanted"), ("return", "wanted")]
    work(deps)
    assert till.printed() == [(66, "sale", 10_000), (67, "return", 10_000)]
    assert the_invoice(deps).fiscal_status == FiscalStatus.RETURNED


def test_a_reversal_wants_a_return_and_a_chargeback_does_not(deps: Deps, till: Till) -> None:
    paid(deps)
    print_all(deps)
    (reference,) = shop(deps).money
    shop(deps).money[reference] += (capture("c-1", 1_000, TransactionKind.CHARGEBACK),)
    check(deps)
    shop(deps).money[reference] += (capture("v-1", 9_000, TransactionKind.REVERSAL),)
    check(deps)
    work(deps)
    assert till.printed() == [(66, "sale", 10_000), (67, "return", 9_000)]


def test_where_a_refunds_answer_is_all_we_hear_the_return_is_wanted_too(deps: Deps, till: Till) -> None:
    paid(deps)
    print_all(deps)
    shop(deps).capabilities = replace(shop(deps).capabilities, lookup=False)
    give(deps, PaymentRefund)
    work(deps)
    assert till.printed()[1:] == [(67, "return", 10_000)]
    assert the_invoice(deps).fiscal_status == FiscalStatus.RETURNED


def test_a_second_payment_has_a_receipt_of_its_own(deps: Deps, till: Till) -> None:
    paid(deps)
    print_all(deps)
    (reference,) = shop(deps).money
    shop(deps).money[reference] += (capture("t-second", 2_500),)
    check(deps)
    assert the_invoice(deps).fiscal_status == FiscalStatus.PENDING
    work(deps)
    assert till.printed() == [(66, "sale", 10_000), (67, "sale", 2_500)]
    assert the_invoice(deps).fiscal_status == FiscalStatus.ISSUED


# --- a lost answer --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", LOSES)
def test_a_lost_answer_gives_one_receipt(deps: Deps, till: Till, fault: str) -> None:
    paid(deps)
    till.fault(fault)
    work(deps, "fiscal", rounds=1, hurry=False)
    assert states(deps) == [("sale", "sent", 66)]
    over(deps)
    print_all(deps)

    assert till.printed() == [(66, "sale", 10_000)]
    assert till.calls() == (1 if fault in PRINTS_AND_LOSES else 2)
    assert states(deps) == [("sale", "issued", 66)]
    assert kept(deps)[0].number == till.control.receipts(till.name)[0]["number"]


def test_while_a_request_may_be_on_its_way_nothing_is_concluded_and_nothing_else_sent(deps: Deps, till: Till) -> None:
    paid(deps)
    till.fault("timeout_before")
    work(deps, "fiscal", rounds=1, hurry=False)
    with deps.database.begin() as tx:  # its worker died in the call, so nobody wrote down that it is over
        tx.execute(text("UPDATE intents SET deadline = '2099-01-01 00:00:00.000000'"))
    second_sale(deps)
    print_all(deps)

    assert till.printed() == []
    assert states(deps) == [("sale", "sent", 66), ("sale", "wanted", None)]
    over(deps)
    print_all(deps)
    assert till.printed() == [(66, "sale", 10_000), (67, "sale", 2_500)]


def second_sale(deps: Deps, amount: int = 2_500) -> None:
    (reference,) = shop(deps).money
    shop(deps).money[reference] += (capture(f"t-{len(shop(deps).money[reference])}", amount),)
    check(deps)


def test_a_device_that_gives_the_first_again_is_sent_the_same(deps: Deps, till: Till) -> None:
    till.configure(repeat="gives_first")
    mute = with_device(deps, till, lookup=False, repeat="gives_first")
    known = {"till": till.settings(last_seq=65)}
    mute = replace(mute, settings=deps.settings.model_copy(update={"fiscal": known}))
    paid(mute)
    till.fault("timeout_after")
    print_all(mute)
    assert till.printed() == [(66, "sale", 10_000)]
    assert (till.calls(), till.calls("find"), till.calls("counter")) == (2, 0, 0)
    assert states(deps) == [("sale", "issued", 66)]


@pytest.mark.parametrize("was_printed", [True, False])
def test_where_nobody_can_be_asked_a_person_decides_and_nothing_else_is_sent(
    deps: Deps, till: Till, was_printed: bool
) -> None:
    known = {"till": till.settings(last_seq=65)}
    mute = with_device(deps, till, lookup=False)
    mute = replace(mute, settings=deps.settings.model_copy(update={"fiscal": known}))
    paid(mute)
    till.fault("timeout_after" if was_printed else "timeout_before")
    print_all(mute)
    second_sale(mute)
    print_all(mute)

    assert till.calls() == 1, "never sent again blindly, and nothing after it"
    assert states(mute) == [("sale", "failed", 66), ("sale", "wanted", None)]
    assert the_invoice(mute).fiscal_status == FiscalStatus.FAILED
    assert reasons(mute) == {"dead_letter", "overpaid"}
    word = {"status": "issued", "receipt_no": "00000066"} if was_printed else {"status": "pending"}
    assert give(mute, FiscalStatusChanged, reason="looked at the till", **word).outcome == "done"
    work(mute, rounds=8)

    assert till.printed() == [(66, "sale", 10_000), (67, "sale", 2_500)]
    assert (the_invoice(mute).fiscal_status, reasons(mute)) == (FiscalStatus.ISSUED, {"overpaid"})


# --- the counter ----------------------------------------------------------------------------------------------------


def test_two_workers_at_once_give_an_unbroken_sequence(deps: Deps, till: Till) -> None:
    till.configure(latency_ms=20)
    paid(deps)
    for _ in range(9):
        second_sale(deps, 100)
    workers = [threading.Thread(target=print_all, args=(deps,), kwargs={"rounds": 12}) for _ in range(3)]
    for one in workers:
        one.start()
    for one in workers:
        one.join()
    print_all(deps, rounds=12)

    assert [seq for seq, _, _ in till.printed()] == list(range(66, 76))
    assert till.control.stats(till.name)["refused"] == {}, "no number was tried twice"
    assert [row.seq for row in kept(deps)] == list(range(66, 76)), "in the order in which they were wanted"


def test_while_a_worker_talks_to_the_device_another_waits(deps: Deps, till: Till) -> None:
    paid(deps)
    with deps.database.begin() as tx:
        tx.execute(text("INSERT INTO fiscal_devices (name, holder, holder_until) VALUES ('till', 'x', :at)"), LATER)
    print_all(deps)
    assert (till.calls(), states(deps)) == (0, [("sale", "wanted", None)])
    with deps.database.begin() as tx:
        tx.execute(text("UPDATE fiscal_devices SET holder_until = '2020-01-01 00:00:00.000000'"))
    print_all(deps)
    assert till.printed() == [(66, "sale", 10_000)], "the lease of a dead one ends by itself"


LATER = {"at": "2099-01-01 00:00:00.000000"}


def test_numbers_that_somebody_used_at_the_device_are_explained_and_ours_go_on_behind_them(
    deps: Deps, till: Till
) -> None:
    paid(deps)
    print_all(deps)
    for _ in range(2):
        till.control.print_by_hand(till.name)
    second_sale(deps)
    print_all(deps)

    assert [seq for seq, _, _ in till.printed()] == [66, 67, 68, 69]
    assert [row.kind for row in sorted(kept(deps), key=lambda row: row.seq)] == ["sale", "foreign", "foreign", "sale"]
    assert the_invoice(deps).fiscal_status == FiscalStatus.ISSUED


def test_a_request_that_arrives_very_late_is_found_to_be_ours(deps: Deps, till: Till) -> None:
    """Given a call that was believed lost, when it is printed after all, then its repeat is refused and we adopt it."""
    paid(deps)
    till.fault("timeout_before")
    work(deps, "fiscal", rounds=1, hurry=False)
    over(deps)
    work(deps, "fiscal", rounds=1)  # asked: never printed; the number is free again
    (receipt,) = kept(deps)
    late = {"seq": 66, "receipt": receipt.id, "kind": "sale", "amount_minor": 10_000, "currency": "AMD"}
    post(till, {**late, "purpose": "I-1"})
    print_all(deps)

    assert till.printed() == [(66, "sale", 10_000)]
    assert states(deps) == [("sale", "issued", 66)]


def post(till: Till, body: dict[str, Any]) -> None:
    sent = httpx.post(f"{till.base_url}/v1/receipts", json=body, headers={"authorization": f"Bearer {KEY}"})
    assert sent.is_success, sent.text


def test_the_settings_tell_the_counter_of_a_device_that_cannot_be_asked(deps: Deps, till: Till) -> None:
    def told(last_seq: int) -> Deps:
        known = {"till": till.settings(last_seq=last_seq)}
        mute = with_device(deps, till, lookup=False)
        return replace(mute, settings=deps.settings.model_copy(update={"fiscal": known}))

    paid(deps)
    print_all(told(65))
    for _ in range(2):
        till.control.print_by_hand(till.name)
    second_sale(deps)
    print_all(told(65))
    assert states(deps)[1] == ("sale", "failed", None)
    assert "seq_out_of_step" in kept(deps)[1].error

    retry(deps)
    print_all(told(5_000))
    assert "the settings say 5000" in kept(deps)[1].error
    retry(deps)
    print_all(told(68))
    assert [seq for seq, _, _ in till.printed()] == [66, 67, 68, 69]
    assert the_invoice(deps).fiscal_status == FiscalStatus.ISSUED


def test_a_device_that_counts_from_the_beginning_again_is_a_persons_case(deps: Deps, till: Till) -> None:
    paid(deps)
    with deps.database.begin() as tx:
        tx.execute(text("INSERT INTO fiscal_devices (name, base_seq, last_seq) VALUES ('till', 500, 500)"))
    print_all(deps)
    assert (till.printed(), states(deps)) == ([], [("sale", "failed", None)])
    assert reasons(deps) == {"dead_letter"}
    assert "was it reset" in kept(deps)[0].error


# --- a device that does not print -----------------------------------------------------------------------------------


def test_a_refusal_fails_the_receipt_and_a_retry_of_the_dead_letter_prints_it(deps: Deps, till: Till) -> None:
    till.configure(refuse="out_of_paper")
    paid(deps)
    work(deps, *ALL)
    assert states(deps) == [("sale", "failed", None)]
    assert (office(deps).record.fiscal_status, office(deps).record.status) == ("failed", "paid")
    assert reasons(deps) == {"dead_letter"}
    assert "out_of_paper" in kept(deps)[0].error

    till.configure(refuse="")
    retry(deps)
    work(deps, *ALL)
    assert till.printed() == [(66, "sale", 10_000)]
    assert (office(deps).record.fiscal_status, reasons(deps)) == ("issued", set())


def retry(deps: Deps) -> None:
    with deps.database.read() as tx:
        (dead,) = message_store.dead(tx)
    assert do(deps, dead.id, Deed.RETRIED, actor="ani", reason="new paper")


@pytest.mark.parametrize(
    ("word", "status", "printed"),
    [
        ({"status": "issued", "receipt_no": "A-17"}, "issued", 0),
        ({"status": "not_required"}, "not_required", 0),
        ({"status": "failed"}, "failed", 0),
        ({"status": "pending"}, "issued", 1),
    ],
    ids=lambda value: value["status"] if isinstance(value, dict) else "",
)
def test_a_persons_word_ends_a_failed_receipt_and_its_dead_letter(
    deps: Deps, till: Till, word: dict[str, str], status: str, printed: int
) -> None:
    till.configure(refuse="out_of_paper")
    paid(deps)
    work(deps, *ALL)
    till.configure(refuse="")
    assert give(deps, FiscalStatusChanged, reason="seen", **word).outcome == "done"
    work(deps, *ALL)

    assert (the_invoice(deps).fiscal_status, len(till.printed())) == (status, printed)
    assert (reasons(deps), dead(deps)) == (set(), [])
    assert office(deps).record.fiscal_status == status


def dead(deps: Deps) -> list[Any]:
    with deps.database.read() as tx:
        return list(message_store.dead(tx))


def test_a_word_before_its_turn_came_is_taken_and_nothing_is_printed(deps: Deps, till: Till) -> None:
    paid(deps)
    assert give(deps, FiscalStatusChanged, actor="1c", status="issued", receipt_no="A-17").outcome == "done"
    print_all(deps)
    assert (till.calls(), the_invoice(deps).fiscal_status) == (0, FiscalStatus.ISSUED)
    assert kept(deps)[0].number == "A-17"


def test_a_word_that_fits_no_open_receipt_is_refused(deps: Deps) -> None:
    paid(deps)
    answer = give(deps, FiscalStatusChanged, actor="1c", status="returned")
    assert (answer.outcome, "no receipt of it waits" in answer.detail) == ("refused", True)


def test_a_word_is_not_taken_while_the_device_prints_and_is_while_we_only_wait(deps: Deps, till: Till) -> None:
    paid(deps)
    till.fault("timeout_before")
    work(deps, "fiscal", rounds=1, hurry=False)
    word = {"actor": "1c", "status": "issued", "receipt_no": "A-17"}
    set_state(deps, "running")
    refused = give(deps, FiscalStatusChanged, **word)
    assert (refused.outcome, "at this moment" in refused.detail) == ("refused", True)

    set_state(deps, "ready")
    assert give(deps, FiscalStatusChanged, **word).outcome == "done"
    print_all(deps)
    assert (till.printed(), the_invoice(deps).fiscal_status) == ([], FiscalStatus.ISSUED)
    assert states(deps) == [("sale", "issued", None)], "the device was asked nothing, so its number is no fact"
    second_sale(deps)
    print_all(deps)
    assert till.printed() == [(66, "sale", 2_500)]


def test_a_word_about_a_receipt_that_was_printed_after_all_leaves_its_number_explained(deps: Deps, till: Till) -> None:
    paid(deps)
    till.fault("timeout_after")
    work(deps, "fiscal", rounds=1, hurry=False)
    give(deps, FiscalStatusChanged, actor="1c", status="issued", receipt_no="A-17")
    second_sale(deps)
    print_all(deps)
    assert till.printed() == [(66, "sale", 10_000), (67, "sale", 2_500)]
    assert [(row.kind, row.seq) for row in kept(deps)] == [("sale", None), ("sale", 67), ("foreign", 66)]


def set_state(deps: Deps, state: str) -> None:
    with deps.database.begin() as tx:
        lease = "'2099-01-01 00:00:00.000000'" if state == "running" else "NULL"
        change = f"UPDATE messages SET state = '{state}', lease_expires_at = {lease} WHERE queue = 'fiscal'"
        tx.execute(text(change))


def test_a_return_that_a_person_made_elsewhere_is_his_word(deps: Deps, till: Till) -> None:
    paid(deps)
    print_all(deps)
    till.configure(refuse="out_of_paper")
    give(deps, PaymentRefund)
    work(deps)
    assert states(deps)[1] == ("return", "failed", None)
    assert the_invoice(deps).fiscal_status == FiscalStatus.ISSUED, "the sale's receipt is issued all the same"
    assert reasons(deps) == {"dead_letter"}

    assert give(deps, FiscalStatusChanged, status="returned", receipt_no="R-3").outcome == "done"
    assert (the_invoice(deps).fiscal_status, reasons(deps), dead(deps)) == (FiscalStatus.RETURNED, set(), [])


def test_a_receipt_whose_turn_does_not_come_for_a_day_is_a_persons_case(deps: Deps, till: Till) -> None:
    paid(deps)
    second_sale(deps)
    with deps.database.begin() as tx:
        tx.execute(text("UPDATE messages SET waits = 1450 WHERE queue = 'fiscal'"))
        tx.execute(text("UPDATE fiscal_receipts SET state = 'failed', seq = 66 WHERE amount_minor = 10000"))
        tx.execute(text("UPDATE messages SET state = 'dead' WHERE id = :id"), first(deps))
    work(deps, "fiscal", rounds=1, hurry=False)
    assert states(deps) == [("sale", "failed", 66), ("sale", "failed", None)]
    assert "its turn did not come" in kept(deps)[1].error
    assert give(deps, FiscalStatusChanged, status="pending").outcome == "done"


def first(deps: Deps) -> dict[str, str]:
    return {"id": kept(deps)[0].message_id}


def test_a_return_whose_sale_failed_waits_for_it_and_holds_nobody_up(deps: Deps, till: Till) -> None:
    till.configure(refuse="out_of_paper")
    paid(deps)
    print_all(deps)
    give(deps, PaymentRefund, amount_minor=4_000, currency="AMD")
    work(deps)
    till.configure(refuse="")
    second_sale(deps)
    work(deps)
    assert till.printed() == [(66, "sale", 2_500)]

    retry(deps)
    work(deps)
    assert till.printed()[1:] == [(67, "sale", 10_000), (68, "return", 4_000)]


def test_a_device_that_is_down_for_long_holds_no_payment_up_and_prints_later_in_order(deps: Deps, till: Till) -> None:
    away = replace(deps, fiscal={"till": till.nobody()})
    paid(away)
    for amount in (2_500, 1_500):
        second_sale(away, amount)
        work(away, "fiscal", rounds=2)
    assert (the_invoice(away).paid_minor, the_invoice(away).fiscal_status) == (14_000, FiscalStatus.PENDING)
    assert reasons(away) == {"overpaid"}, "of the payment; the receipts have time"

    print_all(deps)
    assert till.printed() == [(66, "sale", 10_000), (67, "sale", 2_500), (68, "sale", 1_500)]
    assert the_invoice(deps).fiscal_status == FiscalStatus.ISSUED


def test_after_the_last_try_the_receipt_failed_and_a_person_is_told(deps: Deps, till: Till) -> None:
    away = replace(deps, fiscal={"till": till.nobody()})
    paid(away)
    with deps.database.begin() as tx:
        tx.execute(text("UPDATE messages SET failures = 299 WHERE queue = 'fiscal'"))
    work(away)
    assert states(away) == [("sale", "failed", None)]
    assert (the_invoice(away).fiscal_status, reasons(away)) == (FiscalStatus.FAILED, {"dead_letter"})

    retry(deps)
    work(deps)
    assert (till.printed(), the_invoice(deps).fiscal_status) == ([(66, "sale", 10_000)], FiscalStatus.ISSUED)


def test_a_device_that_is_not_configured_any_more_fails_what_waits_for_it(deps: Deps) -> None:
    paid(deps)
    gone = replace(deps, fiscal={})
    work(gone)
    assert (states(gone), reasons(gone)) == ([("sale", "failed", None)], {"dead_letter"})


def test_what_a_device_cannot_do_is_refused_before_any_call(deps: Deps, till: Till) -> None:
    device = till.adapter()
    device.capabilities = replace(device.capabilities, currencies=frozenset({"USD"}))
    paid(deps)
    print_all(replace(deps, fiscal={"till": device}))
    assert (till.calls(), states(deps)) == (0, [("sale", "failed", None)])
    assert "prints no receipts in AMD" in kept(deps)[0].error
