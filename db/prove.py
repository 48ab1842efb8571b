"""`paylinks prove`: check every promise that the database alone can tell about.

Tables are walked in portions, each in a short read of its own, so that a long table holds nobody up. What looks broken
is looked at again under its invoice's lock: work that was going on meanwhile is no breach.
"""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Table, and_, select, tuple_

from db import audit_chain
from db.database import Database, Trouble, trouble_of
from db.promises import deeds, links, money, outside, receipts, standing, store
from db.promises.base import Bounds, Check, Suspect, Unchecked, key_of_table
from db.schema import invoices
from db.tx import Tx

PORTION = 1000
# A relay seals new audit rows within seconds.
UNSEALED_SECONDS = 300.0
# More of one kind teach nothing; they are counted.
SHOWN = 20
# Each try waits up to the database's lock time-out.
LOCK_TRIES = 4

TITLES = {
    1: "Nothing accepted is lost",
    2: "One live link",
    3: "One effect",
    4: "Paid means proven",
    5: "Money in equals money explained",
    6: "The lock holds",
    7: "The CRM agrees",
    8: "Who did what",
    9: "Settled is closed",
    10: "Verdicts are monotone",
    11: "Nothing waits for ever",
}

CHECKS: tuple[Check, ...] = (
    *store.LOST,
    *links.ONE_LIVE,
    *store.DONE_TWICE,
    *outside.ONE_EFFECT,
    *outside.REFUNDS_FOLLOW,
    *money.PROVEN,
    *money.EXPLAINED,
    *links.THE_LOCK,
    *outside.THE_CRM_AGREES,
    *deeds.WRITTEN_DOWN,
    *links.CLOSED_WHEN_SETTLED,
    *standing.MONOTONE,
    *store.LEFT_LYING,
    *links.FORGOTTEN,
    *outside.TASKS_FOLLOW,
    *receipts.RECEIPTS,
)


@dataclass(frozen=True, slots=True)
class Breach:
    """A row that breaks a promise, seen under its invoice's lock."""

    row: str
    what: str


@dataclass(slots=True)
class Report:
    """What was found about one promise."""

    promise: int
    title: str
    counts: dict[str, int] = field(default_factory=dict)
    breaches: list[Breach] = field(default_factory=list)
    more: int = 0  # breaches beyond those that are shown
    unchecked: list[str] = field(default_factory=list)

    @property
    def is_kept(self) -> bool:
        """Tell whether nothing broke the promise."""
        return not self.breaches

    def add(self, breach: Breach) -> None:
        """Note a breach; beyond SHOWN only count it."""
        if len(self.breaches) < SHOWN:
            self.breaches.append(breach)
        else:
            self.more += 1

    def leave_out(self, text: str) -> None:
        """Note what could not be checked, once."""
        if text not in self.unchecked:
            self.unchecked.append(text)


def prove(database: Database, bounds: Bounds | None = None, *, portion: int = PORTION) -> dict[int, Report]:
    """Check every promise and return one report for each, by its number."""
    reports = {number: Report(number, title) for number, title in TITLES.items()}
    for table in dict.fromkeys(check.table for check in CHECKS):
        _Walk(database, table, bounds or Bounds(), reports).walk(portion)
    with database.read() as tx:
        for suspect in deeds.unprotected(tx):
            reports[8].add(Breach(suspect.row, suspect.what))
    _prove_chain(database, reports[8])
    return reports


def _prove_chain(database: Database, report: Report) -> None:
    """Follow the chain over the audit trail from its beginning."""
    for found in audit_chain.verify(database):
        report.add(Breach(found.row, found.what))
    with database.read() as tx:
        head = audit_chain.head(tx)
        late = audit_chain.waiting(tx, seconds=UNSEALED_SECONDS)
    report.counts["seals"] = head.number if head else 0
    if head is None:
        report.leave_out("whether audit rows were changed: none is sealed yet, a relay does that")
    elif late:
        report.leave_out(f"{late} audit rows that nobody sealed yet: a relay does that")


class _Walk:
    """One walk through one table with all its checks."""

    def __init__(self, database: Database, table: Table, bounds: Bounds, reports: dict[int, Report]) -> None:
        self._database = database
        self._key = key_of_table(table)
        self._checks = [check for check in CHECKS if check.table is table]
        self._bounds = bounds
        self._reports = reports

    def walk(self, portion: int) -> None:
        after: tuple[Any, ...] | None = None
        walked = 0
        while True:
            with self._database.read() as tx:
                keys = [tuple(row) for row in tx.execute(_next_keys(self._key, after, portion))]
                suspects = self._suspects(tx, _between(self._key, after, keys[-1])) if keys else []
            for check, suspect in suspects:
                self._look_again(check, suspect)
            walked += len(keys)
            if len(keys) < portion:
                break
            after = keys[-1]
        for check in self._checks:
            self._reports[check.promise].counts[check.counts] = walked

    def _suspects(self, tx: Tx, within: ColumnElement[bool]) -> list[tuple[Check, Suspect]]:
        """Give one suspect per check and row: the second look tells all that is wrong with a row."""
        found: dict[tuple[Check, tuple[Any, ...]], Suspect] = {}
        for check in self._checks:
            for finding in check.find(tx, within, self._bounds):
                if isinstance(finding, Unchecked):
                    self._reports[check.promise].leave_out(finding.text)
                else:
                    found.setdefault((check, finding.key), finding)
        return [(check, suspect) for (check, _), suspect in found.items()]

    def _look_again(self, check: Check, suspect: Suspect) -> None:
        """Look under the invoice's lock; somebody else may hold that for a while."""
        report = self._reports[check.promise]
        for _ in range(LOCK_TRIES):
            try:
                found = self._found_under_lock(check, suspect)
            except Exception as error:
                if trouble_of(error) is not Trouble.BUSY:
                    raise
            else:
                for one in found:
                    report.add(Breach(one.row, one.what))
                return
        report.leave_out(f"{suspect.row}: somebody held its invoice's lock all the time")

    def _found_under_lock(self, check: Check, suspect: Suspect) -> list[Suspect]:
        """Look while nobody else changes what belongs to the invoice: everybody who does holds its lock."""
        only = and_(*(column == value for column, value in zip(self._key, suspect.key, strict=True)))
        with self._database.begin() as tx:
            if suspect.invoice is not None:
                tx.execute(select(invoices.c.id).where(invoices.c.id == suspect.invoice).with_for_update())
            return [one for one in check.find(tx, only, self._bounds) if isinstance(one, Suspect)]


def _between(key: tuple[Any, ...], after: tuple[Any, ...] | None, last: tuple[Any, ...]) -> ColumnElement[bool]:
    until = tuple_(*key) <= tuple_(*last)
    return until if after is None else and_(until, tuple_(*key) > tuple_(*after))


def _next_keys(key: tuple[Any, ...], after: tuple[Any, ...] | None, size: int) -> Any:
    found = select(*key).order_by(*key).limit(size)
    return found if after is None else found.where(tuple_(*key) > tuple_(*after))
