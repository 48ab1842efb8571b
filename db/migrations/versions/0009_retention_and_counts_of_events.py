"""Raw events that end with their retention, and counts of what became of events."""

import sqlalchemy as sa
from alembic import op

from db.migrations.columns import WORD

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "event_counts",
        sa.Column("account", WORD, nullable=False),
        sa.Column("day", WORD, nullable=False),
        sa.Column("kind", WORD, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account", "day", "kind", name=op.f("pk_event_counts")),
    )
    condition = sa.text("type = 'provider.event.v1' AND sealed IS NOT NULL")
    op.create_index(
        "ix_message_history_raw",
        "message_history",
        ["finished_at"],
        unique=False,
        postgresql_where=condition,
        sqlite_where=condition,
    )
