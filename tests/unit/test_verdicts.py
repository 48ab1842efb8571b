"""What money means for an invoice: every walk through the facts, in any order, ends where it must."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.evidence import Evidence, OrderState, ProviderTransaction, TransactionKind
from contracts.statuses import AttemptState, Flag, InvoiceStatus, LinkState
from rules.links import ATTEMPT_MOVES, LINK_MOVES, may_leave
from rules.policy import LinkPolicy
from rules.verdicts import ACCEPTABLE, InvoiceView, Money, Reason, Standing, attempt_after, mismatch, stand

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
EXPIRY = NOON + timedelta(days=7)
ASKED = 100_000


def view(**changes: object) -> InvoiceView:
    values: dict[str, object] = {
        "amount_minor": ASKED,
        "currency": "AMD",
        "cancelled_at": None,
        "policy": LinkPolicy(),
        "link": LinkState.ACTIVE,
        "any_open_attempt": False,
        "last_attempt": None,
    }
    return InvoiceView(**{**values, **changes})  # type: ignore[arg-type]


def money(
    amount: int = ASKED,
    kind: TransactionKind = TransactionKind.CAPTURE,
    *,
    currency: str = "AMD",
    minutes: int = 0,
    link: LinkState = LinkState.ACTIVE,
    current: bool = True,
) -> Money:
    return Money(kind, amount, currency, NOON + timedelta(minutes=minutes), "attempt", link, EXPIRY, current)


def rules_of(standing: Standing) -> set[str]:
    return {verdict.rule_id for verdict in standing.verdicts}


SETTLED = {"link": LinkState.SETTLED}
WEEK_AND_A_BIT = 7 * 24 * 60 + 5


@pytest.mark.parametrize(
    ("facts", "changes", "status", "flags", "rule", "reasons"),
    [
        ([], {}, "pending", (), None, set()),
        ([], {"last_attempt": AttemptState.FAILED}, "failed", (), None, set()),
        ([], {"last_attempt": AttemptState.FAILED, "any_open_attempt": True}, "pending", (), None, set()),
        ([], {"link": LinkState.EXPIRED}, "expired", (), None, set()),
        ([], {"cancelled_at": NOON - timedelta(hours=1), "link": LinkState.CANCELLED}, "cancelled", (), None, set()),
        ([money()], {}, "paid", (), "amount.exact", set()),
        ([money(40_000)], {}, "manual_review", ("partial",), "amount.partial", {Reason.PARTIAL}),
        ([money(40_000)], {"policy": LinkPolicy(partial="accept")}, "paid", ("partial",), "amount.partial", set()),
        ([money(40_000), money(60_000, minutes=1)], {}, "paid", (), "amount.completed", set()),
        ([money(120_000)], {}, "paid", ("overpaid",), "amount.over", {Reason.OVERPAID}),
        ([money(), money(minutes=1)], {}, "paid", ("duplicate",), "amount.second", {Reason.DUPLICATE}),
        ([money(currency="USD")], {}, "manual_review", (), "currency.other", {Reason.WRONG_CURRENCY}),
        ([money(minutes=WEEK_AND_A_BIT)], {"link": LinkState.EXPIRED}, "paid", ("late",), "link.late", set()),
        ([money(link=LinkState.EXPIRED)], {"link": LinkState.EXPIRED}, "paid", (), "amount.exact", set()),
        (
            [money(current=False, link=LinkState.SUPERSEDED)],
            {},
            "paid",
            ("old_link",),
            "link.old",
            set(),
        ),
        (
            [money(link=LinkState.CANCELLED)],
            {"cancelled_at": NOON - timedelta(hours=1), "link": LinkState.CANCELLED},
            "manual_review",
            ("old_link",),
            "invoice.cancelled",
            {Reason.PAID_AFTER_CANCEL},
        ),
        ([money(), money(kind=TransactionKind.REFUND, minutes=1)], SETTLED, "refunded", (), "refund.full", set()),
        (
            [money(), money(10_000, TransactionKind.REFUND, minutes=1)],
            {},
            "paid",
            ("partially_refunded",),
            "refund.partial",
            set(),
        ),
        ([money(), money(kind=TransactionKind.REVERSAL, minutes=1)], SETTLED, "refunded", (), "reversal", set()),
        ([money()], {"cancelled_at": NOON + timedelta(hours=1)}, "paid", (), None, {Reason.CANCELLED_AFTER_PAYMENT}),
        ([money(), money(kind=TransactionKind.REFUND, minutes=1)], {}, "refunded", (), "refund.full", set()),
        (
            [money(current=False), money(kind=TransactionKind.REFUND, minutes=1, current=False)],
            {},
            "pending",
            ("old_link",),
            "refund.full",
            set(),
        ),
        ([money(60_000), money(60_000, TransactionKind.REFUND, minutes=1)], {}, "pending", (), None, set()),
        (
            [money(60_000), money(10_000, TransactionKind.REFUND, minutes=1)],
            {},
            "manual_review",
            ("partial", "partially_refunded"),
            None,
            {Reason.PARTIAL},
        ),
        (
            [money(), money(kind=TransactionKind.REFUND, minutes=1), money(minutes=2)],
            SETTLED,
            "manual_review",
            ("partially_refunded",),
            None,
            {Reason.PAID_AFTER_REFUND},
        ),
        (
            [money(), money(kind=TransactionKind.CHARGEBACK, minutes=1)],
            SETTLED,
            "refunded",
            ("chargeback",),
            "chargeback",
            {Reason.CHARGEBACK},
        ),
    ],
)
def test_what_the_money_means(
    facts: list[Money],
    changes: dict[str, object],
    status: str,
    flags: tuple[str, ...],
    rule: str | None,
    reasons: set[Reason],
) -> None:
    standing = stand(view(**changes), facts)

    assert standing.status == status
    assert standing.flags == tuple(Flag(flag) for flag in flags)
    assert standing.reasons == reasons
    assert rule is None or rule in rules_of(standing)


captures = st.builds(
    money,
    st.integers(1, 250_000),
    st.sampled_from(TransactionKind),
    currency=st.sampled_from(["AMD", "USD"]),
    minutes=st.integers(0, 20_000),
    link=st.sampled_from(LinkState),
    current=st.booleans(),
)
views = st.builds(
    view,
    cancelled_at=st.sampled_from([None, NOON, NOON + timedelta(days=3)]),
    policy=st.builds(
        LinkPolicy,
        partial=st.sampled_from(["review", "accept", "collect"]),
        over=st.sampled_from(["review", "accept"]),
        late=st.sampled_from(["review", "accept"]),
        old_link=st.sampled_from(["review", "accept"]),
    ),
    accepted=st.frozensets(st.sampled_from(sorted(ACCEPTABLE)), max_size=2),
    link=st.sampled_from([None, *LinkState]),
    any_open_attempt=st.booleans(),
    last_attempt=st.sampled_from([None, *AttemptState]),
)


@settings(max_examples=300, deadline=None)
@given(views, st.lists(captures, max_size=6), st.randoms(use_true_random=False))
def test_the_order_in_which_facts_arrive_changes_nothing(
    invoice: InvoiceView, facts: list[Money], random: object
) -> None:
    shuffled = sorted(facts, key=lambda _: random.random())  # type: ignore[attr-defined]

    one, other = stand(invoice, facts), stand(invoice, shuffled)

    assert (one.status, one.flags, one.paid_minor, one.refunded_minor, one.reasons) == (
        other.status,
        other.flags,
        other.paid_minor,
        other.refunded_minor,
        other.reasons,
    )


@settings(max_examples=300, deadline=None)
@given(views, st.lists(captures, max_size=6))
def test_nothing_is_paid_without_the_whole_amount(invoice: InvoiceView, facts: list[Money]) -> None:
    standing = stand(invoice, facts)

    if standing.status is InvoiceStatus.PAID:
        assert standing.paid_minor >= invoice.amount_minor or invoice.accept_partial
        assert standing.paid_minor > standing.refunded_minor
        assert standing.paid_at is not None


@settings(max_examples=300, deadline=None)
@given(views, st.lists(captures, min_size=1, max_size=6))
def test_every_capture_gets_a_verdict_and_odd_money_never_hides(invoice: InvoiceView, facts: list[Money]) -> None:
    standing = stand(invoice, facts)
    took = [fact for fact in facts if fact.kind is TransactionKind.CAPTURE and fact.currency == invoice.currency]

    if took:
        assert any(rule.startswith("amount.") for rule in rules_of(standing))
    if standing.paid_minor - standing.refunded_minor > invoice.amount_minor:
        assert {Flag.OVERPAID, Flag.DUPLICATE} & set(standing.flags)
    other = [fact for fact in facts if fact.currency != invoice.currency]
    if other and all(fact.kind is TransactionKind.CAPTURE for fact in other):
        assert Reason.WRONG_CURRENCY in standing.reasons


@settings(max_examples=200, deadline=None)
@given(st.lists(captures, max_size=5), st.sampled_from(AttemptState))
def test_a_late_decline_never_undoes_a_payment(facts: list[Money], last: AttemptState) -> None:
    before = stand(view(link=LinkState.SETTLED), facts)
    after = stand(view(link=LinkState.SETTLED, last_attempt=last), facts)

    if before.status in (InvoiceStatus.PAID, InvoiceStatus.REFUNDED):
        assert after.status is before.status


# --- evidence and attempts ------------------------------------------------------------------------------------------


def evidence(state: OrderState, *amounts: int, retryable: bool = False, order: str = "A1") -> Evidence:
    moved = tuple(
        ProviderTransaction(
            provider_transaction_id=str(number),
            kind=TransactionKind.CAPTURE,
            amount_minor=amount,
            currency="AMD",
            occurred_at=NOON,
        )
        for number, amount in enumerate(amounts)
    )
    return Evidence(
        reference="ref", provider_order_id=order, state=state, retryable=retryable, transactions=moved, asked_at=NOON
    )


@pytest.mark.parametrize(
    ("given_evidence", "state"),
    [
        (evidence(OrderState.OPEN), AttemptState.OPEN),
        (evidence(OrderState.PROCESSING), AttemptState.PROCESSING),
        (evidence(OrderState.HELD), AttemptState.PROCESSING),  # a hold is no payment
        (evidence(OrderState.PAID), AttemptState.PROCESSING),  # a word without money is no payment
        (evidence(OrderState.PAID, ASKED), AttemptState.PAID),
        (evidence(OrderState.DECLINED), AttemptState.FAILED),
        (evidence(OrderState.DECLINED, retryable=True), AttemptState.OPEN),
        (evidence(OrderState.DECLINED, ASKED), AttemptState.PAID),  # money outranks every word
        (evidence(OrderState.EXPIRED), AttemptState.EXPIRED),
        (evidence(OrderState.CANCELLED), AttemptState.CLOSED),
    ],
)
def test_what_evidence_makes_of_an_attempt(given_evidence: Evidence, state: AttemptState) -> None:
    assert attempt_after(given_evidence) is state


def test_order_ids_compare_without_regard_to_case() -> None:
    assert mismatch(evidence(OrderState.OPEN, order="ABC-1"), "ref", "abc-1") is None
    assert mismatch(evidence(OrderState.OPEN, order="ABC-2"), "ref", "abc-1") == "provider_order_id"
    assert mismatch(evidence(OrderState.OPEN), "other", None) == "reference"


@pytest.mark.parametrize("ended", [AttemptState.FAILED, AttemptState.EXPIRED, AttemptState.CLOSED])
def test_money_may_follow_every_other_end(ended: AttemptState) -> None:
    assert ended.value in may_leave(ATTEMPT_MOVES, AttemptState.PAID)


def test_nothing_leaves_a_paid_attempt_or_a_settled_link() -> None:
    assert not ATTEMPT_MOVES[AttemptState.PAID]
    assert not LINK_MOVES[LinkState.SETTLED]
    assert all(AttemptState.PAID.value not in may_leave(ATTEMPT_MOVES, state) for state in AttemptState)
