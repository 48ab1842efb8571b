"""Fiscal receipts, and the devices that print them."""

import sqlalchemy as sa
from alembic import op

from db.migrations.columns import TIME, WORD, now

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "fiscal_devices",
        sa.Column("name", WORD, nullable=False),
        sa.Column("base_seq", sa.Integer(), nullable=True),
        sa.Column("last_seq", sa.Integer(), nullable=True),
        sa.Column("holder", WORD, nullable=True),
        sa.Column("holder_until", TIME, nullable=True),
        sa.Column("created_at", TIME, server_default=now(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_fiscal_devices")),
    )
    op.create_table(
        "fiscal_receipts",
        sa.Column("id", WORD, nullable=False),
        sa.Column("device", WORD, nullable=False),
        sa.Column("kind", WORD, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.Column("invoice_id", WORD, nullable=True),
        sa.Column("transaction_id", WORD, nullable=True),
        sa.Column("original_id", WORD, nullable=True),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", WORD, nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=True),
        sa.Column("number", WORD, nullable=True),
        sa.Column("provider_request_id", WORD, nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("message_id", WORD, nullable=True),
        sa.Column("request_id", WORD, nullable=False),
        sa.Column("sent_at", TIME, nullable=True),
        sa.Column("ended_at", TIME, nullable=True),
        sa.Column("created_at", TIME, server_default=now(), nullable=False),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoices.id"], name=op.f("fk_fiscal_receipts_invoice_id")),
        sa.ForeignKeyConstraint(["original_id"], ["fiscal_receipts.id"], name=op.f("fk_fiscal_receipts_original_id")),
        sa.ForeignKeyConstraint(
            ["transaction_id"], ["transactions.id"], name=op.f("fk_fiscal_receipts_transaction_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fiscal_receipts")),
        sa.UniqueConstraint("device", "seq", name=op.f("uq_fiscal_receipts_device_seq")),
        sa.UniqueConstraint("transaction_id", "kind", name=op.f("uq_fiscal_receipts_transaction_id_kind")),
    )
    with op.batch_alter_table("fiscal_receipts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_fiscal_receipts_invoice_id"), ["invoice_id"], unique=False)
        batch_op.create_index(
            "ix_fiscal_receipts_wanted",
            ["device", "id"],
            unique=False,
            postgresql_where=sa.text("state = 'wanted'"),
            sqlite_where=sa.text("state = 'wanted'"),
        )
        batch_op.create_index(
            "uq_fiscal_receipts_one_undecided",
            ["device"],
            unique=True,
            postgresql_where=sa.text("seq IS NOT NULL AND state <> 'issued'"),
            sqlite_where=sa.text("seq IS NOT NULL AND state <> 'issued'"),
        )
