"""Taking bodies in, on PostgreSQL and SQLite: what becomes of each, whatever its neighbours are."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from contracts.catalog import inbound_model
from contracts.envelope import MAX_BODY_BYTES
from contracts.messages import IntakeRejected, InvoiceAccepted, InvoiceCreated, ProviderEventReceived
from db import invoices, message_store, rejections
from db.message_store import Added
from db.rejections import NotOpen
from db.tx import Cause
from runtime.deps import Deps
from runtime.inbound import Incoming
from runtime.intake import Taken, replay, take
from tests.doors import (
    ACME,
    FOREIGN,
    by_amqp,
    by_http,
    event,
    invoice,
    make_deps,
    make_settings,
    opened,
    rows,
    stored,
    wipe,
)
from tests.support import claim, finish, open_database


@pytest.fixture(params=["postgresql", "sqlite"])
def deps(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deps]:
    if request.param == "postgresql":
        url = request.getfixturevalue("wiped_postgres")
    else:
        url = f"sqlite:///{tmp_path / 'store.db'}"
        open_database(url).dispose()
    made = make_deps(make_settings(url))
    yield made
    made.database.dispose()


@pytest.fixture(scope="module")
def migrated_postgres(postgres_url: str) -> str:
    open_database(postgres_url).dispose()
    return postgres_url


@pytest.fixture
def wiped_postgres(migrated_postgres: str) -> str:
    """Emptying a database is quicker than making one for each test."""
    wipe(migrated_postgres)
    return migrated_postgres


def outcomes(taken: list[Taken]) -> list[str]:
    return [item.outcome for item in taken]


def announced(deps: Deps) -> list[IntakeRejected]:
    return [opened(deps.database, claimed) for claimed in claim(deps.database, IntakeRejected)]


# --- good ones ------------------------------------------------------------------------------------------------------


def test_a_batch_is_taken_together_and_told_one_by_one(deps: Deps) -> None:
    taken = take(deps, [by_amqp(event(invoice(n))) for n in (3, 1, 2)])

    assert outcomes(taken) == ["accepted"] * 3
    assert [item.message.subject() for item in taken if item.message] == [f"acme:invoice:INV-{n}" for n in (3, 1, 2)]
    assert stored(deps.database) == [f"acme:invoice:INV-{n}" for n in (1, 2, 3)]
    assert {item.message_id for item in taken} == {row[0] for row in rows(deps.database, "SELECT id FROM messages")}


def test_the_same_again_is_a_duplicate_and_its_first_ones_state_is_told(deps: Deps) -> None:
    (first,) = take(deps, [by_amqp(event())])
    (again,) = take(deps, [by_amqp(event(id="another-event"))])
    (claimed,) = claim(deps.database, InvoiceCreated)
    finish(deps.database, claimed)
    (later,) = take(deps, [by_http(invoice())])

    assert (again.outcome, again.first_state, again.message_id) == ("duplicate", "ready", first.message_id)
    assert (later.outcome, later.first_state) == ("duplicate", "done")


def test_the_same_three_times_in_one_batch_is_one_message(deps: Deps) -> None:
    assert outcomes(take(deps, [by_amqp(event())] * 3)) == ["accepted", "duplicate", "duplicate"]
    assert len(stored(deps.database)) == 1


def test_the_same_by_amqp_and_http_at_the_same_moment_is_one_message(deps: Deps) -> None:
    for body in (event(), event(invoice(2, version=None))):
        ways = [by_amqp(body), by_amqp(body), by_http(body), by_amqp(body), by_http(body), by_http(body)]
        barrier = threading.Barrier(len(ways))

        def send(incoming: Incoming, barrier: threading.Barrier = barrier) -> Taken:
            barrier.wait()
            return take(deps, [incoming])[0]

        with ThreadPoolExecutor(len(ways)) as pool:
            taken = list(pool.map(send, ways))

        assert sorted(outcomes(taken)) == ["accepted", *["duplicate"] * 5]
        assert len({item.message_id for item in taken}) == 1
    assert len(stored(deps.database)) == 2


def test_personal_fields_are_sealed_and_the_story_has_the_senders_ids(deps: Deps) -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    take(deps, [by_amqp(event(requestid="r-1"), traceparent=trace)])

    ((payload, request_id, traceparent),) = rows(deps.database, "SELECT payload, request_id, traceparent FROM messages")
    assert "ani@example.am" not in payload
    assert (request_id, traceparent) == ("r-1", trace)
    (claimed,) = claim(deps.database, InvoiceCreated)
    assert opened(deps.database, claimed).customer.email == "ani@example.am"


def test_an_invoice_without_a_version_is_one_wish_per_event(deps: Deps) -> None:
    first, changed = event(invoice(version=None), id="e-1"), event(invoice(version=None, amount_minor=5), id="e-2")

    taken = take(deps, [by_amqp(first), by_amqp(changed), by_amqp(first)])

    assert outcomes(taken) == ["accepted", "accepted", "duplicate"]


def test_an_idempotency_key_makes_the_repeat_of_a_request_a_duplicate(deps: Deps) -> None:
    data = invoice(version=None)
    taken = take(deps, [by_http(data, idempotency_key=key) for key in ("k-1", "k-1", "k-2")])
    assert outcomes(taken) == ["accepted", "duplicate", "accepted"]


def test_a_forwarded_provider_event_is_kept_sealed_and_once(deps: Deps) -> None:
    body = event({"account": "bank", "headers": {"x-signature": "s"}, "body_base64": "/wA="}, type="provider.event.v1")
    taken = take(deps, [by_amqp(body, "provider.event"), by_amqp(body, "provider.event")])

    assert outcomes(taken) == ["accepted", "duplicate"]
    (claimed,) = claim(deps.database, ProviderEventReceived)
    assert "x-signature" not in claimed.payload
    assert opened(deps.database, claimed).body_base64 == "/wA="


# --- conflicts ------------------------------------------------------------------------------------------------------


def test_other_content_of_a_version_is_kept_and_sent_on_once_per_content(deps: Deps) -> None:
    first, second, third = (event(invoice(amount_minor=amount)) for amount in (100, 200, 300))

    taken = take(deps, [by_amqp(body) for body in (first, second, third, second, first)])
    taken += take(deps, [by_http(second)])

    assert outcomes(taken) == ["accepted", "conflict", "conflict", "conflict", "duplicate", "conflict"]
    assert {item.message_id for item in taken} == {taken[0].message_id}
    # The stage decides under the invoice's lock: it sees each content once.
    claimed = [opened(deps.database, one) for one in claim(deps.database, InvoiceCreated)]
    assert sorted((one.amount_minor, one.wish[:9]) for one in claimed) == [
        (100, ""),
        (200, "conflict-"),
        (300, "conflict-"),
    ]
    assert len(rows(deps.database, "SELECT id FROM message_conflicts")) == 2
    assert rows(deps.database, "SELECT id FROM rejections") == []


def test_an_event_name_used_twice_is_reviewed_and_by_http_refused(deps: Deps) -> None:
    first, second = (event(invoice(version=None, amount_minor=amount), id="e-1") for amount in (100, 200))

    by_queue = take(deps, [by_amqp(first), by_amqp(second)])
    by_request = take(deps, [by_http(second)])
    with_key = take(deps, [by_http(invoice(9, version=None, amount_minor=n), idempotency_key="k") for n in (1, 2)])

    assert outcomes(by_queue + by_request) == ["accepted", "conflict", "conflict"]
    assert [problem.field for problem in by_queue[1].problems] == ["id"]
    assert outcomes(with_key) == ["accepted", "conflict"]
    assert [problem.field for problem in with_key[1].problems] == ["Idempotency-Key"]
    assert rows(deps.database, "SELECT id, event_id FROM rejections") == [(by_queue[1].rejection_id, "e-1")]
    assert len(stored(deps.database)) == 2


# --- bad ones -------------------------------------------------------------------------------------------------------


def bad_ones() -> list[Incoming]:
    return [
        by_amqp(b"not JSON", message_id="m-1"),
        by_amqp(b"\xff\xfe"),
        by_amqp(b'{"id": "e-3", "data": {"x": "\\u0000"}}'),
        by_amqp(b'{"id": "e-4", "data": {"x": "\\ud800"}}'),
        by_amqp(b"[" * 100_000),
        by_amqp(event(type="invoice.paid.v1"), routing_key="a\x00b"),
        by_amqp(event(invoice(amount_minor=-5))),
        by_amqp(event(invoice(crm=FOREIGN)), sender="gu\x00est"),
        by_amqp(event(), content_type="text/xml"),
        by_amqp(b'{"a": "' + b"x" * 10_000_000 + b'"}', message_id="big"),
    ]


def test_bad_bodies_are_kept_sealed_announced_and_do_not_touch_their_neighbours(deps: Deps) -> None:
    bad = bad_ones()
    batch = [one for n, item in enumerate(bad) for one in (item, by_amqp(event(invoice(n))))]

    taken = take(deps, batch)

    assert outcomes(taken[0::2]) == ["rejected"] * len(bad)
    assert outcomes(taken[1::2]) == ["accepted"] * len(bad)
    with deps.database.read() as tx:
        listed = rejections.listed(tx)
        assert rejections.open_count(tx) == len(bad)
    assert {row.id for row in listed} == {item.rejection_id for item in taken[0::2]}
    assert all(rejections.problems_of(row) for row in listed)
    told = {one.rejection: one for one in announced(deps)}
    assert set(told) == {row.id for row in listed}
    assert told[taken[0].rejection_id or ""].event_id == "m-1"
    assert told[taken[4 * 2].rejection_id or ""].problems == ("body: nested deeper than 32 levels",)


def test_a_body_over_the_limit_is_kept_cut_with_a_note(deps: Deps) -> None:
    (taken,) = take(deps, [bad_ones()[-1]])

    with deps.database.begin() as tx:
        kept = rejections.show(tx, taken.rejection_id or "", actor="ani", reason="support")
    assert kept is not None
    assert kept.is_cut
    assert (len(kept.body), kept.body_bytes) == (MAX_BODY_BYTES, 10_000_009)
    assert kept.problems[-1].problem == f"only its first {MAX_BODY_BYTES} of 10000009 bytes were kept"
    assert kept.event_id == "big"
    assert rows(deps.database, "SELECT actor, action, reason FROM audit") == [("ani", "intake.shown", "support")]


def test_the_same_bad_body_for_ever_fills_no_table_and_is_announced_once(deps: Deps) -> None:
    taken = [item for _ in range(5) for item in take(deps, [by_amqp(b"not JSON", message_id="m-1")] * 4)]
    other = take(deps, [by_amqp(b"not JSON", message_id="m-1", routing_key="another")])

    assert len({item.rejection_id for item in taken}) == 1
    assert other[0].rejection_id != taken[0].rejection_id
    assert sorted(rows(deps.database, "SELECT repeats FROM rejections")) == [(0,), (19,)]
    assert len(announced(deps)) == 2


def test_over_http_a_refused_body_is_not_kept(deps: Deps) -> None:
    taken = take(deps, [by_http(b"not JSON"), by_http(invoice(crm=FOREIGN))])

    assert [(item.outcome, item.rejection_id, item.forbidden) for item in taken] == [
        ("rejected", None, False),
        ("rejected", None, True),
    ]
    assert rows(deps.database, "SELECT id FROM rejections") == []


def test_a_row_that_the_database_refuses_goes_to_review_and_its_neighbours_are_accepted(deps: Deps) -> None:
    # An index that lets no two messages of invoice 3 live.
    unique = "CREATE UNIQUE INDEX poison ON messages (subject) WHERE subject = 'acme:invoice:INV-3'"
    with deps.database.begin() as tx:
        tx.connection.exec_driver_sql(unique)
    take(deps, [by_amqp(event(invoice(3, version=7)))])

    try:
        taken = take(deps, [by_amqp(event(invoice(n))) for n in range(1, 6)])
    finally:
        with deps.database.begin() as tx:
            tx.connection.exec_driver_sql("DROP INDEX poison")
        deps.database.engine.dispose()  # after it psycopg deallocates what that connection prepared

    assert outcomes(taken) == ["accepted", "accepted", "rejected", "accepted", "accepted"]
    assert "could not be stored (" in taken[2].problems[0].problem
    assert stored(deps.database) == [f"acme:invoice:INV-{n}" for n in (1, 2, 3, 4, 5)]
    assert [one.event_id for one in announced(deps)] == ["event-INV-3-1"]


def test_a_body_that_nobody_thought_of_is_a_rejection_too(deps: Deps) -> None:
    class Odd(bytes):
        def decode(self, *_: Any, **__: Any) -> str:
            raise ZeroDivisionError

    taken = take(deps, [by_amqp(Odd(b"{}")), by_amqp(event())])

    assert outcomes(taken) == ["rejected", "accepted"]
    assert "could not be read (ZeroDivisionError)" in taken[0].problems[0].problem


def test_nothing_is_taken_while_the_database_is_away(deps: Deps) -> None:
    away = make_deps(make_settings("postgresql+psycopg://nobody@127.0.0.1:1/none"))
    with pytest.raises(OperationalError):
        take(away, [by_amqp(event()), by_amqp(b"not JSON")])
    assert take(deps, []) == []


# --- locks ----------------------------------------------------------------------------------------------------------


def test_a_key_that_another_transaction_holds_is_waited_for(wiped_postgres: str) -> None:
    deps = make_deps(make_settings(wiped_postgres))
    first = inbound_model("invoice.created.v1").parse(invoice())
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(ZeroDivisionError), deps.database.begin(Cause.new()) as tx:
            assert isinstance(message_store.add(tx, first), Added)
            waiting = pool.submit(take, deps, [by_amqp(event(invoice(2))), by_amqp(event())])
            time.sleep(2.6)  # longer than one lock time-out
            assert not waiting.done()
            raise ZeroDivisionError
        # The other one rolled back: the key is ours.
        assert outcomes(waiting.result(timeout=10)) == ["accepted", "accepted"]
    deps.database.dispose()


def test_many_batches_that_hold_the_same_invoices_in_any_order_all_get_through(deps: Deps) -> None:
    bodies = [by_amqp(event(invoice(n))) for n in range(20)]
    clashes = [by_amqp(event(invoice(n, amount_minor=7))) for n in range(20)]
    bad = [by_amqp(b"bad %d" % n) for n in range(5)]
    batches = [(bodies + clashes + bad)[k:] + (bodies + clashes + bad)[:k] for k in range(0, 45, 6)]

    with ThreadPoolExecutor(len(batches)) as pool:
        taken = [item for batch in pool.map(lambda batch: take(deps, batch), batches) for item in batch]

    assert outcomes(taken).count("accepted") == 20
    assert outcomes(taken).count("rejected") == 5 * len(batches)
    assert len(stored(deps.database)) == 40
    assert len(rows(deps.database, "SELECT id FROM rejections")) == 5


# --- review ---------------------------------------------------------------------------------------------------------


def kept(deps: Deps, incoming: Incoming) -> str:
    rejection_id = take(deps, [incoming])[0].rejection_id
    assert rejection_id is not None
    return rejection_id


def state_of(deps: Deps, rejection_id: str) -> tuple[Any, ...]:
    (row,) = rows(deps.database, f"SELECT state, message_id FROM rejections WHERE id = '{rejection_id}'")
    return row


def test_an_edited_body_is_replayed_and_who_did_it_is_written_down(deps: Deps) -> None:
    rejection_id = kept(deps, by_amqp(event(invoice(amount_minor=10.5)), sender="guest"))

    taken = replay(deps, rejection_id, actor="ani", reason="decimals", body=by_amqp(event()).body)

    assert (taken.outcome, taken.rejection_id) == ("accepted", rejection_id)
    assert state_of(deps, rejection_id) == ("replayed", taken.message_id)
    ((actor, action, subject, reason, detail),) = rows(
        deps.database, "SELECT actor, action, subject, reason, detail FROM audit"
    )
    assert (actor, action, subject, reason) == ("ani", "intake.replayed", rejection_id, "decimals")
    assert '"edited": true' in detail
    with pytest.raises(NotOpen, match="replayed already"):
        replay(deps, rejection_id, actor="ani", reason="again")


def test_the_original_is_replayed_once_what_was_missing_is_there(deps: Deps) -> None:
    rejection_id = kept(deps, by_amqp(event(invoice(crm="new-crm"))))
    assert replay(deps, rejection_id, actor="ani", reason="too early").outcome == "rejected"
    assert state_of(deps, rejection_id) == ("open", None)

    crms = {**deps.settings.crms, "new-crm": deps.settings.crms[ACME]}
    configured = replace(deps, settings=deps.settings.model_copy(update={"crms": crms}))
    taken = replay(configured, rejection_id, actor="ani", reason="CRM configured")

    assert taken.outcome == "accepted"
    assert state_of(deps, rejection_id) == ("replayed", taken.message_id)


def test_a_replayed_provider_event_keeps_the_time_when_it_came(deps: Deps) -> None:
    body = event({"account": "new-bank", "body_base64": "aGk="}, type="provider.event.v1")
    rejection_id = kept(deps, by_amqp(body, "provider.event"))
    ((created_at,),) = rows(deps.database, "SELECT created_at FROM rejections")
    accounts = {"new-bank": deps.settings.accounts["bank"]}
    configured = replace(deps, settings=deps.settings.model_copy(update={"accounts": accounts}))

    replay(configured, rejection_id, actor="ani", reason="account configured")

    (claimed,) = claim(deps.database, ProviderEventReceived)
    assert str(opened(deps.database, claimed).received_at)[:22] == str(created_at)[:22]


def test_a_body_that_was_cut_is_not_replayed_as_it_is(deps: Deps) -> None:
    rejection_id = kept(deps, bad_ones()[-1])
    taken = replay(deps, rejection_id, actor="ani", reason="try")
    assert taken.outcome == "rejected"
    assert "give the whole body" in taken.problems[0].problem


def test_a_discarded_body_comes_back_as_a_new_rejection(deps: Deps) -> None:
    rejection_id = kept(deps, by_amqp(b"not JSON"))
    with deps.database.begin() as tx:
        rejections.discard(tx, rejection_id, actor="ani", reason="a test")

    assert state_of(deps, rejection_id)[0] == "discarded"
    assert kept(deps, by_amqp(b"not JSON")) != rejection_id
    assert len(announced(deps)) == 2
    with pytest.raises(NotOpen, match="discarded already"), deps.database.begin() as tx:
        rejections.discard(tx, rejection_id, actor="ani", reason="again")
    with pytest.raises(NotOpen, match="no rejection has this id"), deps.database.begin() as tx:
        rejections.discard(tx, "nothing", actor="ani", reason="typo")
    with deps.database.begin() as tx:
        assert rejections.show(tx, "nothing", actor="ani", reason="typo") is None


def test_a_sender_who_lost_our_answer_is_answered_again(deps: Deps) -> None:
    incoming = by_amqp(event())
    take(deps, [incoming])
    claimed = claim(deps.database, InvoiceCreated)[0]
    message = claimed.message(deps.database.sealer)
    with deps.database.begin() as tx:
        invoices.lock_named(tx, message, account="bank", version=1)
    finish(deps.database, claimed)

    (again,) = take(deps, [incoming])

    assert (again.outcome, again.first_state) == ("duplicate", "done")
    (answer,) = claim(deps.database, InvoiceAccepted)
    assert answer.message(deps.database.sealer).outcome == "unchanged"
