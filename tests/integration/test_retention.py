"""Raw events and rejected bodies lie sealed, and are erased when their retention is over; their rows stay."""

import base64
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import text

from contracts.messages import ProviderEventReceived
from db import dead_letters, message_store, privacy, rejections, retention, timeline
from db.message_store import Duplicate
from db.prove import prove
from db.rejections import Refusal
from rules.verdicts import Reason
from runtime.deps import Deps
from runtime.settings import RetentionSettings, load_settings
from tests.commands import run, use_settings
from tests.office_desk import open_order
from tests.shop import accept, due_now, open_shop, the_invoice, work
from tests.support import DATA_KEY, put
from workers.retention import erase_old

CARD = "4111111111111111"
RAW = {"query", "headers", "body_base64"}
KEPT = RetentionSettings(raw_events=timedelta(days=90), rejected_bodies=timedelta(days=30))


@pytest.fixture
def deps(clean_url: str) -> Iterator[Deps]:
    with open_shop(clean_url, retention=KEPT) as made:
        accept(made)
        yield made


def an_event(receipt: str, body: str, account: str = "shop") -> ProviderEventReceived:
    return ProviderEventReceived(
        account=account,
        receipt=receipt,
        received_at=datetime.now(UTC),
        query=f"pan={CARD}",
        headers={"x-card": CARD},
        body_base64=base64.b64encode(body.encode()).decode(),
    )


def ended(deps: Deps, receipt: str) -> str:
    """Let an event come and be read; return its message's id."""
    (added,) = put(deps.database, an_event(receipt, open_order(deps).reference))
    work(deps, "webhook-verification", rounds=1, hurry=False)
    assert state(deps, added.message_id) == "done"
    return added.message_id


def state(deps: Deps, message_id: str) -> str:
    with deps.database.read() as tx:
        return message_store.state_of(tx, message_id)


def shown(deps: Deps, message_id: str, *, reveal: bool = False) -> dict[str, Any]:
    with deps.database.read() as tx:
        row = dead_letters.find(tx, message_id)
        assert row is not None
        return dead_letters.payload(tx, row, reveal=reveal)


def age(deps: Deps, days: int) -> None:
    """Let everything that has ended have ended so long ago."""
    at = datetime.now(UTC) - timedelta(days=days)
    with deps.database.begin() as tx:
        tx.execute(text("UPDATE message_history SET finished_at = :at"), {"at": _as_text(deps, at)})
        tx.execute(text("UPDATE rejections SET resolved_at = :at WHERE state <> 'open'"), {"at": _as_text(deps, at)})


def _as_text(deps: Deps, at: datetime) -> object:
    return at.strftime("%Y-%m-%d %H:%M:%S.%f") if deps.database.is_sqlite else at


def test_the_raw_part_of_an_event_is_sealed_and_nothing_of_it_lies_open(deps: Deps) -> None:
    id_ = ended(deps, "e-1")
    with deps.database.read() as tx:
        row = dead_letters.find(tx, id_)
        assert row is not None
        assert set(json.loads(row.payload)) == {"account", "receipt", "received_at"}
        assert CARD.encode() not in bytes(row.sealed)
        assert set(tx.sealer.open_json(bytes(row.sealed))) == RAW


def test_an_old_event_loses_its_raw_part_and_nothing_else(deps: Deps) -> None:
    id_ = ended(deps, "e-1")
    age(deps, 89)
    erase_old(deps)
    assert shown(deps, id_) == shown(deps, id_) | dict.fromkeys(RAW, "[sealed]")
    age(deps, 91)
    erase_old(deps)
    erase_old(deps)

    assert shown(deps, id_, reveal=True) == shown(deps, id_) == shown(deps, id_) | dict.fromkeys(RAW, "[erased]")
    with deps.database.read() as tx:
        assert [one.outcome for one in message_store.attempts_of(tx, id_)] == ["done"]
        entries = timeline.of(tx, the_invoice(deps).id).entries
    (told,) = (one for one in entries if one.what == "message" and one.facts["id"] == id_)
    assert (told.facts["raw"], told.text.endswith("raw event [erased]")) == ("[erased]", True)
    (again,) = put(deps.database, an_event("e-1", "whatever"))
    assert again == Duplicate(id_, "done")
    assert privacy.find(deps.database, "ani@example.am").unopened == 0
    assert [one for found in prove(deps.database).values() for one in found.breaches] == []


