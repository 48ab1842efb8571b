"""The message store's promises, on PostgreSQL and SQLite alike."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from contracts.messages import AttemptCheck, ExceptionRaised, InvoiceCreated
from db import message_store
from db.database import Database
from db.message_store import Added, ClaimLost, Conflict, Duplicate, Failure
from db.sealing import Sealer
from db.tx import Cause, prepare
from tests.support import DATA_KEY, claim, finish, put, update

BROKEN = Failure("Broken", "it broke", "group-1")


@pytest.fixture
def database(clean_url: str) -> Iterator[Database]:
    opened = Database(clean_url, Sealer([DATA_KEY]))
    yield opened
    opened.dispose()


def live_states(database: Database) -> list[str]:
    with database.read() as tx:
        return sorted(tx.connection.exec_driver_sql("SELECT state FROM messages").scalars())


def history(database: Database) -> list[tuple[str, str]]:
    with database.read() as tx:
        rows = tx.connection.exec_driver_sql("SELECT dedup_key, outcome FROM message_history ORDER BY dedup_key")
        return [(row[0], row[1]) for row in rows]


# --- adding ---------------------------------------------------------------------------------------------------------


def test_a_wish_is_added_once(database: Database) -> None:
    first, second = put(database, update(1), update(1))

    assert isinstance(first, Added)
    assert second == Duplicate(first.message_id, "ready")
    assert len(claim(database)) == 1


def test_the_same_message_many_times_at_the_same_moment_is_one(database: Database) -> None:
    barrier = threading.Barrier(8)

    def add(_: int) -> message_store.AddResult:
        barrier.wait()
        return put(database, update(1))[0]

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(add, range(8)))

    assert sum(isinstance(result, Added) for result in results) == 1
    assert sum(isinstance(result, Duplicate) for result in results) == 7
    assert live_states(database) == ["ready"]


def test_a_key_outlives_its_message(database: Database) -> None:
    put(database, update(1))
    finish(database, claim(database)[0])

    (again,) = put(database, update(1))

    assert isinstance(again, Duplicate)
    assert again.first_state == "done"
    assert claim(database) == []


def test_a_duplicate_of_a_dead_message_says_so_and_is_shown(database: Database) -> None:
    (first,) = put(database, update(1))
    with database.begin() as tx:
        message_store.fail(tx, _claimed_in(tx), BROKEN, retry_in_seconds=None)

    (again,) = put(database, update(1))

    assert again == Duplicate(first.message_id, "dead")
    with database.read() as tx:
        assert [row.first_state for row in message_store.duplicates_of(tx, first.message_id)] == ["dead"]


def _claimed_in(tx: message_store.Tx) -> message_store.Claimed:
    return message_store.claim(tx, "crm-update", ["crm.update.v1"], worker="w", limit=1, lease_seconds=30)[0]


def test_the_same_key_with_other_content_is_a_conflict_and_both_are_kept(database: Database) -> None:
    def invoice(amount: int) -> InvoiceCreated:
        return InvoiceCreated(
            crm="acme", invoice_id="1", version=1, amount_minor=amount, currency="AMD", purpose="Prepayment"
        )

    first, second, third = put(database, invoice(100), invoice(200), invoice(200))

    assert isinstance(first, Added)
    assert second == third == Conflict(first.message_id)
    with database.read() as tx:
        kept = tx.connection.exec_driver_sql("SELECT payload FROM message_conflicts").scalars().all()
    assert len(kept) == 1
    assert '"amount_minor":200' in kept[0]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (
            AttemptCheck(invoice="i", attempt="a", check_no=1),
            AttemptCheck(invoice="i", attempt="a", check_no=2),
        ),
        (
            ExceptionRaised(invoice="i", exception="x", reason="partial_payment", episode=1),
            ExceptionRaised(invoice="i", exception="y", reason="partial_payment", episode=2),
        ),
    ],
    ids=["second check", "reason that returns"],
)
def test_a_second_wish_is_not_swallowed(database: Database, first: AttemptCheck, second: AttemptCheck) -> None:
    assert all(isinstance(result, Added) for result in put(database, first, second))


def test_two_batches_that_share_keys_in_other_orders_do_not_lock_each_other(database: Database) -> None:
    barrier = threading.Barrier(2)

    def add(revisions: list[int]) -> int:
        rows = [prepare(update(revision), Cause.new(), database.sealer) for revision in revisions]
        barrier.wait()
        with database.begin() as tx:
            return sum(isinstance(result, Added) for result in message_store.add_all(tx, rows))

    with ThreadPoolExecutor(2) as pool:
        added = list(pool.map(add, [list(range(1, 101)), list(range(100, 0, -1))]))

    assert sum(added) == 100


def test_personal_fields_are_sealed_and_come_back(database: Database) -> None:
    message = InvoiceCreated(
        crm="acme",
        invoice_id="1",
        version=1,
        amount_minor=100,
        currency="AMD",
        purpose="Prepayment",
        customer={"name": "Ani Petrosyan", "email": "ani@example.am"},
    )
    put(database, message)

    (claimed,) = claim(database, InvoiceCreated)

    assert "Ani" not in claimed.payload
    assert b"Ani" not in (claimed.sealed or b"")
    assert claimed.message(database.sealer) == message


# --- claiming -------------------------------------------------------------------------------------------------------


def test_two_claimers_never_get_the_same_message(database: Database) -> None:
    put(database, *(update(revision) for revision in range(1, 41)))
    barrier = threading.Barrier(4)

    def claim_some(worker: int) -> list[str]:
        barrier.wait()
        return [one.id for _ in range(5) for one in claim(database, limit=4, worker=f"w{worker}")]

    with ThreadPoolExecutor(4) as pool:
        ids = [one for batch in pool.map(claim_some, range(4)) for one in batch]

    assert len(ids) == len(set(ids)) == 40


def test_the_named_message_is_claimed_first_and_the_oldest_follow(database: Database) -> None:
    results = put(database, *(update(revision) for revision in range(1, 6)))
    newest = results[-1].message_id

    claimed = claim(database, limit=3, named=newest)

    assert claimed[0].id == newest
    assert {one.id for one in claimed[1:]} == {results[0].message_id, results[1].message_id}


def test_what_is_not_due_is_not_claimed_until_hastened(database: Database) -> None:
    (added,) = put(database, update(1), delay_seconds=3600)
    assert claim(database) == []

    with database.begin() as tx:
        assert message_store.hasten(tx, added.message_id)

    assert [one.id for one in claim(database)] == [added.message_id]


def test_an_unknown_type_is_left_for_a_newer_worker(database: Database) -> None:
    put(database, update(1))

    assert claim(database, types=["crm.update.v2"]) == []
    assert len(claim(database)) == 1


def test_a_slow_worker_whose_lease_lapsed_cannot_conclude(database: Database) -> None:
    put(database, update(1))
    (slow,) = claim(database, lease_seconds=0.01, worker="slow")
    time.sleep(0.05)
    with database.begin() as tx:
        assert len(message_store.sweep_lapsed(tx)) == 1
    (fast,) = claim(database, worker="fast")

    with pytest.raises(ClaimLost):
        finish(database, slow, update(2))
    finish(database, fast, update(3))

    assert history(database) == [("crm.update:invoice-1:1", "done")]
    assert [one.dedup_key for one in claim(database)] == ["crm.update:invoice-1:3"]  # not 2: all of it rolled back


@pytest.mark.parametrize("end", ["fail", "wait", "give_back"])
def test_nobody_ends_a_claim_that_he_lost(database: Database, end: str) -> None:
    put(database, update(1))
    (slow,) = claim(database, lease_seconds=0.01)
    time.sleep(0.05)
    with database.begin() as tx:
        message_store.sweep_lapsed(tx)
    claim(database)

    with pytest.raises(ClaimLost), database.begin() as tx:
        if end == "fail":
            message_store.fail(tx, slow, BROKEN, retry_in_seconds=1)
        elif end == "wait":
            message_store.wait(tx, slow, seconds=1, reason="not yet")
        else:
            message_store.give_back(tx, slow)


def test_a_renewed_lease_does_not_lapse(database: Database) -> None:
    put(database, update(1), update(2))
    kept, lost = claim(database, lease_seconds=0.05)
    with database.begin() as tx:
        assert message_store.renew(tx, [(kept.id, kept.claim_no)], lease_seconds=30) == {kept.id}
    time.sleep(0.1)

    with database.begin() as tx:
        swept = message_store.sweep_lapsed(tx)

    assert [one[0] for one in swept] == [lost.id]


def test_renewing_tells_what_was_lost(database: Database) -> None:
    put(database, update(1))
    (held,) = claim(database)

    with database.begin() as tx:
        assert message_store.renew(tx, [(held.id, held.claim_no + 1)], lease_seconds=30) == set()


# --- ending ---------------------------------------------------------------------------------------------------------


def test_finishing_writes_history_attempt_and_follow_ups_together(database: Database) -> None:
    put(database, update(1))
    (claimed,) = claim(database)

    finish(database, claimed, update(2), update(3))

    assert history(database) == [("crm.update:invoice-1:1", "done")]
    followers = claim(database)
    assert {one.causation for one in followers} == {claimed.id}
    assert {one.correlation for one in followers} == {claimed.correlation}
    with database.read() as tx:
        (attempt,) = message_store.attempts_of(tx, claimed.id)
    assert (attempt.number, attempt.outcome, attempt.worker) == (1, "done", "worker")
    assert attempt.ended_at >= attempt.started_at


def test_a_follow_up_that_is_known_already_does_not_fail_the_finish(database: Database) -> None:
    put(database, update(1), update(2))
    claimed = claim(database, limit=1)[0]

    finish(database, claimed, update(2))

    assert [one.dedup_key for one in claim(database)] == ["crm.update:invoice-1:2"]


def test_an_exception_in_the_last_transaction_leaves_nothing_behind(database: Database) -> None:
    put(database, update(1))
    (claimed,) = claim(database)

    with pytest.raises(RuntimeError), database.begin() as tx:
        tx.then(update(2))
        message_store.finish(tx, message_store.Ending(claimed, "done"))
        raise RuntimeError("after everything was written")

    assert history(database) == []
    assert live_states(database) == ["running"]


def test_failures_are_kept_and_the_last_one_is_dead(database: Database) -> None:
    put(database, update(1))
    for number, pause in enumerate((0.0, 0.0, None), start=1):
        (claimed,) = claim(database)
        assert claimed.failures == number - 1
        with database.begin() as tx:
            message_store.fail(tx, claimed, BROKEN, retry_in_seconds=pause)

    assert claim(database) == []
    with database.read() as tx:
        (letter,) = message_store.dead(tx)
        tries = message_store.attempts_of(tx, letter.id)
    assert (letter.error_class, letter.error, letter.error_group) == ("Broken", "it broke", "group-1")
    assert [(one.number, one.outcome) for one in tries] == [(1, "failed"), (2, "failed"), (3, "dead")]


def test_waiting_and_giving_back_count_as_no_failure(database: Database) -> None:
    put(database, update(1))
    with database.begin() as tx:
        message_store.wait(tx, _claimed_in(tx), seconds=0, reason="the order is not there yet")
    with database.begin() as tx:
        message_store.give_back(tx, _claimed_in(tx))

    (claimed,) = claim(database)

    assert (claimed.failures, claimed.lapses, claimed.waits, claimed.claim_no) == (0, 0, 1, 3)


def test_a_message_whose_workers_die_runs_alone_and_then_is_dead(database: Database) -> None:
    put(database, update(1), update(2))
    poisonous = claim(database, limit=1, lease_seconds=-1)[0]
    for lapses in range(1, message_store.DEAD_AFTER_LAPSES):
        with database.begin() as tx:
            assert message_store.sweep_lapsed(tx) == [(poisonous.id, "crm-update", False)]
        alone = lapses >= message_store.ALONE_AFTER_LAPSES
        if alone:
            assert poisonous.id not in {one.id for one in claim(database, limit=16, lease_seconds=60)}
        (again,) = claim(database, limit=1, lease_seconds=-1, alone=alone, named=poisonous.id)
        assert (again.id, again.lapses) == (poisonous.id, lapses)
    with database.begin() as tx:
        assert message_store.sweep_lapsed(tx) == [(poisonous.id, "crm-update", True)]

    with database.read() as tx:
        (letter,) = message_store.dead(tx)
        outcomes = [one.outcome for one in message_store.attempts_of(tx, poisonous.id)]
    assert (letter.id, letter.error_class) == (poisonous.id, "WorkerDied")
    assert outcomes == ["lapsed"] * message_store.DEAD_AFTER_LAPSES


def test_two_sweepers_take_back_once(database: Database) -> None:
    put(database, *(update(revision) for revision in range(1, 31)))
    claim(database, limit=30, lease_seconds=-1)
    barrier = threading.Barrier(2)

    def sweep(_: int) -> list[str]:
        barrier.wait()
        with database.begin() as tx:
            return [one[0] for one in message_store.sweep_lapsed(tx)]

    with ThreadPoolExecutor(2) as pool:
        swept = [one for batch in pool.map(sweep, range(2)) for one in batch]

    assert len(swept) == len(set(swept)) == 30
    assert {one.lapses for one in claim(database, limit=30)} == {1}


# --- support --------------------------------------------------------------------------------------------------------


def test_a_retried_dead_letter_has_its_whole_schedule_again(database: Database) -> None:
    (added,) = put(database, update(1))
    with database.begin() as tx:
        message_store.fail(tx, _claimed_in(tx), BROKEN, retry_in_seconds=None)
    with database.begin() as tx:
        assert message_store.retry(tx, added.message_id)

    (claimed,) = claim(database)

    assert (claimed.failures, claimed.claim_no) == (0, 2)
    with database.begin() as tx:
        assert not message_store.retry(tx, added.message_id)  # it is not dead any more


def test_a_discarded_dead_letter_is_history_and_its_key_stays(database: Database) -> None:
    (added,) = put(database, update(1))
    with database.begin() as tx:
        message_store.fail(tx, _claimed_in(tx), BROKEN, retry_in_seconds=None)
    with database.begin() as tx:
        assert message_store.discard(tx, added.message_id, "settled by hand")
        assert not message_store.discard(tx, added.message_id, "twice")

    assert history(database) == [("crm.update:invoice-1:1", "discarded")]
    assert put(database, update(1)) == [Duplicate(added.message_id, "discarded")]


def test_deliveries_are_announced_after_the_commit_only(database: Database) -> None:
    announced: list[str] = []
    database.after_commit = lambda due: announced.extend(delivery.key for _, delivery in due)

    with database.begin() as tx:
        tx.then(update(1))
        tx.then(update(2), delay_seconds=60)
        message_store.flush(tx)
        assert announced == []
    with pytest.raises(RuntimeError), database.begin() as tx:
        tx.then(update(3))
        raise RuntimeError

    assert announced == ["crm.update:invoice-1:1"]


def test_several_end_together_or_not_at_all(database: Database) -> None:
    put(database, update(1), update(2), update(3))
    first, second, third = claim(database)
    with database.begin() as tx:
        message_store.give_back(tx, second)

    with pytest.raises(ClaimLost), database.begin() as tx:
        tx.then(update(9))
        message_store.finish(tx, *(message_store.Ending(one, "done") for one in (first, second, third)))
    assert history(database) == []

    with database.begin() as tx:
        tx.then(update(9))
        message_store.finish(
            tx, message_store.Ending(first, "done", subject="invoice-9"), message_store.Ending(third, "refused", "why")
        )
    assert history(database) == [("crm.update:invoice-1:1", "done"), ("crm.update:invoice-1:3", "refused")]
    with database.read() as tx:
        ended = tx.connection.exec_driver_sql("SELECT subject, detail FROM message_history ORDER BY dedup_key").all()
    assert [tuple(row) for row in ended] == [("invoice-9", None), ("invoice-1", "why")]
    assert live_states(database) == ["ready", "ready"]
