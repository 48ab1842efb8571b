"""Refunds, and money of nobody."""

import sqlalchemy as sa
from alembic import op

from db.migrations.columns import TIME, WORD, now

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "unmatched",
        sa.Column("id", WORD, nullable=False),
        sa.Column("account", WORD, nullable=False),
        sa.Column("reference", WORD, nullable=False),
        sa.Column("provider_order_id", WORD, nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("message_id", WORD, nullable=False),
        sa.Column("rule_id", WORD, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.Column("invoice_id", WORD, nullable=True),
        sa.Column("request_id", WORD, nullable=False),
        sa.Column("closed_at", TIME, nullable=True),
        sa.Column("created_at", TIME, server_default=now(), nullable=False),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoices.id"], name=op.f("fk_unmatched_invoice_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_unmatched")),
        sa.UniqueConstraint("account", "provider_order_id", name=op.f("uq_unmatched_account_provider_order_id")),
    )
    with op.batch_alter_table("unmatched", schema=None) as batch_op:
        batch_op.create_index(
            "ix_unmatched_open",
            ["created_at"],
            unique=False,
            postgresql_where=sa.text("state = 'open'"),
            sqlite_where=sa.text("state = 'open'"),
        )

    op.create_table(
        "refunds",
        sa.Column("id", WORD, nullable=False),
        sa.Column("invoice_id", WORD, nullable=True),
        sa.Column("attempt_id", WORD, nullable=True),
        sa.Column("unmatched_id", WORD, nullable=True),
        sa.Column("account", WORD, nullable=False),
        sa.Column("reference", WORD, nullable=False),
        sa.Column("provider_order_id", WORD, nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", WORD, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.Column("requested_by", WORD, nullable=False),
        sa.Column("decided_by", WORD, nullable=True),
        sa.Column("provider_transaction_id", WORD, nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("request_id", WORD, nullable=False),
        sa.Column("ended_at", TIME, nullable=True),
        sa.Column("created_at", TIME, server_default=now(), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name=op.f("fk_refunds_attempt_id")),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoices.id"], name=op.f("fk_refunds_invoice_id")),
        sa.ForeignKeyConstraint(["unmatched_id"], ["unmatched.id"], name=op.f("fk_refunds_unmatched_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refunds")),
    )
    with op.batch_alter_table("refunds", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_refunds_invoice_id"), ["invoice_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_refunds_unmatched_id"), ["unmatched_id"], unique=False)

    with op.batch_alter_table("attempts", schema=None) as batch_op:
        batch_op.add_column(sa.Column("told", WORD, nullable=True))
        batch_op.add_column(sa.Column("told_at", TIME, nullable=True))
        batch_op.add_column(sa.Column("unmatched_id", WORD, nullable=True))

    with op.batch_alter_table("exceptions", schema=None) as batch_op:
        batch_op.add_column(sa.Column("resolution", WORD, nullable=True))

    with op.batch_alter_table("transactions", schema=None) as batch_op:
        batch_op.add_column(sa.Column("unmatched_id", WORD, nullable=True))
        batch_op.create_index(batch_op.f("ix_transactions_unmatched_id"), ["unmatched_id"], unique=False)
