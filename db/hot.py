"""Statements that run for every message, past SQLAlchemy's compiler on PostgreSQL.

What SQLAlchemy costs per statement is more than what PostgreSQL does for it. A Hot statement is written in SQLAlchemy
like any other, compiled once, and given to psycopg directly; on SQLite it runs as it is.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from psycopg.rows import namedtuple_row, tuple_row
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.sql import ClauseElement

if TYPE_CHECKING:
    from db.tx import Tx


class Hot:
    """One statement whose parameters are all bindparams of plain types."""

    __slots__ = ("_literals", "_sql", "_statement")

    def __init__(self, statement: ClauseElement) -> None:
        """Compile for PostgreSQL; this connects to nothing."""
        self._statement: Any = statement
        compiled = statement.compile(dialect=PGDialect_psycopg())  # type: ignore[no-untyped-call]  # untyped there
        self._sql = str(compiled)
        self._literals = {name: value for name, value in compiled.params.items() if value is not None}

    def rows(self, tx: "Tx", **parameters: Any) -> list[Any]:
        """Run it and return its rows; columns are attributes."""
        if tx.is_postgres:
            return list(send(tx, self._sql, self._literals | parameters, named=True))
        return list(tx.execute(self._statement, parameters).all())

    def first(self, tx: "Tx", **parameters: Any) -> Any:
        """Run it and return its first row, or None."""
        rows = self.rows(tx, **parameters)
        return rows[0] if rows else None

    def count(self, tx: "Tx", **parameters: Any) -> int:
        """Run it and return how many rows it changed."""
        if tx.is_postgres:
            return int(send(tx, self._sql, self._literals | parameters).rowcount)
        return int(tx.execute(self._statement, parameters).rowcount)


def send(tx: "Tx", sql: str, parameters: Mapping[str, Any], *, named: bool = False) -> Any:
    """Give one statement to psycopg, always prepared; return the cursor with its result."""
    tx.ensure_begun()
    cursor = tx.driver.cursor(row_factory=namedtuple_row if named else tuple_row)
    return cursor.execute(sql, parameters, prepare=True)
