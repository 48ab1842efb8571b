"""${message}.

Works with the program before it: what it adds may be absent from that program's statements, and what it takes away is
no longer read by it.
"""

import sqlalchemy as sa
from alembic import op

from db.migrations.columns import TIME, WORD, now

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}
