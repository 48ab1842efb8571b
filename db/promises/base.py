"""What a check is: a table whose rows are walked in portions, and the rows of a portion that break a promise."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Table, exists, literal, null, select

from db.schema import messages
from db.tx import Tx
from db.types import db_after
from rules.verdicts import Reason

# While one of these is open, a person has the case and no message needs to follow.
IN_A_PERSONS_HANDS = tuple(
    reason.value
    for reason in (Reason.OUTCOME_UNKNOWN, Reason.NO_EVIDENCE, Reason.HELD, Reason.DEAD_LETTER, Reason.PROVIDER_REFUSED)
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long things may take before they count as forgotten."""

    late_seconds: float = 600.0  # due, and nobody took it; decided, and no message followed
    lapsed_seconds: float = 300.0  # a lease that ended, and nobody took the message back


@dataclass(frozen=True, slots=True)
class Suspect:
    """A row that breaks a promise, as it seems: `key` names it in the check's table, `invoice` whose lock decides."""

    key: tuple[Any, ...]
    row: str
    what: str
    invoice: str | None = None


@dataclass(frozen=True, slots=True)
class Unchecked:
    """Something that could not be checked."""

    text: str


Finding = Suspect | Unchecked
Find = Callable[[Tx, ColumnElement[bool], Bounds], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Check:
    """One check. `find` gets a condition on the table's key: a portion, or one row that is looked at again."""

    promise: int
    counts: str
    table: Table
    find: Find


def key_of_table(table: Table) -> tuple[Column[Any], ...]:
    """Return the columns of the primary key."""
    return tuple(table.primary_key.columns)


def named(table: Table, key: Iterable[Any]) -> str:
    """Name a row for a person: "links 01j...", "message_keys crm-update 5f0c..."."""
    parts = (part.hex() if isinstance(part, bytes) else str(part) for part in key)
    return " ".join([table.name, *parts])


def broken_where(
    promise: int,
    counts: str,
    table: Table,
    where: Callable[[Bounds], ColumnElement[bool]],
    what: str,
    *shown: ColumnElement[Any],
    invoice: ColumnElement[Any] | None = None,
) -> Check:
    """Make the check of a condition: a row where it is true breaks the promise. `what` names `shown` as {0}, {1}."""
    key = key_of_table(table)
    whose = null() if invoice is None else invoice

    def find(tx: Tx, within: ColumnElement[bool], bounds: Bounds) -> Iterator[Suspect]:
        columns = (*key, whose.label("its_invoice"), *(one.label(f"shown_{at}") for at, one in enumerate(shown)))
        for row in tx.execute(select(*columns).where(within, where(bounds))):
            values = tuple(row)
            of, told = values[: len(key)], values[len(key) + 1 :]
            yield Suspect(of, named(table, of), what.format(*told), values[len(key)])

    return Check(promise, counts, table, find)


# --- conditions that several promises use ---------------------------------------------------------------------------


def older_than(column: ColumnElement[Any], seconds: float) -> ColumnElement[bool]:
    """True where a time lies further back than so many seconds, by the database's clock."""
    return column < db_after(-seconds)


def is_live(subject: ColumnElement[Any], *types: str, naming: ColumnElement[Any] | None = None) -> ColumnElement[bool]:
    """True where a message of these types is about a subject, live or dead; `naming`: an id in its payload."""
    found = exists(literal(1)).where(messages.c.subject == subject, messages.c.type.in_(types))
    return found if naming is None else found.where(messages.c.payload.contains(naming))
