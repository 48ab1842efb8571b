"""The verdict table: it holds every rule, the page says what it says, and no combination of facts falls through."""

import re
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

from contracts.evidence import TransactionKind
from contracts.statuses import Flag, InvoiceStatus, LinkState
from rules.policy import LinkPolicy
from rules.verdict_table import CASES, every_rule, page, unreached
from rules.verdicts import ACCEPTABLE, InvoiceView, Money, Reason, Standing, stand

ROOT = Path(__file__).parents[2]
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
DAY = timedelta(days=1)
ASKED = 100


def test_the_reference_page_says_what_the_rules_say() -> None:
    written = (ROOT / "docs" / "reference" / "verdicts.md").read_text(encoding="utf-8")
    assert written == page(), "run: paylinks verdicts > docs/reference/verdicts.md"


def test_every_rule_decides_in_some_row() -> None:
    """A rule that no row reaches is one that nobody has thought through, and the pipeline's test would never meet."""
    source = (ROOT / "rules" / "verdicts.py").read_text(encoding="utf-8")
    named = set(re.findall(r'"([a-z]+\.[a-z]+|reversal|chargeback)"', source))
    assert every_rule() == named


def test_what_no_evidence_reached_is_named() -> None:
    assert unreached(every_rule()) == ()
    assert unreached(every_rule() - {"link.late", "chargeback"}) == ("chargeback", "link.late")
    assert unreached(["no.such.rule"]) == tuple(sorted(every_rule()))


def test_the_names_of_the_rows_differ() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


def all_money() -> list[Money]:
    kinds = product(TransactionKind, (40, ASKED, 120), ("AMD", "USD"), LinkState, (True, False))
    return [
        Money(kind, amount, currency, NOON, "a", link, NOON + DAY, current, "old" if not current else "new")
        for kind, amount, currency, link, current in kinds
    ]


def all_views() -> list[InvoiceView]:
    cancelled = (None, NOON - DAY, NOON + DAY)
    policies = [
        *(LinkPolicy(partial=partial) for partial in ("review", "accept", "collect")),
        LinkPolicy(over="accept", late="review", old_link="review"),
    ]
    kinds = product(cancelled, policies, (None, *LinkState), (None, NOON - DAY), (frozenset(), ACCEPTABLE))
    return [
        InvoiceView(ASKED, "AMD", at, policy, link, False, None, elsewhere, accepted)
        for at, policy, link, elsewhere, accepted in kinds
    ]


def test_no_combination_falls_through() -> None:
    """One transaction of every kind in every state of link and invoice: it has a rule, and its status is earned."""
    for view, fact in product(all_views(), all_money()):
        standing = stand(view, [fact])
        rules = [verdict.rule_id for verdict in standing.verdicts]
        assert rules, (view, fact)
        came = fact.amount_minor if fact.kind is TransactionKind.CAPTURE and fact.currency == "AMD" else 0
        amounts = [rule for rule in rules if rule.startswith("amount.")]
        assert len(amounts) == (1 if came else 0), "each capture has one rule about its amount"
        if standing.status is InvoiceStatus.PAID:
            earned = came >= ASKED or (view.accept_partial and came > 0) or view.is_settled_elsewhere
            assert earned, (view, fact)
        if came and not standing.is_settled and not _waits_for_the_rest(view, standing):
            assert standing.status is InvoiceStatus.MANUAL_REVIEW, "money is never passed over in silence"
        if came and view.is_settled_elsewhere and not view.accepted:
            assert Reason.DUPLICATE in standing.reasons


def _waits_for_the_rest(view: InvoiceView, standing: Standing) -> bool:
    """A policy that collects leaves the link open, and says so by a flag."""
    return view.collects_rest and standing.status is InvoiceStatus.PENDING and Flag.PARTIAL in standing.flags
