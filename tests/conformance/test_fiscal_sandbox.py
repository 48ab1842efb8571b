"""The adapter of the sandbox's fiscal device against the simulated device, a process of its own. SIMULATED."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from contracts.fiscal import RETURN_OF, ReceiptKind
from contracts.ids import new_id
from gateways.errors import GatewayError, LoginRefused, Refused, Unavailable, Unknown
from gateways.fiscal.base import OUT_OF_STEP, PrintedReceipt, ReceiptRequest, Repeat
from gateways.fiscal.sandbox import SandboxFiscalDevice
from sandbox.control import ControlError, FiscalControl
from sandbox.launch import FiscalProcess

KEY = "key-of-the-till"
EFFECT_IS_UNKNOWN = ["timeout_before", "timeout_after", "error_500_before", "error_500_after", "truncated"]
_names = itertools.count(1)


@pytest.fixture(scope="module")
def service() -> Iterator[FiscalProcess]:
    with FiscalProcess() as process:
        yield process


class Till(SandboxFiscalDevice):
    """An adapter that knows who plays the people at its device."""

    control: FiscalControl


Open = Callable[..., Till]


@pytest.fixture
def till(service: FiscalProcess) -> Iterator[Open]:
    """Opens a device of its own with some settings, and returns its adapter."""
    adapters: list[Till] = []

    def open_one(*, lookup: bool = True, **settings: Any) -> Till:
        name = f"till-{next(_names)}"
        service.control.configure(name, api_key=KEY, **settings)
        repeat = settings.get("repeat", "refused")
        adapters.append(Till(name, service.device_url(name), KEY, lookup=lookup, repeat=repeat, settle="PT0S"))
        adapters[-1].control = service.control
        return adapters[-1]

    yield open_one
    for adapter in adapters:
        adapter.close()


def sale(seq: int, **changes: Any) -> ReceiptRequest:
    request = ReceiptRequest(
        receipt=new_id(),
        seq=seq,
        kind=ReceiptKind.SALE,
        amount_minor=1_500_000,
        currency="AMD",
        purpose="Պայմանագիր 17",
    )
    return replace(request, **changes)


def back(seq: int, of: PrintedReceipt, **changes: Any) -> ReceiptRequest:
    return sale(seq, **{"kind": ReceiptKind.RETURN, "original_number": of.number, **changes})


# --- printing -------------------------------------------------------------------------------------------------------


def test_a_sale_is_printed_under_its_number_and_found_again(till: Open) -> None:
    device = till()
    wanted = sale(1)

    printed = device.print_sale(wanted)

    assert (printed.seq, printed.receipt, printed.number != "") == (1, wanted.receipt, True)
    assert printed.provider_request_id is not None
    found = device.find(1)
    assert found is not None
    assert (found.seq, found.number, found.receipt) == (printed.seq, printed.number, printed.receipt)
    assert device.last_seq() == 1


def test_a_new_device_has_printed_nothing(till: Open) -> None:
    device = till()
    assert (device.last_seq(), device.find(1)) == (0, None)


def test_a_counter_goes_on_from_where_it_stood(till: Open) -> None:
    device = till(last_seq=65)
    with pytest.raises(Refused):
        device.print_sale(sale(1))
    assert device.print_sale(sale(66)).seq == 66


def test_an_advance_is_a_kind_of_its_own(till: Open) -> None:
    device = till()
    advance = device.print_sale(sale(1, kind=ReceiptKind.ADVANCE))
    with pytest.raises(Refused) as refused:
        device.print_return(back(2, advance))
    assert refused.value.code == "original_not_found"
    device.print_return(back(2, advance, kind=ReceiptKind.ADVANCE_RETURN))
    assert [one["kind"] for one in device.control.receipts(device.name)] == ["advance", "advance_return"]


def test_returns_name_what_they_return_and_never_exceed_it(till: Open) -> None:
    device = till()
    sold = device.print_sale(sale(1))
    device.print_return(back(2, sold, amount_minor=1_000_000))
    with pytest.raises(Refused) as refused:
        device.print_return(back(3, sold, amount_minor=500_001))
    assert refused.value.code == "returned_too_much"
    assert device.print_return(back(3, sold, amount_minor=500_000)).seq == 3


@pytest.mark.parametrize("kind", list(RETURN_OF))
def test_a_sale_is_no_return_and_a_return_no_sale(till: Open, kind: ReceiptKind) -> None:
    device = till()
    with pytest.raises(Refused):
        device.print_return(sale(1, kind=kind))
    with pytest.raises(Refused):
        device.print_sale(sale(1, kind=RETURN_OF[kind], original_number="1"))
    assert device.control.stats(device.name)["calls"] == {}, "neither was sent"


# --- the counter ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seq", [1, 4])
def test_a_gap_and_a_number_of_another_receipt_are_refused_as_out_of_step(till: Open, seq: int) -> None:
    device = till()
    device.print_sale(sale(1))
    device.print_sale(sale(2))
    with pytest.raises(Refused) as refused:
        device.print_sale(sale(seq))
    assert refused.value.code == OUT_OF_STEP
    assert device.last_seq() == 2


def test_the_same_again_gives_the_first_where_the_device_is_set_so(till: Open) -> None:
    device = till(repeat="gives_first")
    wanted = sale(1)
    first = device.print_sale(wanted)
    assert device.print_sale(wanted).number == first.number
    assert device.capabilities.repeat is Repeat.GIVES_FIRST
    assert len(device.control.receipts(device.name)) == 1
    with pytest.raises(Refused) as refused:
        device.print_sale(replace(wanted, amount_minor=1))
    assert refused.value.code == OUT_OF_STEP


def test_the_same_again_is_refused_elsewhere_as_a_used_number(till: Open) -> None:
    device = till()
    wanted = sale(1)
    device.print_sale(wanted)
    with pytest.raises(Refused) as refused:
        device.print_sale(wanted)
    assert refused.value.code == OUT_OF_STEP
    assert device.control.stats(device.name)["refused"] == {"already_printed": 1}


def test_a_refusal_uses_no_number_up(till: Open) -> None:
    device = till(refuse="out_of_paper")
    with pytest.raises(Refused) as refused:
        device.print_sale(sale(1))
    assert refused.value.code == "out_of_paper"
    device.control.configure(device.name, refuse="")
    assert device.print_sale(sale(1)).seq == 1


def test_a_receipt_that_somebody_printed_at_the_device_is_seen_and_is_not_ours(till: Open) -> None:
    device = till()
    device.control.print_by_hand(device.name)
    found = device.find(1)
    assert (device.last_seq(), found is not None and found.receipt) == (1, None)


# --- what goes wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", EFFECT_IS_UNKNOWN)
def test_a_lost_answer_is_unknown_and_never_repeated_by_itself(till: Open, fault: str) -> None:
    device = till()
    device.control.fault(fault, account=device.name, operation="print", seconds=0.1)
    wanted = sale(1)
    with pytest.raises(Unknown):
        device.print_sale(wanted)
    assert device.control.stats(device.name)["calls"]["print"] == 1
    found = device.find(1)
    happened = fault not in {"timeout_before", "error_500_before"}
    assert (found.receipt if found is not None else None) == (wanted.receipt if happened else None)


def test_an_overloaded_device_printed_nothing(till: Open) -> None:
    device = till()
    device.control.fault("rate_limited_429", account=device.name, operation="print", seconds=7)
    with pytest.raises(Unavailable) as unavailable:
        device.print_sale(sale(1))
    assert unavailable.value.retry_after_seconds == 7
    assert device.last_seq() == 0


@pytest.mark.parametrize("operation", ["find", "counter"])
def test_questions_are_asked_again_by_themselves(till: Open, operation: str) -> None:
    device = till()
    device.print_sale(sale(1))
    device.control.fault("error_500_before", account=device.name, operation=operation, times=2)
    found = device.find(1)
    assert (device.last_seq(), found is not None) == (1, True)


def test_a_device_without_look_ups_refuses_questions_before_any_call(till: Open) -> None:
    device = till(lookup=False)
    for ask in (device.last_seq, lambda: device.find(1)):
        with pytest.raises(Refused):
            ask()
    assert device.control.stats(device.name)["calls"] == {}


def test_nobody_there_is_unavailable() -> None:
    device = SandboxFiscalDevice("till", "http://127.0.0.1:1/till", KEY)
    with pytest.raises(Unavailable):
        device.print_sale(sale(1))
    device.close()


def test_a_wrong_key_is_refused(service: FiscalProcess, till: Open) -> None:
    device = SandboxFiscalDevice("other", service.device_url(till().name), "wrong")
    with pytest.raises(LoginRefused, match="HTTP 401 unauthorized"):
        device.print_sale(sale(1))
    device.close()


def test_errors_name_operation_and_device_and_nothing_of_the_receipt(till: Open) -> None:
    device = till()
    errors: list[GatewayError] = []
    for fault in (*EFFECT_IS_UNKNOWN, "rate_limited_429"):
        device.control.fault(fault, account=device.name, operation="print", seconds=0.1)
        with pytest.raises(GatewayError) as raised:
            device.print_sale(sale(device.last_seq() + 1, purpose="Ani Sargsyan"))
        errors.append(raised.value)
    assert all(device.name in error.detail and "print_sale" in error.detail for error in errors)
    assert not any(secret in repr(vars(error)) for error in errors for secret in ("Ani", KEY, "1500000"))


# --- the simulator's own --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [{"seq": "1"}, {"amount_minor": 0}, {"purpose": ""}, {"receipt": None}, {"currency": 51}],
)
def test_the_simulator_reads_strictly(till: Open, changes: dict[str, Any]) -> None:
    device = till()
    with pytest.raises(Refused) as refused:
        device.print_sale(replace(sale(1), **changes))
    assert refused.value.code == "invalid_request"


def test_the_simulator_names_a_setting_that_it_does_not_know(service: FiscalProcess) -> None:
    with pytest.raises(ControlError, match="colour: no such setting"):
        service.control.configure("till-x", api_key=KEY, colour="red")


def test_the_first_device_comes_from_the_command_line() -> None:
    with FiscalProcess(arguments=("--device", "desk", "--last-seq", "200", "--repeat", "gives_first")) as process:
        device = SandboxFiscalDevice("desk", process.device_url("desk"), process.password, repeat="gives_first")
        wanted = sale(201)
        assert device.print_sale(wanted).number == device.print_sale(wanted).number
        assert device.last_seq() == 201
        device.close()


def test_settle_may_be_written_as_in_a_settings_file() -> None:
    device = SandboxFiscalDevice("till", "http://127.0.0.1:1/till", KEY, settle="PT7S")
    assert device.capabilities.settle == timedelta(seconds=7)
    device.close()
    with pytest.raises(ValueError, match="settle"):
        SandboxFiscalDevice("till", "http://127.0.0.1:1/till", KEY, settle="soon")
