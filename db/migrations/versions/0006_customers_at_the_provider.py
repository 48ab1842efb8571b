"""Whether a customer was led to an attempt's page at the provider, and whether his last try there was declined."""

import sqlalchemy as sa
from alembic import op

from db.migrations.columns import TIME

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("attempts", sa.Column("visited_at", TIME, nullable=True))
    op.add_column("attempts", sa.Column("declined_at", TIME, nullable=True))
