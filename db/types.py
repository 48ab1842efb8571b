"""Column types and clock expressions that mean the same on PostgreSQL and SQLite.

Every time that decides something is taken from the database's clock, so that two machines agree.
SQLite keeps times as text of one fixed width, so that they compare as they sort.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, DateTime, Dialect, Text, TypeDecorator, literal_column
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

_SQLITE_NOW = "strftime('%Y-%m-%d %H:%M:%f000', 'now'"


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC time."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Use timestamptz where there is one."""
        return dialect.type_descriptor(TIMESTAMP(timezone=True) if dialect.name == "postgresql" else DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times; store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone reached the database")
        utc = value.astimezone(UTC)
        return utc if dialect.name == "postgresql" else utc.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give aware UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# Ids and words compare by bytes: a locale's collation is slower and surprises.
Word = Text().with_variant(Text(collation="C"), "postgresql")


def constant(word: str) -> ColumnElement[str]:
    """Write one of our own words into a statement's text.

    A plan serves every value of a parameter (db.database), so a partial index helps only where its word is none.
    """
    return literal_column(f"'{word}'", Text)


class db_now(FunctionElement[datetime]):  # noqa: N801 - reads as a SQL function in statements
    """The database's wall clock, now."""

    type = UtcTime()
    inherit_cache = True
    name = "db_now"


class db_after(FunctionElement[datetime]):  # noqa: N801 - reads as a SQL function in statements
    """The database's clock plus a number of seconds: db_after(30)."""

    type = UtcTime()
    inherit_cache = True
    name = "db_after"


@compiles(db_now, "postgresql")
def _now_postgresql(element: db_now, compiler: SQLCompiler, **kw: Any) -> str:
    return "clock_timestamp()"


@compiles(db_now, "sqlite")
def _now_sqlite(element: db_now, compiler: SQLCompiler, **kw: Any) -> str:
    return f"{_SQLITE_NOW})"


@compiles(db_after, "postgresql")
def _after_postgresql(element: db_after, compiler: SQLCompiler, **kw: Any) -> str:
    return f"(clock_timestamp() + make_interval(secs => {compiler.process(element.clauses, **kw)}))"


@compiles(db_after, "sqlite")
def _after_sqlite(element: db_after, compiler: SQLCompiler, **kw: Any) -> str:
    return f"{_SQLITE_NOW}, ({compiler.process(element.clauses, **kw)}) || ' seconds')"
