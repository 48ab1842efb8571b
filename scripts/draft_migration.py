"""Draft a migration from what db/schema.py says and the newest migration does not.

python scripts/draft_migration.py "what changes"   write the next revision; read it, and mend it by hand
python scripts/draft_migration.py --first          write revision 0001 anew: only while no release was made
python scripts/draft_migration.py --check          print what is missing; exit code 1 when something is
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from alembic import command

from db import migrate
from db.database import Database
from db.schema import metadata
from db.sealing import Sealer, new_key

VERSIONS = Path(migrate.__file__).parent / "migrations" / "versions"
FIRST = "Every table of the first release, and an audit trail that nobody changes"
# Drafts know nothing of triggers: what stands in revision 0001 from here on is kept.
BY_HAND = "    _protect_audit()\n"


def main(arguments: list[str]) -> int:
    """Do what the arguments say and return the exit code."""
    match arguments:
        case ["--check"]:
            return check()
        case ["--first"]:
            return draft(FIRST, "0001", first=True)
        case [message] if not message.startswith("-"):
            return draft(message, f"{int(migrate.head()) + 1:04}", first=False)
    sys.stderr.write(__doc__ or "")
    return 2


def check() -> int:
    """Compare a migrated database with one made from the schema."""
    with tempfile.TemporaryDirectory() as folder:
        migrated, wanted = _database(f"{folder}/migrated.db"), _database(f"{folder}/wanted.db")
        migrate.upgrade(migrated)
        metadata.create_all(wanted.engine)
        differences = _statements(wanted) ^ _statements(migrated)
        migrated.dispose()
        wanted.dispose()
    sys.stdout.writelines(f"{', '.join(statement)}\n" for statement in sorted(differences))
    return 1 if differences else 0


def _statements(database: Database) -> set[tuple[str, ...]]:
    """Return what SQLite keeps of its schema: the parts of each statement; their order says nothing."""
    found = "SELECT sql FROM sqlite_master WHERE type IN ('table', 'index') AND name != 'alembic_version'"
    with database.read() as tx:
        rows = [row[0] for row in tx.connection.exec_driver_sql(found) if row[0] is not None]
    # A table that was built anew has its name in quotes.
    return {tuple(sorted(_parts(row.replace('"', "")))) for row in rows}


def _parts(sql: str) -> list[str]:
    """Return the columns and constraints of a statement: what commas outside parentheses part."""
    return [part.strip(" \t,") for part in re.split(r",\s+(?![^()]*\))|\n", sql)]


def draft(message: str, revision: str, *, first: bool) -> int:
    """Write one revision and print where it is."""
    by_hand = _taken_from_first() if first else ""
    with tempfile.TemporaryDirectory() as folder:
        database = _database(f"{folder}/draft.db")
        if not first:
            migrate.upgrade(database)
        path = _written(database, message, revision, batch=not first)
        database.dispose()
    text = re.sub(r"    # ###.*\n", "", path.read_text())
    path.write_text(text.rstrip("\n") + "\n" + by_hand)
    for arguments in (["check", "--fix", "--silent", "--exit-zero"], ["format", "--silent"]):
        subprocess.run([sys.executable, "-m", "ruff", *arguments, str(path)], check=True)  # noqa: S603 - our own
    sys.stdout.write(f"{path}\n")
    return 0


def _taken_from_first() -> str:
    (old,) = VERSIONS.glob("0001_*.py")
    _, marker, rest = old.read_text().partition(BY_HAND)
    old.unlink()
    return marker + rest


def _written(database: Database, message: str, revision: str, *, batch: bool) -> Path:
    slug = "first" if revision == "0001" else re.sub(r"\W+", "_", message.lower()).strip("_")[:40]
    with database.engine.begin() as connection:
        config = migrate.config(connection)
        config.attributes["batch"] = batch
        config.set_main_option("file_template", f"%%(rev)s_{slug}")
        made = command.revision(config, message=message, autogenerate=True, rev_id=revision)
    return Path(made.path)  # type: ignore[union-attr]  # one revision was asked for


def _database(path: str) -> Database:
    return Database(f"sqlite:///{path}", Sealer([new_key()]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
