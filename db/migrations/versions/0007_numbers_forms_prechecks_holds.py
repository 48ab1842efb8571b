"""Orders that are numbered, payment pages that take a form, prechecks, holds, and how money was proven."""

import sqlalchemy as sa
from alembic import op

from db.migrations.columns import TIME, WORD

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "order_numbers",
        sa.Column("account", WORD, nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_order_numbers")),
    )
    with op.batch_alter_table("attempts", schema=None) as batch_op:
        batch_op.add_column(sa.Column("pay_fields_sealed", sa.LargeBinary(), nullable=True))
        batch_op.add_column(sa.Column("prechecked_at", TIME, nullable=True))
        batch_op.add_column(sa.Column("hold_no", sa.Integer(), server_default=sa.text("0"), nullable=False))
        batch_op.add_column(sa.Column("hold_message_id", WORD, nullable=True))
        batch_op.drop_constraint(batch_op.f("uq_attempts_reference"), type_="unique")
        batch_op.create_unique_constraint(batch_op.f("uq_attempts_account_reference"), ["account", "reference"])

    op.add_column("invoices", sa.Column("paid_proof", WORD, nullable=True))
    op.add_column("transactions", sa.Column("proof", WORD, server_default="look_up", nullable=False))
