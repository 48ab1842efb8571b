"""A chain over the audit trail, which nobody changes either."""

import sqlalchemy as sa
from alembic import op

from db.migrations.columns import TIME, WORD, now

revision = "0002"
down_revision = "0001"

_TABLES = ("audit_seals", "audit_sealed")


def upgrade() -> None:
    op.create_table(
        "audit_seals",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("previous", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("row_count", sa.Integer(), nullable=False),
        sa.Column("newest_at", TIME, nullable=False),
        sa.Column("created_at", TIME, server_default=now(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit_seals")),
    )
    op.create_table(
        "audit_sealed",
        sa.Column("audit_id", WORD, nullable=False),
        sa.Column("seal_number", sa.Integer(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("row_digest", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("audit_id", name=op.f("pk_audit_sealed")),
        sa.UniqueConstraint("seal_number", "place", name=op.f("uq_audit_sealed_seal_number_place")),
    )
    op.create_index(op.f("ix_audit_created_at"), "audit", ["created_at"], unique=False)
    for table in _TABLES:
        _protect(table)


def _protect(table: str) -> None:
    if op.get_context().dialect.name == "postgresql":
        op.execute(f"""
            CREATE TRIGGER {table}_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()
        """)
        op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_is_append_only")
        return
    refuse = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    op.execute(f"CREATE TRIGGER {table}_refuses_update BEFORE UPDATE ON {table} {refuse}")
    op.execute(f"CREATE TRIGGER {table}_refuses_delete BEFORE DELETE ON {table} {refuse}")
