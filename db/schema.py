"""Every table, in the order of the way of a message.

messages, message_keys, message_history, message_attempts and their neighbours are the message store;
the rest are the aggregates of the business. Money is minor units in BIGINT; JSON is text (it is never queried);
raw bytes and personal fields are sealed bytes (db.sealing).
"""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from contracts.statuses import OPEN_ATTEMPTS, LinkState
from db.types import UtcTime, Word, db_now

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _id(name: str = "id") -> Column[str]:
    return Column(name, Word, primary_key=True)


def _ref(name: str, to: str, *, nullable: bool = False) -> Column[str]:
    return Column(name, Word, ForeignKey(to), nullable=nullable)


def _word(name: str, *, nullable: bool = False, default: str | None = None) -> Column[str]:
    return Column(name, Word, nullable=nullable, server_default=default)


def _text(name: str, *, nullable: bool = False, default: str | None = None) -> Column[str]:
    return Column(name, Text, nullable=nullable, server_default=default)


def _count(name: str, default: int = 0) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default=text(str(default)))


def _money(name: str, *, default: int | None = None) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=None if default is None else text(str(default)))


def _bytes(name: str, *, nullable: bool = False) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=nullable)


def _time(name: str, *, nullable: bool = True) -> Column[Any]:
    return Column(name, UtcTime, nullable=nullable)


def _created() -> Column[Any]:
    return Column("created_at", UtcTime, nullable=False, server_default=db_now())


def _one_of(column: str, words: Iterable[str]) -> str:
    quoted = ", ".join(f"'{word}'" for word in sorted(words))
    return f"{column} IN ({quoted})"


def _partial(name: str, table: Table, *columns: str, where: str, unique: bool = False) -> Index:
    condition = text(where)
    return Index(
        name,
        *(table.c[column] for column in columns),
        unique=unique,
        postgresql_where=condition,
        sqlite_where=condition,
    )


# --- the message store ----------------------------------------------------------------------------------------------


def _carried() -> list[Column[Any]]:
    """What a message carries, live and in history."""
    return [
        _id(),
        _word("queue"),
        _word("type"),
        _text("payload"),
        _bytes("sealed", nullable=True),
        _word("dedup_key"),
        _word("subject"),
        _word("correlation"),
        _word("causation", nullable=True),
        _word("request_id"),
        _word("traceparent", nullable=True),
        _count("failures"),
        _count("lapses"),
        _count("waits"),
        _count("claim_no"),
    ]


messages = Table(
    "messages",
    metadata,
    *_carried(),
    _word("state", default="ready"),
    Column("available_at", UtcTime, nullable=False, server_default=db_now()),
    _time("lease_expires_at"),
    _time("started_at"),
    _word("claimed_by", nullable=True),
    _word("error_class", nullable=True),
    _text("error", nullable=True),
    _word("error_group", nullable=True),
    _created(),
    # Rows live for seconds and change twice: leave room on the page, and clean up early.
    postgresql_with={
        "fillfactor": "70",
        "autovacuum_vacuum_scale_factor": "0.0",
        "autovacuum_vacuum_threshold": "5000",
        "autovacuum_analyze_scale_factor": "0.0",
        "autovacuum_analyze_threshold": "20000",
    },
)
_partial("ix_messages_due", messages, "queue", "available_at", where="state = 'ready'")
_partial("ix_messages_alone", messages, "queue", where="state = 'ready' AND lapses >= 2")
_partial("ix_messages_leases", messages, "lease_expires_at", where="state = 'running'")
_partial("ix_messages_dead", messages, "created_at", where="state = 'dead'")

message_keys = Table(
    "message_keys",
    metadata,
    _word("queue"),
    _bytes("digest"),
    _bytes("fingerprint"),
    _word("message_id"),
    PrimaryKeyConstraint("queue", "digest"),
)

message_history = Table(
    "message_history",
    metadata,
    *_carried(),
    _word("outcome"),
    _text("detail", nullable=True),
    _time("created_at", nullable=False),
    Column("finished_at", UtcTime, nullable=False, server_default=db_now()),
)
Index(None, message_history.c.subject)
# Raw events of providers that wait for the end of their retention (db.retention).
_partial(
    "ix_message_history_raw",
    message_history,
    "finished_at",
    where="type = 'provider.event.v1' AND sealed IS NOT NULL",
)

message_attempts = Table(
    "message_attempts",
    metadata,
    _word("message_id"),
    Column("number", Integer, nullable=False),
    _time("started_at"),
    Column("ended_at", UtcTime, nullable=False, server_default=db_now()),
    _word("outcome"),
    _word("error_class", nullable=True),
    _text("error", nullable=True),
    _word("worker", nullable=True),
    _word("provider_request_id", nullable=True),
    PrimaryKeyConstraint("message_id", "number"),
)

