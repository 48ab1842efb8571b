"""Invoices that were paid past their link, as a person said."""

import sqlalchemy as sa
from alembic import op

from db.migrations.columns import TIME

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("invoices", sa.Column("settled_elsewhere_at", TIME, nullable=True))
