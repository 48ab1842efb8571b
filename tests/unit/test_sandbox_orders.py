"""What may happen to one order at the sandbox's provider."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import orders
from sandbox.orders import Conflict, Order, facts


def order(status: str = "open", amount_minor: int = 1000) -> Order:
    return Order(
        id="ord_1",
        account="main",
        reference="r-1",
        amount_minor=amount_minor,
        currency="AMD",
        description="",
        return_url="https://x.test/",
        locale="en",
        expires_in_seconds=600,
        pay_token="pay_1",
        created_at=0.0,
        expires_at=600.0,
        status=status,
    )


MOVES: dict[str, Callable[[Order], Any]] = {
    "pay": lambda one: orders.pay(one, 1.0),
    "pay_later": lambda one: orders.pay_later(one, 1.0, 5.0),
    "hold": orders.hold,
    "decline": orders.decline,
    "say_paid": orders.say_paid,
    "expire": orders.expire,
    "cancel": orders.cancel,
}
ALLOWED = {
    "open": {"pay": "paid", "pay_later": "processing", "hold": "held", "decline": "declined", "say_paid": "paid"}
    | {"expire": "expired", "cancel": "cancelled"},
    "declined": {"pay": "paid", "pay_later": "processing", "hold": "held", "decline": "declined", "say_paid": "paid"}
    | {"expire": "expired", "cancel": "cancelled"},
    "processing": {"pay": "paid", "decline": "declined"},
    "held": {"pay": "paid", "expire": "expired", "cancel": "cancelled"},
    "paid": {},
    "expired": {},
    "cancelled": {},
}


@pytest.mark.parametrize("status", ALLOWED)
@pytest.mark.parametrize("move", MOVES)
def test_each_move_is_allowed_from_its_states_only(status: str, move: str) -> None:
    one = order(status)
    if move in ALLOWED[status]:
        MOVES[move](one)
        assert one.status == ALLOWED[status][move]
    else:
        with pytest.raises(Conflict) as caught:
            MOVES[move](one)
        assert caught.value.code == f"order_{status}"
        assert (one.status, one.transactions) == (status, [])


@pytest.mark.parametrize("status", ["paid", "expired", "cancelled"])
def test_force_captures_where_no_page_would(status: str) -> None:
    one = order(status)
    orders.pay(one, 1.0, force=True)
    assert (one.status, one.left()) == ("paid", 1000)


@pytest.mark.parametrize("move", MOVES)
def test_nothing_is_tried_again_in_an_order_that_was_declined_for_good(move: str) -> None:
    one = order()
    orders.decline(one, final=True)
    assert not one.is_payable
    assert not facts(one)["retryable"]
    with pytest.raises(Conflict):
        MOVES[move](one)
    orders.pay(one, 1.0, force=True)
    assert (one.status, one.left(), one.is_final) == ("paid", 1000, False)


def test_a_decline_after_the_money_leaves_the_money() -> None:
    one = order()
    orders.pay(one, 1.0)
    orders.decline(one, force=True)
    assert (one.status, one.left(), facts(one)["retryable"]) == ("declined", 1000, False)


def test_what_is_untold_counts_and_is_not_shown() -> None:
    one = order()
    orders.pay(one, 1.0, untold=True)
    orders.take_back(one, 2.0, "refund", 400)
    told = facts(one)
    assert (told["captured_minor"], told["returned_minor"], one.left()) == (0, 400, 600)
    assert [entry["kind"] for entry in told["transactions"]] == ["refund"]

    orders.tell(one)
    assert [entry["kind"] for entry in facts(one)["transactions"]] == ["capture", "refund"]


Step = tuple[str, int]


@given(
    st.lists(st.tuples(st.sampled_from(["refund", "reversal", "chargeback", "pay"]), st.integers(0, 1500)), max_size=12)
)
def test_never_more_goes_back_than_was_captured(steps: list[Step]) -> None:
    one = order()
    for number, (kind, amount) in enumerate(steps):
        try:
            if kind == "pay":
                orders.pay(one, 1.0, force=True)
            elif kind == "refund":
                orders.refund(one, 1.0, f"R-{number % 3}", amount)
            else:
                orders.take_back(one, 1.0, kind, amount)
        except Conflict:
            pass
        told = facts(one)
        assert 0 <= told["returned_minor"] <= told["captured_minor"]
        assert all(entry["amount_minor"] > 0 for entry in told["transactions"])


def test_refunds_go_back_in_the_currency_that_was_captured() -> None:
    one = order()
    orders.pay(one, 1.0, currency="USD")
    assert orders.refund(one, 2.0, "R-1", 10)["currency"] == "USD"


def test_facts_never_tell_the_page() -> None:
    assert "pay_1" not in str(facts(order()))