message_duplicates = Table(
    "message_duplicates",
    metadata,
    _id(),
    _word("message_id"),
    _word("first_state"),
    _word("request_id", nullable=True),
    _created(),
)
Index(None, message_duplicates.c.message_id)

message_conflicts = Table(
    "message_conflicts",
    metadata,
    _id(),
    _word("message_id"),
    _word("queue"),
    _word("type"),
    _word("dedup_key"),
    _word("subject"),
    _text("payload"),
    _bytes("sealed", nullable=True),
    _bytes("fingerprint"),
    _word("request_id", nullable=True),
    _created(),
    UniqueConstraint("message_id", "fingerprint"),
)

intents = Table(
    "intents",
    metadata,
    _id(),
    _word("operation"),
    _word("reference"),
    _word("message_id"),
    Column("claim_no", Integer, nullable=False),
    _time("deadline", nullable=False),
    _word("result", nullable=True),
    _time("resolved_at"),
    _created(),
    UniqueConstraint("operation", "reference"),
)

# --- the business ---------------------------------------------------------------------------------------------------

invoices = Table(
    "invoices",
    metadata,
    _id(),
    _word("crm"),
    _word("payable_type"),
    _word("external_id"),
    Column("version", Integer, nullable=False),
    _word("kind"),
    _word("deal_id", nullable=True),
    _money("amount_minor"),
    _word("currency"),
    _text("purpose"),
    _bytes("customer_sealed", nullable=True),
    _word("locale"),
    _word("manager_id", nullable=True),
    _text("manager_name", nullable=True),
    _word("created_by", nullable=True),
    _word("account"),
    _word("status"),
    _text("flags", default="[]"),
    _word("fiscal_status", default="not_required"),
    _money("paid_minor", default=0),
    _money("refunded_minor", default=0),
    _time("paid_at"),
    _word("provider_reference", nullable=True),
    _word("paid_account", nullable=True),
    _count("revision"),
    _word("request_id"),
    # The one writer of the CRM's record (a lease), and what was written and read back.
    _count("crm_revision"),
    _count("crm_check_no"),
    _word("crm_writer", nullable=True),
    _time("crm_writer_until"),
    _created(),
    _time("settled_elsewhere_at"),  # past the link, as a person said
    _word("paid_proof", nullable=True),  # of the newest capture
    UniqueConstraint("crm", "payable_type", "external_id"),
)

invoice_versions = Table(
    "invoice_versions",
    metadata,
    _ref("invoice_id", "invoices.id"),
    Column("version", Integer, nullable=False),
    _bytes("fingerprint"),
    _money("amount_minor"),
    _word("currency"),
    _text("purpose"),
    _word("message_id"),
    _created(),
    PrimaryKeyConstraint("invoice_id", "version"),
)

# A cancellation that came before its invoice, or stands against versions still on their way.
tombstones = Table(
    "tombstones",
    metadata,
    _word("crm"),
    _word("payable_type"),
    _word("external_id"),
    Column("cancelled_through", Integer, nullable=False),
    _created(),
    PrimaryKeyConstraint("crm", "payable_type", "external_id"),
)

links = Table(
    "links",
    metadata,
    _id(),
    _ref("invoice_id", "invoices.id"),
    Column("number", Integer, nullable=False),
    Column("invoice_version", Integer, nullable=False),
    _word("key_id"),
    Column("generation", Integer, nullable=False),
    _bytes("token_hash"),
    _word("state"),
    _money("amount_minor"),
    _word("currency"),
    _text("policy"),
    _time("expires_at", nullable=False),
    _time("sent_at"),
    _time("closed_at"),
    _created(),
    UniqueConstraint("token_hash"),
    UniqueConstraint("invoice_id", "number"),
)
_partial("uq_links_one_active", links, "invoice_id", where=f"state = '{LinkState.ACTIVE}'", unique=True)
_partial("ix_links_expiry", links, "expires_at", where=f"state = '{LinkState.ACTIVE}'")

# When a link's page was looked at, to the minute, and nothing of who looked. No foreign key: that would lock the link's
# row for a moment, and what is only good to know must hold nobody up.
link_views = Table(
    "link_views",
    metadata,
    _id(),
    _word("link_id"),
    _time("viewed_at", nullable=False),
    UniqueConstraint("link_id", "viewed_at"),
)

