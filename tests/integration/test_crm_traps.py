"""What CRMs do that a naive build falls for: events that never come, echoes, success with an error inside, overload."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from contracts.ids import new_id
from db.schema import invoices, links, messages
from gateways.errors import Unavailable
from runtime.deps import Deps
from tests.shop import Office, created, open_shop, the_invoice, work
from tests.support import put


@dataclass
class Crm(Office):
    """An office with habits of its own."""

    writes: int = 0
    echo: Callable[[], object] = lambda: None
    fails: list[Unavailable] = field(default_factory=list)
    forgets: int = 0  # so many writes it answers well and does not do

    def write_result(self, payable: Any, result: Any) -> None:
        self.writes += 1
        if self.fails:
            raise self.fails.pop(0)
        if self.forgets:
            self.forgets -= 1
            return
        super().write_result(payable, result)
        self.echo()


@pytest.fixture
def crm() -> Crm:
    return Crm()


@pytest.fixture
def deps(clean_url: str, crm: Crm) -> Iterator[Deps]:
    with open_shop(clean_url) as made:
        yield replace(made, crms={"office": crm})


def count(deps: Deps, table: Any) -> int:
    with deps.database.read() as tx:
        return int(tx.execute(select(func.count()).select_from(table)).scalar_one())


def test_trap_17_events_that_were_lost_are_made_good_by_sending_the_whole_list_again(deps: Deps) -> None:
    """Some repeat nothing that got lost on the way. Whoever sends all that it has makes only what is missing."""
    everything = [created().model_copy(update={"invoice_id": f"I-{number}"}) for number in range(1, 6)]
    for one in everything[::2]:
        put(deps.database, one)
    work(deps)
    before = the_invoice(deps)

    for one in everything * 2:
        put(deps.database, one)
    work(deps)

    assert (count(deps, invoices), count(deps, links)) == (5, 5)
    assert (the_invoice(deps).revision, the_invoice(deps).crm_revision) == (before.revision, before.revision)


@pytest.mark.parametrize("version", [1, None])
def test_trap_18_our_own_write_that_comes_back_as_their_change_changes_nothing(
    deps: Deps, crm: Crm, version: int | None
) -> None:
    """Whether they count versions or only tell that something changed: else each write would ask for the next."""

    def told() -> None:
        put(deps.database, created(version=version, wish="" if version else new_id()))

    crm.echo = told
    told()
    work(deps, rounds=8)

    assert (crm.writes, count(deps, links), the_invoice(deps).revision) == (1, 1, 1)
    with deps.database.read() as tx:
        assert tx.execute(select(messages.c.type).where(messages.c.type != "link.expire.v1")).all() == []


def test_trap_19_a_write_that_was_answered_well_and_not_done_is_found_and_done_again(deps: Deps, crm: Crm) -> None:
    """A batch answers 200 with an error inside: so what was written is read, and only that counts."""
    crm.forgets = 2
    put(deps.database, created())
    work(deps, rounds=1, hurry=False)
    assert (crm.writes, the_invoice(deps).crm_revision) == (1, 0)

    work(deps)

    assert crm.writes == 3
    assert the_invoice(deps).crm_revision == the_invoice(deps).revision == crm.record.revision


@pytest.mark.parametrize(("asked", "least", "most"), [(None, 0, 10), (600.0, 590, 610)])
def test_trap_20_each_kind_of_overload_waits_for_as_long_as_it_asks(
    deps: Deps, crm: Crm, asked: float | None, least: float, most: float
) -> None:
    """A query too many is over in a second; a quota of minutes is not, and asking meanwhile may prolong it."""
    crm.fails = [Unavailable("overloaded", code="overload", retry_after_seconds=asked)]
    put(deps.database, created())
    now = datetime.now(UTC)
    work(deps, rounds=2, hurry=False)

    with deps.database.read() as tx:
        waits = tx.execute(select(messages.c.available_at).where(messages.c.type == "crm.update.v1")).scalar_one()
    assert timedelta(seconds=least) <= waits - now <= timedelta(seconds=most)
    work(deps)
    assert crm.writes == 2
