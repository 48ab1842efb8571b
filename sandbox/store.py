"""The sandbox's memory: JSON documents in one SQLite file, or nowhere.

Everything lives in Python objects; this file is what a restart reads. Documents are written before the answer
leaves, without waiting for the disk: a killed process loses nothing that it answered, a power cut may.
"""

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_SCHEMA = "CREATE TABLE IF NOT EXISTS documents (kind TEXT, key TEXT, body TEXT, PRIMARY KEY (kind, key)) WITHOUT ROWID"
_PUT = "INSERT OR REPLACE INTO documents (kind, key, body) VALUES (?, ?, ?)"
_DROP = "DELETE FROM documents WHERE kind = ? AND key = ?"


class Store:
    """Documents by kind and key. Without a path nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        """Open or create the file.

        OSError when it cannot be used, as when a second process tries to: it would undo the first one's writes.
        """
        self._connection = _open(path) if path else None
        self._changed: dict[tuple[str, str], Mapping[str, Any] | None] = {}

    def load(self, kind: str) -> list[dict[str, Any]]:
        """Return every document of a kind, ordered by key."""
        if self._connection is None:
            return []
        rows = self._connection.execute("SELECT body FROM documents WHERE kind = ? ORDER BY key", (kind,))
        return [json.loads(body) for (body,) in rows]

    def put(self, kind: str, key: str, document: Mapping[str, Any]) -> None:
        """Remember that a document changed; `flush` writes it as it is then."""
        if self._connection is not None:
            self._changed[kind, key] = document

    def drop(self, kind: str, key: str) -> None:
        """Forget a document at the next `flush`."""
        if self._connection is not None:
            self._changed[kind, key] = None

    def flush(self) -> None:
        """Write what changed, in one transaction."""
        if self._connection is None or not self._changed:
            return
        changed, self._changed = self._changed, {}
        self._connection.execute("BEGIN")
        for (kind, key), document in changed.items():
            if document is None:
                self._connection.execute(_DROP, (kind, key))
            else:
                self._connection.execute(_PUT, (kind, key, json.dumps(document)))
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Write what is left and close the file."""
        self.flush()
        if self._connection is not None:
            self._connection.close()


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None, timeout=2.0)
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(_SCHEMA)
    except sqlite3.Error as error:
        connection.close()
        raise OSError(f"{path}: {error}; another process may use it, or it is no state file of the sandbox") from error
    return connection
