"""Views of links."""

import sqlalchemy as sa
from alembic import op

from db.migrations.columns import TIME, WORD

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "link_views",
        sa.Column("id", WORD, nullable=False),
        sa.Column("link_id", WORD, nullable=False),
        sa.Column("viewed_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_link_views")),
        sa.UniqueConstraint("link_id", "viewed_at", name=op.f("uq_link_views_link_id_viewed_at")),
    )