attempts = Table(
    "attempts",
    metadata,
    _id(),
    _ref("invoice_id", "invoices.id"),
    _ref("link_id", "links.id"),
    Column("number", Integer, nullable=False),
    _word("account"),
    _word("reference"),
    _word("state"),
    _word("provider_order_id", nullable=True),
    _bytes("pay_url_sealed", nullable=True),
    _money("amount_minor"),
    _word("currency"),
    _time("expires_at"),
    _count("check_no"),
    _word("check_message_id", nullable=True),
    _count("close_no"),
    _word("close_message_id", nullable=True),
    _word("error", nullable=True),
    _time("opened_at"),
    _time("ended_at"),
    _created(),
    _word("told", nullable=True),  # the state that the provider told last, in our words
    _time("told_at"),
    _word("unmatched_id", nullable=True),  # an order that was nobody's until a person assigned it
    _time("visited_at"),  # when a customer was first led to its page
    _time("declined_at"),  # when we learned that his last try there was declined, and he may try again
    _bytes("pay_fields_sealed", nullable=True),  # form fields that the customer's browser posts to the page
    _time("prechecked_at"),  # when its provider was last told that it may take the money
    _count("hold_no"),
    _word("hold_message_id", nullable=True),
    UniqueConstraint("account", "reference"),
    UniqueConstraint("link_id", "number"),
)
# The last number given to an order, for accounts whose provider takes nothing but numbers.
order_numbers = Table(
    "order_numbers",
    metadata,
    Column("account", Word, primary_key=True),
    Column("last", BigInteger, nullable=False),
)
_partial("uq_attempts_one_open", attempts, "link_id", where=_one_of("state", OPEN_ATTEMPTS), unique=True)
_partial(
    "uq_attempts_order", attempts, "account", "provider_order_id", where="provider_order_id IS NOT NULL", unique=True
)
Index(None, attempts.c.invoice_id)

transactions = Table(
    "transactions",
    metadata,
    _id(),
    _word("account"),
    _word("provider_transaction_id"),
    _word("kind"),
    _money("amount_minor"),
    _word("currency"),
    _time("occurred_at", nullable=False),
    _ref("invoice_id", "invoices.id", nullable=True),
    _ref("attempt_id", "attempts.id", nullable=True),
    _created(),
    _word("unmatched_id", nullable=True),  # the inbox that it lies in, or lay in
    _word("proof", default="look_up"),  # how we knew of it first
    UniqueConstraint("account", "kind", "provider_transaction_id"),
)
Index(None, transactions.c.invoice_id)
Index(None, transactions.c.unmatched_id)

# Orders at a provider that brought money and are nobody's: kept until a person assigns or refunds them.
unmatched = Table(
    "unmatched",
    metadata,
    _id(),
    _word("account"),
    _word("reference"),
    _word("provider_order_id"),
    _text("evidence"),  # what the provider said last; nothing personal
    _word("message_id"),  # the message that asked
    _word("rule_id"),
    _word("state"),
    _ref("invoice_id", "invoices.id", nullable=True),  # whose it became
    _word("request_id"),
    _time("closed_at"),
    _created(),
    UniqueConstraint("account", "provider_order_id"),
)
_partial("ix_unmatched_open", unmatched, "created_at", where="state = 'open'")

# Money that goes back, from the wish to the provider's answer.
refunds = Table(
    "refunds",
    metadata,
    _id(),
    _ref("invoice_id", "invoices.id", nullable=True),
    _ref("attempt_id", "attempts.id", nullable=True),
    _ref("unmatched_id", "unmatched.id", nullable=True),
    _word("account"),
    _word("reference"),
    _word("provider_order_id"),
    _money("amount_minor"),
    _word("currency"),
    _word("state"),
    _word("requested_by"),
    _word("decided_by", nullable=True),  # the second person, where one is needed
    _word("provider_transaction_id", nullable=True),
    _text("error", nullable=True),
    _word("request_id"),
    _time("ended_at"),
    _created(),
)
Index(None, refunds.c.invoice_id)
Index(None, refunds.c.unmatched_id)

# A fiscal device's counter, and the one worker that may talk to it (a lease).
fiscal_devices = Table(
    "fiscal_devices",
    metadata,
    _id("name"),
    Column("base_seq", Integer, nullable=True),  # where the counter stood when we first met it; none: not met yet
    Column("last_seq", Integer, nullable=True),  # the number that was surely used last
    _word("holder", nullable=True),
    _time("holder_until"),
    _created(),
)

