"""What tests of the doors share: settings with two CRMs and an account, and events as a CRM sends them."""

import json
from collections.abc import Sequence
from typing import Any

import psycopg
from pydantic import SecretStr

from db.database import Database
from db.message_store import Claimed
from db.schema import metadata
from db.sealing import Sealer, new_key
from runtime.deps import Deps
from runtime.inbound import Incoming
from runtime.settings import AccountSettings, CrmSettings, LinkKey, Settings
from runtime.tokens import LinkTokens
from tests.services.postgres import conninfo
from tests.support import DATA_KEY, set_guards

# Two CRMs: anybody may speak for the first by AMQP, only the user guest for the second, nobody for the third.
ACME, BOUND, FOREIGN = "acme", "bound", "foreign"


def make_settings(database_url: str = "sqlite://", **overrides: Any) -> Settings:
    """Settings of a deployment with three CRMs and one provider account."""
    crm = {"adapter": "sandbox", "base_url": "http://127.0.0.1:1", "token": SecretStr("t")}
    return Settings(
        database_url=database_url,
        data_keys=(SecretStr(DATA_KEY),),
        link_keys=(LinkKey(id="k1", secret=SecretStr(new_key())),),
        accounts={"bank": AccountSettings(adapter="sandbox", base_url="http://127.0.0.1:1", api_key=SecretStr("k"))},
        crms={
            ACME: CrmSettings(**crm),
            BOUND: CrmSettings(**crm, amqp_users=("guest",)),
            FOREIGN: CrmSettings(**crm, amqp_users=("nobody",)),
        },
        routing={"*": "bank"},
        **overrides,
    )


def make_deps(settings: Settings) -> Deps:
    """Dependencies without gateways: the doors call nobody."""
    sealer = Sealer([key.get_secret_value() for key in settings.data_keys])
    tokens = LinkTokens(
        [(key.id, key.secret.get_secret_value()) for key in settings.link_keys], settings.public_base_url
    )
    return Deps(settings, Database(settings.database_url, sealer), tokens, providers={}, crms={})


def invoice(number: int | str = 1, **changes: Any) -> dict[str, Any]:
    """The data of a good invoice; a change to None leaves the field out."""
    data = {
        "crm": ACME,
        "invoice_id": f"INV-{number}",
        "version": 1,
        "amount_minor": 1_500_000,
        "currency": "AMD",
        "purpose": "Կանխավճար, договор 17",
        "customer": {"name": "Ani", "email": "ani@example.am", "locale": "hy"},
    } | changes
    return {name: value for name, value in data.items() if value is not None}


def event(data: dict[str, Any] | None = None, /, **changes: Any) -> dict[str, Any]:
    """A CloudEvent around an invoice, or around other data; a change to None leaves the attribute out."""
    data = invoice() if data is None else data
    envelope = {
        "specversion": "1.0",
        "id": f"event-{data.get('invoice_id', 'x')}-{data.get('version', 'x')}",
        "source": "/crm/acme",
        "type": "invoice.created.v1",
        "data": data,
    } | changes
    return {name: value for name, value in envelope.items() if value is not None}


def by_amqp(body: bytes | dict[str, Any], routing_key: str = "invoice.created", **more: Any) -> Incoming:
    """A body as the AMQP door hands it over."""
    return Incoming(body=as_bytes(body), channel="amqp", routing_key=routing_key, **more)


def by_http(body: bytes | dict[str, Any], crms: Sequence[str] = (ACME,), **more: Any) -> Incoming:
    """A body as the HTTP door hands it over."""
    return Incoming(body=as_bytes(body), channel="http", crms=frozenset(crms), sender="key-1", **more)


def as_bytes(body: bytes | dict[str, Any]) -> bytes:
    """JSON, unless it is bytes already."""
    return body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()


def rows(database: Database, statement: str) -> list[tuple[Any, ...]]:
    """Read rows by SQL."""
    with database.read() as tx:
        return [tuple(row) for row in tx.connection.exec_driver_sql(statement)]


def wipe(url: str) -> None:
    """Empty every table of a migrated PostgreSQL database, the audit trail too."""
    tables = ", ".join(table.name for table in metadata.sorted_tables)
    with psycopg.connect(conninfo(url), autocommit=True) as connection:
        set_guards(connection, "DISABLE")
        connection.execute(f"TRUNCATE {tables}")
        set_guards(connection, "ENABLE")


def stored(database: Database) -> list[str]:
    """The subjects of all live messages from outside, in order."""
    found = "SELECT subject FROM messages WHERE type IN ('invoice.created.v1', 'invoice.cancelled.v1') ORDER BY subject"
    return [subject for (subject,) in rows(database, found)]


def opened(database: Database, claimed: Claimed) -> Any:
    """The typed message of a claim."""
    return claimed.message(database.sealer)
