"""Every table of the first release, and an audit trail that nobody changes."""

import sqlalchemy as sa
from alembic import op

from db.migrations.columns import TIME, WORD, now

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", WORD, nullable=False),
        sa.Column("name", WORD, nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("crms", sa.Text(), nullable=False),
        sa.Column("revoked_at", TIME, nullable=True),
        sa.Column("created_at", TIME, server_default=now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("secret_hash", name=op.f("uq_api_keys_secret_hash")),
    )
    op.create_table(
        "audit",
        sa.Column("id", WORD, nullable=False),
        sa.Column("actor", WORD, nullable=False),
        sa.Column("action", WORD, nullable=False),
        sa.Column("subject", WORD, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("request_id", WORD, nullable=False),
        sa.Column("detail", sa.Text(), server_default="{}", nullable=False),
        sa.Column("created_at", TIME, server_default=now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_subject"), "audit", ["subject"], unique=False)
    op.create_table(
        "intents",
        sa.Column("id", WORD, nullable=False),
        sa.Column("operation", WORD, nullable=False),
        sa.Column("reference", WORD, nullable=False),
        sa.Column("message_id", WORD, nullable=False),
        sa.Column("claim_no", sa.Integer(), nullable=False),
        sa.Column("deadline", TIME, nullable=False),
        sa.Column("result", WORD, nullable=True),
        sa.Column("resolved_at", TIME, nullable=True),
        sa.Column("created_at", TIME, server_default=now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_intents")),
        sa.UniqueConstraint("operation", "reference", name=op.f("uq_intents_operation_reference")),
    )
    op.create_table(
        "invoices",
        sa.Column("id", WORD, nullable=False),
        sa.Column("crm", WORD, nullable=False),
        sa.Column("payable_type", WORD, nullable=False),
        sa.Column("external_id", WORD, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("kind", WORD, nullable=False),
        sa.Column("deal_id", WORD, nullable=True),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", WORD, nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("customer_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("locale", WORD, nullable=False),
        sa.Column("manager_id", WORD, nullable=True),
        sa.Column("manager_name", sa.Text(), nullable=True),
        sa.Column("created_by", WORD, nullable=True),
        sa.Column("account", WORD, nullable=False),
        sa.Column("status", WORD, nullable=False),
        sa.Column("flags", sa.Text(), server_default="[]", nullable=False),
        sa.Column("fiscal_status", WORD, server_default="not_required", nullable=False),
        sa.Column("paid_minor", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("refunded_minor", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("paid_at", TIME, nullable=True),
        sa.Column("provider_reference", WORD, nullable=True),
        sa.Column("paid_account", WORD, nullable=True),
        sa.Column("revision", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("request_id", WORD, nullable=False),
        sa.Column("crm_revision", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("crm_check_no", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("crm_writer", WORD, nullable=True),
        sa.Column("crm_writer_until", TIME, nullable=True),
        sa.Column("created_at", TIME, server_default=now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invoices")),
        sa.UniqueConstraint(
            "crm", "payable_type", "external_id", name=op.f("uq_invoices_crm_payable_type_external_id")
        ),
    )
    op.create_table(
        "message_attempts",
        sa.Column("message_id", WORD, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("started_at", TIME, nullable=True),
        sa.Column("ended_at", TIME, server_default=now(), nullable=False),
        sa.Column("outcome", WORD, nullable=False),
        sa.Column("error_class", WORD, nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("worker", WORD, nullable=True),
        sa.Column("provider_request_id", WORD, nullable=True),
        sa.PrimaryKeyConstraint("message_id", "number", name=op.f("pk_message_attempts")),
    )
    op.create_table(
        "message_conflicts",
        sa.Column("id", WORD, nullable=False),
        sa.Column("message_id", WORD, nullable=False),
        sa.Column("queue", WORD, nullable=False),
        sa.Column("type", WORD, nullable=False),
        sa.Column("dedup_key", WORD, nullable=False),
        sa.Column("subject", WORD, nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("request_id", WORD, nullable=True),
        sa.Column("created_at", TIME, server_default=now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_message_conflicts")),
        sa.UniqueConstraint("message_id", "fingerprint", name=op.f("uq_message_conflicts_message_id_fingerprint")),
    )
    op.create_table(
        "message_duplicates",
        sa.Column("id", WORD, nullable=False),
        sa.Column("message_id", WORD, nullable=False),
        sa.Column("first_state", WORD, nullable=False),
        sa.Column("request_id", WORD, nullable=True),
        sa.Column("created_at", TIME, server_default=now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_message_duplicates")),
    )
    op.create_index(op.f("ix_message_duplicates_message_id"), "message_duplicates", ["message_id"], unique=False)
    op.create_table(
        "message_history",
        sa.Column("id", WORD, nullable=False),
        sa.Column("queue", WORD, nullable=False),
        sa.Column("type", WORD, nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("dedup_key", WORD, nullable=False),
        sa.Column("subject", WORD, nullable=False),
        sa.Column("correlation", WORD, nullable=False),
        sa.Column("causation", WORD, nullable=True),
        sa.Column("request_id", WORD, nullable=False),
        sa.Column("traceparent", WORD, nullable=True),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("lapses", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("waits", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("claim_no", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("outcome", WORD, nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("finished_at", TIME, server_default=now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_message_history")),
    )
    op.create_index(op.f("ix_message_history_subject"), "message_history", ["subject"], unique=False)
    op.create_table(
        "message_keys",
        sa.Column("queue", WORD, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("message_id", WORD, nullable=False),
        sa.PrimaryKeyConstraint("queue", "digest", name=op.f("pk_message_keys")),
    )
    op.create_table(
        "messages",
        sa.Column("id", WORD, nullable=False),
        sa.Column("queue", WORD, nullable=False),
        sa.Column("type", WORD, nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("dedup_key", WORD, nullable=False),
        sa.Column("subject", WORD, nullable=False),
        sa.Column("correlation", WORD, nullable=False),
        sa.Column("causation", WORD, nullable=True),
        sa.Column("request_id", WORD, nullable=False),
        sa.Column("traceparent", WORD, nullable=True),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("lapses", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("waits", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("claim_no", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("state", WORD, server_default="ready", nullable=False),
        sa.Column("available_at", TIME, server_default=now(), nullable=False),
        sa.Column("lease_expires_at", TIME, nullable=True),
        sa.Column("started_at", TIME, nullable=True),
        sa.Column("claimed_by", WORD, nullable=True),
        sa.Column("error_class", WORD, nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("error_group", WORD, nullable=True),
        sa.Column("created_at", TIME, server_default=now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_messages")),
        postgresql_with={
            "fillfactor": "70",
            "autovacuum_vacuum_scale_factor": "0.0",
            "autovacuum_vacuum_threshold": "5000",
            "autovacuum_analyze_scale_factor": "0.0",
            "autovacuum_analyze_threshold": "20000",
        },
    )
    op.create_index(
        "ix_messages_alone",
        "messages",
        ["queue"],
        unique=False,
        postgresql_where=sa.text("state = 'ready' AND lapses >= 2"),
        sqlite_where=sa.text("state = 'ready' AND lapses >= 2"),
    )
    op.create_index(
        "ix_messages_dead",
        "messages",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("state = 'dead'"),
        sqlite_where=sa.text("state = 'dead'"),
    )
    op.create_index(
        "ix_messages_due",
        "messages",
        ["queue", "available_at"],
        unique=False,
        postgresql_where=sa.text("state = 'ready'"),
        sqlite_where=sa.text("state = 'ready'"),
    )
    op.create_index(
        "ix_messages_leases",
        "messages",
        ["lease_expires_at"],
        unique=False,
        postgresql_where=sa.text("state = 'running'"),
        sqlite_where=sa.text("state = 'running'"),
    )
    op.create_table(
        "rejections",
        sa.Column("id", WORD, nullable=False),
        sa.Column("channel", WORD, nullable=False),
        sa.Column("routing_key", WORD, nullable=True),
        sa.Column("sender", WORD, nullable=True),
        sa.Column("event_source", WORD, nullable=True),
        sa.Column("event_id", WORD, nullable=True),
        sa.Column("event_type", WORD, nullable=True),
        sa.Column("problems", sa.Text(), nullable=False),
        sa.Column("body_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("body_bytes", sa.Integer(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("repeats", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("state", WORD, server_default="open", nullable=False),
        sa.Column("message_id", WORD, nullable=True),
        sa.Column("resolved_at", TIME, nullable=True),
        sa.Column("created_at", TIME, server_default=now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rejections")),
    )
    op.create_index(
        "ix_rejections_open",
        "rejections",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("state = 'open'"),
        sqlite_where=sa.text("state = 'open'"),
    )
    op.create_index(
        "uq_rejections_one_open",
        "rejections",
        ["digest"],
        unique=True,
        postgresql_where=sa.text("state = 'open'"),
        sqlite_where=sa.text("state = 'open'"),
    )
    op.create_table(
        "tombstones",
        sa.Column("crm", WORD, nullable=False),
        sa.Column("payable_type", WORD, nullable=False),
        sa.Column("external_id", WORD, nullable=False),
        sa.Column("cancelled_through", sa.Integer(), nullable=False),
        sa.Column("created_at", TIME, server_default=now(), nullable=False),
        sa.PrimaryKeyConstraint("crm", "payable_type", "external_id", name=op.f("pk_tombstones")),
    )
    op.create_table(
        "exceptions",
        sa.Column("id", WORD, nullable=False),
        sa.Column("invoice_id", WORD, nullable=False),
        sa.Column("reason", WORD, nullable=False),
        sa.Column("episode", sa.Integer(), nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("task_id", WORD, nullable=True),
        sa.Column("task_state", WORD, server_default="none", nullable=False),
        sa.Column("request_id", WORD, nullable=False),
        sa.Column("closed_at", TIME, nullable=True),
        sa.Column("created_at", TIME, server_default=now(), nullable=False),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoices.id"], name=op.f("fk_exceptions_invoice_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exceptions")),
        sa.UniqueConstraint("invoice_id", "reason", "episode", name=op.f("uq_exceptions_invoice_id_reason_episode")),
    )
    op.create_index(
        "uq_exceptions_one_open",
        "exceptions",
        ["invoice_id", "reason"],
        unique=True,
        postgresql_where=sa.text("state = 'open'"),
        sqlite_where=sa.text("state = 'open'"),
    )
    op.create_table(
        "invoice_versions",
        sa.Column("invoice_id", WORD, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", WORD, nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("message_id", WORD, nullable=False),
        sa.Column("created_at", TIME, server_default=now(), nullable=False),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoices.id"], name=op.f("fk_invoice_versions_invoice_id")),
        sa.PrimaryKeyConstraint("invoice_id", "version", name=op.f("pk_invoice_versions")),
    )
    op.create_table(
        "links",
        sa.Column("id", WORD, nullable=False),
        sa.Column("invoice_id", WORD, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("invoice_version", sa.Integer(), nullable=False),
        sa.Column("key_id", WORD, nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", WORD, nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("sent_at", TIME, nullable=True),
        sa.Column("closed_at", TIME, nullable=True),
        sa.Column("created_at", TIME, server_default=now(), nullable=False),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoices.id"], name=op.f("fk_links_invoice_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_links")),
        sa.UniqueConstraint("invoice_id", "number", name=op.f("uq_links_invoice_id_number")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_links_token_hash")),
    )
    op.create_index(
        "ix_links_expiry",
        "links",
        ["expires_at"],
        unique=False,
        postgresql_where=sa.text("state = 'active'"),
        sqlite_where=sa.text("state = 'active'"),
    )
    op.create_index(
        "uq_links_one_active",
        "links",
        ["invoice_id"],
        unique=True,
        postgresql_where=sa.text("state = 'active'"),
        sqlite_where=sa.text("state = 'active'"),
    )
    op.create_table(
        "attempts",
        sa.Column("id", WORD, nullable=False),
        sa.Column("invoice_id", WORD, nullable=False),
        sa.Column("link_id", WORD, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("account", WORD, nullable=False),
        sa.Column("reference", WORD, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.Column("provider_order_id", WORD, nullable=True),
        sa.Column("pay_url_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", WORD, nullable=False),
        sa.Column("expires_at", TIME, nullable=True),
        sa.Column("check_no", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("check_message_id", WORD, nullable=True),
        sa.Column("close_no", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("close_message_id", WORD, nullable=True),
        sa.Column("error", WORD, nullable=True),
        sa.Column("opened_at", TIME, nullable=True),
        sa.Column("ended_at", TIME, nullable=True),
        sa.Column("created_at", TIME, server_default=now(), nullable=False),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoices.id"], name=op.f("fk_attempts_invoice_id")),
        sa.ForeignKeyConstraint(["link_id"], ["links.id"], name=op.f("fk_attempts_link_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempts")),
        sa.UniqueConstraint("link_id", "number", name=op.f("uq_attempts_link_id_number")),
        sa.UniqueConstraint("reference", name=op.f("uq_attempts_reference")),
    )
    op.create_index(op.f("ix_attempts_invoice_id"), "attempts", ["invoice_id"], unique=False)
    op.create_index(
        "uq_attempts_one_open",
        "attempts",
        ["link_id"],
        unique=True,
        postgresql_where=sa.text("state IN ('open', 'processing', 'reserved', 'unknown')"),
        sqlite_where=sa.text("state IN ('open', 'processing', 'reserved', 'unknown')"),
    )
    op.create_index(
        "uq_attempts_order",
        "attempts",
        ["account", "provider_order_id"],
        unique=True,
        postgresql_where=sa.text("provider_order_id IS NOT NULL"),
        sqlite_where=sa.text("provider_order_id IS NOT NULL"),
    )
    op.create_table(
        "transactions",
        sa.Column("id", WORD, nullable=False),
        sa.Column("account", WORD, nullable=False),
        sa.Column("provider_transaction_id", WORD, nullable=False),
        sa.Column("kind", WORD, nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", WORD, nullable=False),
        sa.Column("occurred_at", TIME, nullable=False),
        sa.Column("invoice_id", WORD, nullable=True),
        sa.Column("attempt_id", WORD, nullable=True),
        sa.Column("created_at", TIME, server_default=now(), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name=op.f("fk_transactions_attempt_id")),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoices.id"], name=op.f("fk_transactions_invoice_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transactions")),
        sa.UniqueConstraint(
            "account",
            "kind",
            "provider_transaction_id",
            name=op.f("uq_transactions_account_kind_provider_transaction_id"),
        ),
    )
    op.create_index(op.f("ix_transactions_invoice_id"), "transactions", ["invoice_id"], unique=False)
    op.create_table(
        "verdicts",
        sa.Column("id", WORD, nullable=False),
        sa.Column("invoice_id", WORD, nullable=False),
        sa.Column("attempt_id", WORD, nullable=False),
        sa.Column("rule_id", WORD, nullable=False),
        sa.Column("verdict", WORD, nullable=False),
        sa.Column("status", WORD, nullable=False),
        sa.Column("evidence_digest", WORD, nullable=False),
        sa.Column("request_id", WORD, nullable=False),
        sa.Column("provider_request_id", WORD, nullable=True),
        sa.Column("message_id", WORD, nullable=True),
        sa.Column("created_at", TIME, server_default=now(), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name=op.f("fk_verdicts_attempt_id")),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoices.id"], name=op.f("fk_verdicts_invoice_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_verdicts")),
        sa.UniqueConstraint(
            "attempt_id", "rule_id", "evidence_digest", name=op.f("uq_verdicts_attempt_id_rule_id_evidence_digest")
        ),
    )
    op.create_index(op.f("ix_verdicts_invoice_id"), "verdicts", ["invoice_id"], unique=False)
    _protect_audit()


def _protect_audit() -> None:
    """Make the audit trail append-only, whatever the program does."""
    if op.get_context().dialect.name == "postgresql":
        _protect_audit_postgresql()
    else:
        _protect_audit_sqlite()


def _protect_audit_postgresql() -> None:
    op.execute("""
        CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'audit is append-only: % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
        END $$
    """)
    op.execute("""
        CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
        FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()
    """)
    # Also where a session plays a replica, which passes ordinary triggers by.
    op.execute("ALTER TABLE audit ENABLE ALWAYS TRIGGER audit_is_append_only")


def _protect_audit_sqlite() -> None:
    refuse = "BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END"
    op.execute(f"CREATE TRIGGER audit_refuses_update BEFORE UPDATE ON audit {refuse}")
    op.execute(f"CREATE TRIGGER audit_refuses_delete BEFORE DELETE ON audit {refuse}")
    # INSERT OR REPLACE deletes without a word to the trigger above.
    exists = "WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id)"
    op.execute(f"CREATE TRIGGER audit_refuses_replace BEFORE INSERT ON audit {exists} {refuse}")
