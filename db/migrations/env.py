"""Alembic's side of db.migrate, which hands over an open connection and decides what runs."""

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext

from db.schema import metadata
from db.types import UtcTime, Word, db_now


def render(kind: str, item: Any, _: AutogenContext) -> str | Literal[False]:
    """Write drafts in the words of db.migrations.columns."""
    if kind == "type" and isinstance(item, UtcTime):
        return "TIME"
    if kind == "type" and item is Word:
        return "WORD"
    if kind == "server_default" and isinstance(getattr(item, "arg", None), db_now):
        return "now()"
    return False


connection = context.config.attributes.get("connection")
if connection is None:
    raise RuntimeError("run `paylinks migrate`, or scripts/draft_migration.py for a new migration")
context.configure(
    connection=connection,
    target_metadata=metadata,
    # One transaction each: a migration that fails leaves those before it, and a long one holds its own locks only.
    transaction_per_migration=True,
    transactional_ddl=True,
    render_item=render,
    render_as_batch=context.config.attributes.get("batch", True),
)
with context.begin_transaction():
    context.run_migrations()