def test_what_is_live_or_dead_keeps_its_raw_part_however_old(deps: Deps) -> None:
    live, dead = (
        put(deps.database, an_event(name, "nobody's"), delay_seconds=3600)[0].message_id for name in ("live", "dead")
    )
    old = datetime.now(UTC) - timedelta(days=1000)
    with deps.database.begin() as tx:
        tx.execute(text("UPDATE messages SET created_at = :at"), {"at": _as_text(deps, old)})
        tx.execute(text("UPDATE messages SET state = 'dead' WHERE id = :id"), {"id": dead})
    erase_old(deps)
    assert shown(deps, live)["body_base64"] == shown(deps, dead)["body_base64"] == "[sealed]"
    assert shown(deps, dead, reveal=True)["headers"] == {"x-card": CARD}
    with deps.database.begin() as tx:
        message_store.discard(tx, dead, "given up")
    age(deps, 91)
    erase_old(deps)
    assert shown(deps, dead)["body_base64"] == "[erased]"


def test_messages_that_are_no_raw_events_keep_what_they_say(deps: Deps) -> None:
    with deps.database.read() as tx:
        before = tx.execute(text("SELECT count(*) FROM message_history WHERE sealed IS NOT NULL")).scalar_one()
    age(deps, 1000)
    erase_old(deps)
    with deps.database.read() as tx:
        assert tx.execute(text("SELECT count(*) FROM message_history WHERE sealed IS NOT NULL")).scalar_one() == before


def test_batches_are_bounded_and_two_relays_erase_everything_once(deps: Deps) -> None:
    reference = open_order(deps).reference
    put(deps.database, *(an_event(f"e-{number}", reference) for number in range(7)))
    work(deps, "webhook-verification", rounds=2)
    due_now(deps)
    age(deps, 91)
    counts = []
    for _ in range(2):
        with deps.database.begin() as tx:
            counts.append(retention.erase_raw_events(tx, older_than_seconds=90 * 86_400, limit=2))
    relays = [threading.Thread(target=erase_old, args=(deps,)) for _ in range(2)]
    for relay in relays:
        relay.start()
    for relay in relays:
        relay.join()
    with deps.database.read() as tx:
        left = tx.execute(
            text("SELECT count(*) FROM message_history WHERE type = 'provider.event.v1' AND sealed IS NOT NULL")
        ).scalar_one()
    assert (counts, left) == ([2, 2], 0)


def test_without_a_retention_nothing_is_ever_erased(clean_url: str) -> None:
    with open_shop(clean_url) as deps:
        accept(deps)
        id_ = ended(deps, "e-1")
        age(deps, 10_000)
        erase_old(deps)
        assert shown(deps, id_)["body_base64"] == "[sealed]"


def test_a_rejected_body_is_erased_once_a_person_is_done_with_it(
    deps: Deps, clean_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def kept(body: bytes) -> str:
        refusal = Refusal("amqp", None, None, None, None, None, (), body, len(body))
        with deps.database.begin() as tx:
            return rejections.keep(tx, [refusal])[0][0]

    waiting, done = kept(b"open " + CARD.encode()), kept(b"done " + CARD.encode())
    with deps.database.begin() as tx:
        rejections.discard(tx, done, actor="karen", reason="spam")
    age(deps, 31)
    erase_old(deps)
    erase_old(deps)
    with deps.database.begin() as tx:
        bodies = [rejections.show(tx, one, actor="karen", reason="look") for one in (waiting, done)]
    assert [one.body if one else None for one in bodies] == [b"open " + CARD.encode(), b""]
    assert [one.is_cut for one in bodies if one] == [False, True]
    keys = {"data_keys": [DATA_KEY], "link_keys": [{"id": "k1", "secret": "s" * 32}]}
    use_settings(monkeypatch, tmp_path, {"database_url": clean_url, **keys})
    assert "[erased]" in run("intake", "rejected", "show", done, "--reason", "look").stdout


def test_commands_show_raw_events_sealed_and_say_when_they_are_gone(
    deps: Deps, clean_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys = {"data_keys": [DATA_KEY], "link_keys": [{"id": "k1", "secret": "s" * 32}]}
    use_settings(monkeypatch, tmp_path, {"database_url": clean_url, **keys})
    id_ = ended(deps, "e-1")
    for word in ("[sealed]", "[erased]"):
        for told in (run("dead", "show", id_), run("invoice", "show", "I-1"), run("invoice", "show", "I-1", "--json")):
            assert (told.exit_code, word in told.stdout, CARD in told.output) == (0, True, False)
        age(deps, 91)
        erase_old(deps)
    assert Reason.DEAD_LETTER not in run("invoice", "show", "I-1").stdout


def test_a_retention_of_less_than_a_day_is_a_mistake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="too short"):
        RetentionSettings.model_validate({"raw_events": "PT5M"})
    keys = {"data_keys": [DATA_KEY], "link_keys": [{"id": "k1", "secret": "s" * 32}]}
    raw = {"database_url": "sqlite:///x.db", **keys, "retention": {"raw_events": "P90D"}}
    use_settings(monkeypatch, tmp_path, raw)
    assert load_settings().retention == RetentionSettings(raw_events=timedelta(days=90))
