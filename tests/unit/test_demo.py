"""The demo's cases, and the report of what it reached."""

from cli import demo_examples, demo_pages, demo_rows
from cli.reached import Reached
from rules.pages import PageState
from rules.verdict_table import CASES, decide
from web.texts import PAGES

EVERY = frozenset({"a", "b", "c"})


def test_every_row_of_the_verdict_table_has_an_invoice_that_must_end_as_the_rules_say() -> None:
    cases = demo_rows.cases()
    assert [case.what for case in cases] == [row.name for row in CASES]
    for case, row in zip(cases, CASES, strict=True):
        decided = decide(row)
        ending = case.ending
        wanted = (decided.status, decided.flags, decided.rules, decided.tasks)
        assert (ending.status, ending.flags, ending.rules, ending.tasks) == wanted


def test_no_two_cases_are_about_one_invoice() -> None:
    names = [case.name for case in [*demo_examples.cases(), *demo_rows.cases(), *demo_pages.cases()]]
    assert len(set(names)) == len(names)


def test_the_last_version_of_an_example_is_the_one_whose_customer_acts() -> None:
    by_id = {case.id: case.data for case in demo_examples.cases()}
    assert (by_id["INV-1001"]["version"], by_id["20483"]["version"]) == (2, 2)


def test_a_customer_takes_the_link_of_whichever_conflicting_message_came_first() -> None:
    by_id = {case.id: case for case in demo_examples.cases()}
    conflicting = by_id["INV-1016"]
    assert conflicting.is_about(31_500_000)
    assert conflicting.is_about(30_500_000)
    assert not by_id["INV-1001"].is_about(15_000_000), "that was its first version"


def test_what_is_excused_is_a_page_that_there_is() -> None:
    assert set(demo_pages.UNREACHABLE) <= PAGES
    assert frozenset(PageState) <= PAGES


def test_what_was_never_seen_is_said_and_wrong() -> None:
    reached = Reached("page", EVERY, frozenset({"a"}), {"c": "nobody can"})
    assert reached.line() == "1 of 3 pages seen: a; never seen: b, c (nobody can)"
    assert reached.wrong == ["page b was never seen"]


def test_nothing_is_wrong_when_all_was_seen() -> None:
    reached = Reached("page", EVERY, EVERY, {"c": "nobody can"})
    assert (reached.line(), reached.wrong) == ("3 of 3 pages seen: a b c; never seen: nothing", [])


def test_what_nobody_knows_of_is_wrong() -> None:
    assert Reached("rule", EVERY, EVERY | {"d"}).wrong == ["rule d is not one that we know of"]