# Fiscal receipts, from the wish to the number. A number (seq) is given when a receipt is sent, and taken away again
# when it surely was not printed; so there is never more than one whose end nobody knows.
fiscal_receipts = Table(
    "fiscal_receipts",
    metadata,
    _id(),
    _word("device"),
    _word("kind"),
    _word("state"),
    _ref("invoice_id", "invoices.id", nullable=True),  # none: printed past us
    _ref("transaction_id", "transactions.id", nullable=True),
    _ref("original_id", "fiscal_receipts.id", nullable=True),  # what a return returns
    _money("amount_minor"),
    _word("currency"),
    _text("purpose"),
    Column("seq", Integer, nullable=True),
    _word("number", nullable=True),
    _word("provider_request_id", nullable=True),
    _text("error", nullable=True),
    _word("message_id", nullable=True),  # the message that has it printed
    _word("request_id"),
    _time("sent_at"),
    _time("ended_at"),
    _created(),
    UniqueConstraint("transaction_id", "kind"),
    UniqueConstraint("device", "seq"),
)
Index(None, fiscal_receipts.c.invoice_id)
_partial("ix_fiscal_receipts_wanted", fiscal_receipts, "device", "id", where="state = 'wanted'")
_partial(
    "uq_fiscal_receipts_one_undecided",
    fiscal_receipts,
    "device",
    where="seq IS NOT NULL AND state <> 'issued'",
    unique=True,
)

verdicts = Table(
    "verdicts",
    metadata,
    _id(),
    _ref("invoice_id", "invoices.id"),
    _ref("attempt_id", "attempts.id"),
    _word("rule_id"),
    _word("verdict"),
    _word("status"),
    _word("evidence_digest"),
    _word("request_id"),
    _word("provider_request_id", nullable=True),
    _word("message_id", nullable=True),
    _created(),
    UniqueConstraint("attempt_id", "rule_id", "evidence_digest"),
)
Index(None, verdicts.c.invoice_id)

exceptions = Table(
    "exceptions",
    metadata,
    _id(),
    _ref("invoice_id", "invoices.id"),
    _word("reason"),
    Column("episode", Integer, nullable=False),
    _word("state"),
    _text("detail"),
    _word("task_id", nullable=True),
    _word("task_state", default="none"),
    _word("request_id"),
    _time("closed_at"),
    _created(),
    _word("resolution", nullable=True),  # by_word: a person closed it by saying so
    UniqueConstraint("invoice_id", "reason", "episode"),
)
_partial("uq_exceptions_one_open", exceptions, "invoice_id", "reason", where="state = 'open'", unique=True)

# --- the doors ------------------------------------------------------------------------------------------------------

rejections = Table(
    "rejections",
    metadata,
    _id(),
    _word("channel"),
    _word("routing_key", nullable=True),
    _word("sender", nullable=True),
    _word("event_source", nullable=True),
    _word("event_id", nullable=True),
    _word("event_type", nullable=True),
    _text("problems"),
    _bytes("body_sealed"),
    Column("body_bytes", Integer, nullable=False),
    # What came, from whom and which way: the same again while it is open is counted, not kept twice.
    _bytes("digest"),
    _count("repeats"),
    _word("state", default="open"),
    _word("message_id", nullable=True),
    _time("resolved_at"),
    _created(),
)
_partial("ix_rejections_open", rejections, "created_at", where="state = 'open'")
_partial("uq_rejections_one_open", rejections, "digest", where="state = 'open'", unique=True)

# What became of the events that came for each account, by day.
event_counts = Table(
    "event_counts",
    metadata,
    _word("account"),
    _word("day"),
    _word("kind"),
    Column("count", BigInteger, nullable=False),
    PrimaryKeyConstraint("account", "day", "kind"),
)

api_keys = Table(
    "api_keys",
    metadata,
    _id(),
    _word("name"),
    _bytes("secret_hash"),
    _text("crms"),
    _time("revoked_at"),
    _created(),
    UniqueConstraint("secret_hash"),
)

audit = Table(
    "audit",
    metadata,
    _id(),
    _word("actor"),
    _word("action"),
    _word("subject"),
    _text("reason"),
    _word("request_id"),
    _text("detail", default="{}"),
    _created(),
)
Index(None, audit.c.subject)
Index(None, audit.c.created_at)

# The chain over the trail (db.audit_chain). Neither refers to audit by a key: a row that is gone must leave its digest.
audit_seals = Table(
    "audit_seals",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    _bytes("previous"),
    _bytes("digest"),
    Column("row_count", Integer, nullable=False),
    _time("newest_at", nullable=False),
    _created(),
)

audit_sealed = Table(
    "audit_sealed",
    metadata,
    _id("audit_id"),
    Column("seal_number", Integer, nullable=False),
    Column("place", Integer, nullable=False),
    _bytes("row_digest"),
    UniqueConstraint("seal_number", "place"),
)
