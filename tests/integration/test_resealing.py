"""A data key is changed without a stop: everything is sealed anew, and the old key may go."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from contracts.messages import InvoiceCreated
from db import invoices, rejections, resealing
from db.database import Database
from db.rejections import Refusal
from db.sealing import Sealer, new_key
from runtime.deps import Deps
from tests.commands import run, use_settings
from tests.office_desk import open_order
from tests.shop import accept, open_shop, work
from tests.support import DATA_KEY, put

NEW = new_key()
CUSTOMER = {"name": "Ani", "email": "ani@example.am"}


@pytest.fixture
def deps(clean_url: str) -> Iterator[Deps]:
    """An installation with something in the sealed columns, all of it under the old key."""
    with open_shop(clean_url) as made:
        accept(made)
        open_order(made)
        data = {"crm": "office", "version": 1, "amount_minor": 100, "currency": "AMD", "purpose": "p"}
        for number in range(5):
            put(made.database, InvoiceCreated.parse(data | {"invoice_id": f"I-{number}x", "customer": CUSTOMER}))
        work(made, "link-creation", rounds=1, hurry=False)
        with made.database.begin() as tx:
            rejections.keep(tx, [Refusal("amqp", None, None, None, None, None, (), b"{", 1)])
        yield made


def sealed(database: Database) -> list[bytes]:
    with database.read() as tx:
        columns = resealing.sealed_columns()
        return [bytes(one) for column in columns for one in tx.execute(select(column)).scalars() if one is not None]


def test_everything_is_sealed_anew_and_the_old_key_may_go(
    deps: Deps, clean_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = sealed(deps.database)
    settings = {"database_url": clean_url, "link_keys": [{"id": "k1", "secret": "s" * 32}]}
    use_settings(monkeypatch, tmp_path, settings | {"data_keys": [NEW, DATA_KEY]})
    told = json.loads(run("privacy", "reseal", "--json").stdout)
    assert (sum(told["resealed"].values()), told["unopened"]) == (len(before), 0)
    assert {"invoices.customer_sealed", "attempts.pay_url_sealed", "rejections.body_sealed"} <= set(told["resealed"])

    database = Database(clean_url, Sealer([NEW]))
    try:
        assert [one for one in sealed(database) if not database.sealer.is_newest(one)] == []
        with database.read() as tx:
            invoice = invoices.find(tx, "office", "I-3x")
            assert invoice is not None
            assert tx.sealer.open_json(bytes(invoice.customer_sealed)) == CUSTOMER | {"locale": "en"}
        assert resealing.reseal(database) == resealing.Resealed()
    finally:
        database.dispose()


def test_it_goes_in_portions_and_may_be_repeated(deps: Deps, clean_url: str) -> None:
    database = Database(clean_url, Sealer([NEW, DATA_KEY]))
    try:
        assert resealing.reseal(database, portion=2).counts.total() == len(sealed(deps.database))
        assert resealing.reseal(database, portion=2).counts.total() == 0
    finally:
        database.dispose()


def test_what_no_key_opens_stays_as_it_is_and_is_told(
    deps: Deps, clean_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = sealed(deps.database)
    settings = {"database_url": clean_url, "link_keys": [{"id": "k1", "secret": "s" * 32}]}
    use_settings(monkeypatch, tmp_path, settings | {"data_keys": [NEW]})
    result = run("privacy", "reseal")
    assert (result.exit_code, sealed(deps.database)) == (5, before)
