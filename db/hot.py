"""Statements that run for every message, past SQLAlchemy's compiler and cursors.

What those cost per statement is more than what the database does for it. On PostgreSQL a hot statement is prepared once
on each connection and given to libpq directly (psycopg.pq, https://www.psycopg.org/psycopg3/docs/api/pq.html);
parameters are plain values, rows are read by psycopg's own loaders. On SQLite it is compiled once and given to the
driver; values pass SQLAlchemy's types there as always.
"""

import itertools
import re
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from psycopg.adapt import Transformer
from psycopg.errors import InvalidSqlStatementName, OperationalError, error_from_result
from psycopg.pq import DiagnosticField, ExecStatus, TransactionStatus
from sqlalchemy import Connection, Row
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.sql import ClauseElement

if TYPE_CHECKING:
    from db.tx import Tx

_SQLITE = SQLiteDialect_pysqlite(paramstyle="named")
_PARAMETER = re.compile(r"%\((\w+)\)s")
_numbers = itertools.count(1)
# Under this name a connection keeps its session.
_SESSION = "paylinks.session"


class Prepared:
    """One statement for PostgreSQL with parameters named %(name)s. Its text holds no other per cent sign."""

    __slots__ = ("_make", "_name", "_names", "_sql")

    def __init__(self, sql: str, *, named: bool = False) -> None:
        """Take the text; `named` gives rows whose columns are attributes."""
        self._names: list[str] = []
        numbered = _PARAMETER.sub(self._number, sql)
        if "%" in numbered:
            raise ValueError("a per cent sign that is no parameter would reach the server doubled")
        self._sql = numbered.encode()
        self._name = b"paylinks_%d" % next(_numbers)
        self._make: Callable[[Sequence[Any]], Any] | None = None if named else tuple

    def _number(self, match: re.Match[str]) -> str:
        if match[1] not in self._names:
            self._names.append(match[1])
        return f"${self._names.index(match[1]) + 1}"

    def rows(self, tx: "Tx", parameters: Mapping[str, Any]) -> list[Any]:
        """Run it and return its rows."""
        session = tx.session
        result = self._run(session, parameters)
        if self._make is None:
            columns = [(result.fname(place) or b"").decode() for place in range(result.nfields)]
            self._make = _row_class(columns)._make
        session.reader.set_pgresult(result)
        return session.reader.load_rows(0, result.ntuples, self._make)

    def _run(self, session: "Session", parameters: Mapping[str, Any]) -> Any:
        values = [_raw(parameters[name]) for name in self._names]
        formats = [isinstance(parameters[name], bytes) for name in self._names]
        name = session.prepared.get(self._name) or session.prepare(self._name, self._sql)
        try:
            return _checked(session.pgconn.exec_prepared(name, values, formats))
        except InvalidSqlStatementName:
            session.prepared.clear()  # somebody deallocated; who meets this comes again (db.database.trouble_of)
            raise


class Session:
    """What one connection to PostgreSQL keeps for hot statements."""

    __slots__ = ("_number", "pgconn", "prepared", "reader")

    def __init__(self, connection: Any) -> None:
        """Take the driver's connection; one thread uses it at a time."""
        self.pgconn = connection.pgconn
        self.prepared: dict[bytes, bytes] = {}
        self.reader = Transformer(connection)
        self._number = 0

    def prepare(self, name: bytes, sql: bytes) -> bytes:
        """Prepare a statement and return its name here, which is never used again."""
        self._number += 1
        unique = b"%s_%d" % (name, self._number)
        _checked(self.pgconn.prepare(unique, sql))
        self.prepared[name] = unique
        return unique

    def send(self, sql: bytes) -> None:
        """Run statements without parameters and rows."""
        _checked(self.pgconn.exec_(sql))

    def roll_back(self) -> None:
        """End a transaction before psycopg does, which would deallocate every prepared statement, ours included."""
        if self.pgconn.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            self.pgconn.exec_(b"ROLLBACK")  # on a connection that is gone there is nothing to end


def session_of(connection: Connection) -> Session:
    """Return what this connection keeps, for as long as it lives itself."""
    kept: dict[Any, Any] = connection.info
    if _SESSION not in kept:
        kept[_SESSION] = Session(connection.connection.driver_connection)
    session: Session = kept[_SESSION]
    return session


def _row_class(columns: Sequence[str]) -> Any:
    """Make rows whose columns are attributes, and `_mapping` as SQLAlchemy's rows have it."""
    plain: Any = namedtuple("Row", columns)  # type: ignore[misc]  # known only when the first result comes
    return type("Row", (plain,), {"__slots__": (), "_mapping": property(plain._asdict)})


