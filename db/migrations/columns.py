"""The column types of our migrations, as they were when the migrations were written.

A migration must mean the same for ever, so it does not import db.types, which moves on. Nothing here is ever changed;
a new type gets a new name.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

# Ids and words compare by bytes, not by a locale.
WORD = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
TIME = sa.DateTime().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")


def now() -> sa.TextClause:
    """The database's wall clock, as a column's default."""
    if op.get_context().dialect.name == "postgresql":
        return sa.text("clock_timestamp()")
    return sa.text(r"(strftime('%Y-%m-%d %H\:%M\:%f000', 'now'))")
