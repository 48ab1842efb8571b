"""The verdicts as a table: every way in which money can come, and what the rules make of it.

The rows are data. What stands beside each is computed by the rules themselves, so that the page in docs/reference
cannot say anything else than the code does; a test drives each row through the whole pipeline and compares.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from contracts.evidence import OrderState, TransactionKind
from contracts.statuses import AttemptState, InvoiceStatus, LinkState
from rules.policy import LinkPolicy
from rules.verdicts import (
    REVIEW_REASONS,
    UNMATCHED,
    InvoiceView,
    Money,
    Standing,
    evidence_reasons,
    evidence_verdicts,
    stand,
)

ASKED = 10_000
CURRENCY = "AMD"
_USUAL = LinkPolicy()
_NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
_HOUR = timedelta(hours=1)

# What became of the link by the time that the money came.
By = Literal["link", "late", "old", "cancelled"]
# The CRM's own cancellation of the invoice, seen from the money.
Cancelled = Literal["no", "before", "after"]


@dataclass(frozen=True, slots=True)
class Moved:
    """One transaction, in the order in which the provider tells; `minute`: when it moved."""

    kind: TransactionKind = TransactionKind.CAPTURE
    amount_minor: int = ASKED
    currency: str = CURRENCY
    minute: int | None = None  # None: its place among the others


@dataclass(frozen=True, slots=True)
class Case:
    """One way in which money comes."""

    name: str
    moved: tuple[Moved, ...] = ()
    by: By = "link"
    cancelled: Cancelled = "no"
    elsewhere: bool = False
    policy: LinkPolicy = _USUAL
    order: OrderState = OrderState.PAID


@dataclass(frozen=True, slots=True)
class Decided:
    """What the rules say about a case."""

    rules: frozenset[str]
    status: str
    flags: tuple[str, ...]
    tasks: frozenset[str]
    standing: Standing = field(repr=False, compare=False)


_PAID = Moved()
_PAID_FIRST = Moved(minute=0)
_PART = Moved(amount_minor=ASKED * 4 // 10)
_REST = Moved(amount_minor=ASKED - _PART.amount_minor)
_BACK = Moved(TransactionKind.REFUND)
_PART_BACK = Moved(TransactionKind.REFUND, ASKED // 10)
_OTHER = Moved(currency="USD")

CASES: tuple[Case, ...] = (
    Case("the exact amount", (_PAID,)),
    Case("a part", (_PART,)),
    Case("a part, and the policy accepts it", (_PART,), policy=LinkPolicy(partial="accept")),
    Case("a part, and the policy waits for the rest", (_PART,), policy=LinkPolicy(partial="collect")),
    Case("a part, then the rest", (_PART, _REST)),
    Case("more than asked", (Moved(amount_minor=ASKED + 500),)),
    Case(
        "more than asked, and the policy accepts it",
        (Moved(amount_minor=ASKED + 500),),
        policy=LinkPolicy(over="accept"),
    ),
    Case("another currency", (_OTHER,)),
    Case("the exact amount after the link expired", (_PAID,), by="late"),
    Case(
        "the exact amount after the link expired, and a person is to look",
        (_PAID,),
        by="late",
        policy=LinkPolicy(late="review"),
    ),
    Case("a part after the link expired", (_PART,), by="late"),
    Case(
        "a part after the link expired, whose rest was waited for",
        (_PART,),
        by="late",
        policy=LinkPolicy(partial="collect"),
    ),
    Case("the exact amount by a link that was replaced", (_PAID,), by="old"),
    Case(
        "the exact amount by a link that was replaced, and a person is to look",
        (_PAID,),
        by="old",
        policy=LinkPolicy(old_link="review"),
    ),
    Case("a part by a link that was replaced", (_PART,), by="old"),
    Case("the exact amount by a cancelled link", (_PAID,), by="cancelled"),
    Case("a second payment of a paid invoice", (_PAID, _PAID)),
    Case("a payment after the refund of the first", (_PAID, _BACK, _PAID)),
    Case("a full refund", (_PAID, _BACK)),
    Case("a refund of a part", (_PAID, _PART_BACK)),
    Case("a refund that is told before its payment", (Moved(TransactionKind.REFUND, minute=5), _PAID_FIRST)),
    Case("a refund of what was too much", (_PAID, _PAID, _BACK)),
    Case("a reversal", (_PAID, Moved(TransactionKind.REVERSAL))),
    Case("a chargeback", (_PAID, Moved(TransactionKind.CHARGEBACK))),
    Case("another currency, given back", (_OTHER, Moved(TransactionKind.REFUND, currency="USD"))),
    Case("money for an invoice that its CRM had cancelled", (_PAID,), cancelled="before"),
    Case("a paid invoice that its CRM cancels", (_PAID,), cancelled="after"),
    Case("a part of an invoice that its CRM cancels", (_PART,), cancelled="after"),
    Case("money for an invoice that was settled elsewhere", (_PAID,), elsewhere=True),
    Case("a part for an invoice that was settled elsewhere", (_PART,), elsewhere=True),
    Case("settled elsewhere, and the money given back", (_PAID, _BACK), elsewhere=True),
    Case("money that is held, not captured", order=OrderState.HELD),
    Case("a decline", order=OrderState.DECLINED),
    Case("a decline after a payment", (_PAID,), order=OrderState.DECLINED),
    Case("the word paid without any money", order=OrderState.PAID),
)


def decide(case: Case) -> Decided:
    """Ask the rules about a case."""
    view = InvoiceView(
        amount_minor=ASKED,
        currency=CURRENCY,
        cancelled_at={"no": None, "before": _NOON - _HOUR, "after": _NOON + 24 * _HOUR}[case.cancelled],
        policy=case.policy,
        link=_link_now(case),
        any_open_attempt=case.order in (OrderState.HELD, OrderState.PAID) and not case.moved,
        last_attempt=AttemptState.FAILED if case.order is OrderState.DECLINED and not case.moved else None,
        settled_elsewhere_at=_NOON - _HOUR if case.elsewhere else None,
    )
    standing = stand(view, _money(case))
    tasks = standing.reasons | evidence_reasons(case.order)
    needs_review = not standing.is_settled and bool(tasks & REVIEW_REASONS)
    return Decided(
        frozenset(one.rule_id for one in (*standing.verdicts, *evidence_verdicts(case.order, standing))),
        InvoiceStatus.MANUAL_REVIEW if needs_review else standing.status,
        standing.flags,
        tasks,
        standing,
    )


def every_rule() -> frozenset[str]:
    """Return the id of every rule that decides in some row, and of that about money of nobody."""
    return frozenset({UNMATCHED.rule_id}).union(*(decide(case).rules for case in CASES))


def unreached(seen: Iterable[str]) -> tuple[str, ...]:
    """Return the ids of the rules that did not decide, given those that did."""
    return tuple(sorted(every_rule() - set(seen)))


def _link_now(case: Case) -> LinkState:
    if case.cancelled == "before" or case.by == "cancelled":
        return LinkState.CANCELLED
    if case.elsewhere or case.cancelled == "after":
        return LinkState.SETTLED
    return LinkState.EXPIRED if case.by == "late" else LinkState.ACTIVE


def _money(case: Case) -> Iterator[Money]:
    was = {"old": LinkState.SUPERSEDED, "cancelled": LinkState.CANCELLED, "late": LinkState.EXPIRED}
    for place, moved in enumerate(case.moved):
        yield Money(
            kind=moved.kind,
            amount_minor=moved.amount_minor,
            currency=moved.currency,
            occurred_at=_NOON + timedelta(minutes=place if moved.minute is None else moved.minute),
            attempt_id="attempt",
            link_was=was.get(case.by, _link_now(case)),
            link_expires_at=_NOON + (-_HOUR if case.by == "late" else 24 * _HOUR),
            link_current=case.by != "old",
            link_id="link",
        )


_INTRODUCTION = """\
# Verdicts

What the rules make of money, printed from the code: `paylinks verdicts > docs/reference/verdicts.md`. A row is one
way in which money comes; a test drives each through the whole pipeline. Several rules may decide in one row: each
transaction and each link has its own. Where an invoice stands is computed again from all its money, so the order
and the repetition of what a provider tells change nothing.
"""


def page() -> str:
    """Write the reference page."""
    lines = [
        *_INTRODUCTION.splitlines(),
        "",
        "| what happened | rules | status | flags | task |",
        "| --- | --- | --- | --- | --- |",
    ]
    for case in CASES:
        decided = decide(case)
        cells = (_words(decided.rules), f"`{decided.status}`", _words(decided.flags), _words(decided.tasks))
        lines.append(f"| {case.name} | {' | '.join(cells)} |")
    lines.append(f"| money of an order that is no invoice's | `{UNMATCHED.rule_id}` | - | - | in the inbox |")
    return "\n".join([*lines, ""])


def _words(words: frozenset[str] | tuple[str, ...]) -> str:
    return ", ".join(f"`{word}`" for word in sorted(words)) or "-"