def _checked(result: Any) -> Any:
    if result.status in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
        return result
    if result.error_field(DiagnosticField.SQLSTATE):
        raise error_from_result(result)
    raise OperationalError("the connection is gone")  # libpq's own word, not the server's


def _raw(value: object) -> bytes | None:
    """Write a value as PostgreSQL reads it: bytes are in the binary format, and all others in the text format."""
    if isinstance(value, str):
        return value.encode()
    if value is None or isinstance(value, bytes):
        return value
    return str(value).encode()  # numbers and booleans


class Compiled:
    """One statement for SQLite, whose parameters are bindparams: compiled once, and run by the driver itself."""

    __slots__ = ("_literals", "_make", "_readers", "_writers", "sql")

    def __init__(self, statement: ClauseElement) -> None:
        """Compile it; this connects to nothing."""
        compiled: Any = statement.compile(dialect=_SQLITE)
        self.sql = str(compiled)
        self._literals = {name: value for name, value in compiled.params.items() if value is not None}
        kinds = {name: compiled.binds[name].type.dialect_impl(_SQLITE) for name in compiled.params}
        self._writers = [(name, kind.bind_processor(_SQLITE)) for name, kind in kinds.items()]
        columns = list(getattr(statement, "exported_columns", ()))
        readers = [column.type.dialect_impl(_SQLITE).result_processor(_SQLITE, None) for column in columns]
        self._readers = [(place, read) for place, read in enumerate(readers) if read is not None]
        self._make = _row_class([column.key for column in columns])._make

    @property
    def parameters(self) -> list[str]:
        """The names of all parameters, those with a value of their own among them."""
        return [name for name, _ in self._writers]

    def rows(self, tx: "Tx", parameters: Mapping[str, Any]) -> list[Any]:
        """Run it and return its rows. KeyError where a parameter was forgotten: it must not be NULL by itself."""
        connection = tx.connection
        if not connection.in_transaction():
            connection.begin()
        given = {**self._literals, **parameters}
        values = {name: write(given[name]) if write else given[name] for name, write in self._writers}
        driver: Any = connection.connection.driver_connection
        return [self._row(row) for row in driver.execute(self.sql, values).fetchall()]

    def _row(self, row: Sequence[Any]) -> Any:
        if not self._readers:
            return self._make(row)
        values = list(row)
        for place, read in self._readers:
            values[place] = read(values[place])
        return self._make(values)


class Hot:
    """One statement whose parameters are all bindparams of plain types.

    A bindparam of an UPDATE or INSERT must not be called as a column, and NULL is `null()`.
    """

    __slots__ = ("_compiled", "_literals", "_prepared", "_statement")

    def __init__(self, statement: ClauseElement) -> None:
        """Take the statement; each kind of database has it compiled when it is first run there."""
        self._statement = statement
        self._prepared: Prepared | None = None
        self._literals: dict[str, Any] = {}
        self._compiled: Compiled | None = None

    def prepared(self) -> Prepared:
        """Give its form for PostgreSQL."""
        if self._prepared is None:
            compiled = self._statement.compile(dialect=PGDialect_psycopg())  # type: ignore[no-untyped-call]  # untyped there
            self._literals = {name: value for name, value in compiled.params.items() if value is not None}
            self._prepared = Prepared(str(compiled), named=True)
        return self._prepared

    def compiled(self) -> Compiled:
        """Give its form for SQLite."""
        if self._compiled is None:
            self._compiled = Compiled(self._statement)
        return self._compiled

    def rows(self, tx: "Tx", **parameters: Any) -> list[Row[Any]]:
        """Run it and return its rows; columns are attributes, as SQLAlchemy's rows have them."""
        if tx.is_postgres:
            prepared = self._prepared or self.prepared()
            return prepared.rows(tx, self._literals | parameters)
        compiled = self._compiled or self.compiled()
        return compiled.rows(tx, parameters)

    def first(self, tx: "Tx", **parameters: Any) -> Row[Any] | None:
        """Run it and return its first row, or None."""
        rows = self.rows(tx, **parameters)
        return rows[0] if rows else None

    def one(self, tx: "Tx", **parameters: Any) -> Row[Any]:
        """Run it and return its only row. Raises LookupError when there is none."""
        rows = self.rows(tx, **parameters)
        if not rows:
            raise LookupError("no such row")
        return rows[0]
