"""The executor: what each end of a run means for its message, on PostgreSQL and SQLite alike."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from contracts.messages import CrmUpdate, InvoiceCreated
from db import exceptions, invoices, message_store
from gateways.errors import Refused, Unavailable, Unknown
from rules.verdicts import Reason
from runtime.build import build
from runtime.deps import Deps
from runtime.settings import Settings
from tests.services.processes import wait_until
from tests.support import DATA_KEY, put, update
from workers import registry
from workers import stage as stages
from workers.executor import Executor
from workers.held import KEEPER_TICK_SECONDS, Keeper
from workers.service import Service
from workers.stage import ALREADY_DONE, DONE, NOT_YET, REFUSED, SUPERSEDED, Outcome, Schedule, stage

Function = Callable[[CrmUpdate, Deps], Outcome]


@pytest.fixture
def deps(clean_url: str) -> Iterator[Deps]:
    built = build(_settings(clean_url))
    yield built
    built.database.dispose()


def _settings(url: str, **more: Any) -> Settings:
    return Settings(
        database_url=url, data_keys=[DATA_KEY], link_keys=[{"id": "k1", "secret": "s" * 32}], routing={}, **more
    )


@pytest.fixture
def use() -> Iterator[Callable[..., None]]:
    """Register a function as the stage of crm.update for one test."""
    registry.load_all()  # or the first service of a test would load them, and what is kept here would be nothing
    kept = dict(stages._registry)

    def register(
        function: Function,
        *,
        schedule: Schedule | None = None,
        limit: float = 1.0,
        max_waits: int = 2,
        ends_in: Reason = Reason.NO_EVIDENCE,
    ) -> None:
        stage(
            CrmUpdate,
            schedule=schedule or Schedule((0.0, 0.0)),
            time_limit=timedelta(seconds=limit),
            max_waits=max_waits,
            waits_end_in=ends_in,
        )(function)

    yield register
    stages._registry.clear()
    stages._registry.update(kept)


def run(deps: Deps, times: int = 4) -> None:
    # However slow the machine is, what may share a transaction shares it.
    executor = Executor(deps, ["crm-update"], shared_seconds=60)
    for _ in range(times):
        executor.serve("crm-update")


def outcomes(deps: Deps) -> list[str]:
    with deps.database.read() as tx:
        rows = tx.connection.exec_driver_sql("SELECT outcome FROM message_history ORDER BY finished_at, id")
        return list(rows.scalars())


def dead(deps: Deps) -> list[Any]:
    with deps.database.read() as tx:
        return message_store.dead(tx)


@pytest.mark.parametrize(
    ("outcome", "kept"),
    [
        (DONE, "done"),
        (ALREADY_DONE, "already_done"),
        (SUPERSEDED, "superseded"),
        (REFUSED("not believed"), "refused"),
    ],
)
def test_an_outcome_ends_the_message(deps: Deps, use: Callable[..., None], outcome: Outcome, kept: str) -> None:
    use(lambda message, deps: outcome)
    put(deps.database, update(1))

    run(deps)

    assert outcomes(deps) == [kept]


def test_effects_and_follow_ups_of_a_stage_commit_with_its_end(deps: Deps, use: Callable[..., None]) -> None:
    def conclude(message: CrmUpdate, deps: Deps) -> Outcome:
        with deps.concluding(message) as tx:
            if message.revision < 3:
                tx.then(update(message.revision + 1))
        return DONE

    use(conclude)
    put(deps.database, update(1))

    run(deps)

    assert outcomes(deps) == ["done", "done", "done"]


@pytest.mark.parametrize("error", [Unavailable("no connection"), Unknown("no answer"), RuntimeError("Ani Petrosyan")])
def test_a_failure_is_tried_by_the_schedule_and_then_dead(
    deps: Deps, use: Callable[..., None], error: Exception
) -> None:
    def fail(message: CrmUpdate, deps: Deps) -> Outcome:
        raise error

    use(fail)
    put(deps.database, update(1))

    run(deps)

    (letter,) = dead(deps)
    assert (letter.failures, letter.error_class) == (3, type(error).__name__)
    assert "Ani" not in letter.error  # an error that we do not know may hold personal data: its text is not kept


def test_a_refusal_is_never_tried_again(deps: Deps, use: Callable[..., None]) -> None:
    calls = []

    def refuse(message: CrmUpdate, deps: Deps) -> Outcome:
        calls.append(message)
        raise Refused("no such record", code="404", provider_request_id="req-9")

    use(refuse)
    put(deps.database, update(1))

    run(deps)

    assert len(calls) == 1
    (letter,) = dead(deps)
    with deps.database.read() as tx:
        (attempt,) = message_store.attempts_of(tx, letter.id)
    assert (attempt.error, attempt.provider_request_id) == ("no such record", "req-9")


def test_a_pause_that_the_other_side_asked_for_is_kept(deps: Deps, use: Callable[..., None]) -> None:
    def busy(message: CrmUpdate, deps: Deps) -> Outcome:
        raise Unavailable("too many requests", retry_after_seconds=3600)

    use(busy)
    put(deps.database, update(1))

    run(deps)

    with deps.database.read() as tx:
        assert message_store.due(tx, "crm-update", limit=10) == []
    assert dead(deps) == []


def test_waiting_has_a_budget_that_ends_in_an_exception_not_in_a_dead_letter(
    deps: Deps, use: Callable[..., None]
) -> None:
    use(lambda message, deps: NOT_YET(0.0, "not there yet"))
    invoice_id = _invoice(deps)
    put(deps.database, update(1, invoice_id))

    run(deps)

    assert outcomes(deps) == ["waited_in_vain"]
    assert dead(deps) == []
    with deps.database.read() as tx:
        assert exceptions.open_reasons(tx, invoice_id) == {Reason.NO_EVIDENCE}
        assert invoices.get(tx, invoice_id).status == "manual_review"


def test_a_dead_letter_about_an_invoice_tells_its_manager_once(deps: Deps, use: Callable[..., None]) -> None:
    def refuse(message: CrmUpdate, deps: Deps) -> Outcome:
        raise Refused("no such record")

    use(refuse)
    invoice_id = _invoice(deps)
    put(deps.database, update(1, invoice_id), update(2, invoice_id))

    run(deps)

    assert len(dead(deps)) == 2
    with deps.database.read() as tx:
        assert [row.reason for row in exceptions.of_invoice(tx, invoice_id)] == [Reason.DEAD_LETTER]


def _invoice(deps: Deps) -> str:
    message = InvoiceCreated(
        crm="acme", invoice_id="1", version=1, amount_minor=100, currency="AMD", purpose="Prepayment"
    )
    with deps.database.begin() as tx:
        invoice, _ = invoices.lock_named(tx, message, account="bank", version=1)
        return str(invoice.id)


def test_a_run_over_its_time_limit_is_interrupted_and_recorded(deps: Deps, use: Callable[..., None]) -> None:
    def slow(message: CrmUpdate, deps: Deps) -> Outcome:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            time.sleep(0.01)
        return DONE

    use(slow, schedule=Schedule(()), limit=0.3)
    put(deps.database, update(1))
    executor = Executor(deps, ["crm-update"])
    keeper = Keeper("keeper", executor.held.tick, 0.1)
    keeper.start()

    executor.serve("crm-update")

    keeper.stop()
    (letter,) = dead(deps)
    assert letter.error == "the stage took longer than its time limit"


def test_the_lease_of_a_long_run_is_renewed_and_a_second_worker_finds_nothing(
    deps: Deps, use: Callable[..., None]
) -> None:
    runs = []

    def long(message: CrmUpdate, deps: Deps) -> Outcome:
        runs.append(message.revision)
        time.sleep(2.0)
        with deps.concluding(message):
            pass
        return DONE

    use(long, limit=10)
    short = build(_settings(deps.settings.database_url, lease_cap=timedelta(seconds=1)))
    put(deps.database, update(1))
    executor = Executor(short, ["crm-update"])
    executor._lanes["crm-update"][0].lease_seconds = 1.0  # shorter than the run
    keeper = Keeper("keeper", executor.held.tick, 0.1)
    keeper.start()
    worker = threading.Thread(target=executor.serve, args=("crm-update",))
    worker.start()
    for _ in range(10):
        time.sleep(0.2)
        with deps.database.begin() as tx:
            assert message_store.sweep_lapsed(tx) == []
    worker.join()
    keeper.stop()
    short.database.dispose()

    assert runs == [1]
    assert outcomes(deps) == ["done"]


def test_stopping_gives_back_what_was_claimed_and_did_not_begin(deps: Deps, use: Callable[..., None]) -> None:
    holder: list[Executor] = []

    def stop_after_first(message: CrmUpdate, deps: Deps) -> Outcome:
        holder[0].stop()
        return DONE

    use(stop_after_first, limit=1.0)
    put(deps.database, *(update(revision) for revision in range(1, 6)))
    holder.append(Executor(deps, ["crm-update"]))

    holder[0].serve("crm-update")

    assert outcomes(deps) == ["done"]
    with deps.database.begin() as tx:
        back = message_store.claim(tx, "crm-update", ["crm.update.v1"], worker="w", limit=16, lease_seconds=30)
    assert [(one.failures, one.lapses) for one in back] == [(0, 0)] * 4


def test_a_stage_that_lost_its_claim_leaves_nothing_behind(deps: Deps, use: Callable[..., None]) -> None:
    def lose(message: CrmUpdate, deps: Deps) -> Outcome:
        with deps.database.begin() as tx:
            message_store.give_back(tx, deps.claim)
        with deps.database.begin() as tx:
            message_store.claim(tx, "crm-update", ["crm.update.v1"], worker="other", limit=1, lease_seconds=30)
        with deps.concluding(message) as tx:
            tx.then(update(99))
        return DONE

    use(lose)
    put(deps.database, update(1))

    run(deps)

    assert outcomes(deps) == []
    with deps.database.read() as tx:
        states = tx.connection.exec_driver_sql("SELECT dedup_key, state, claimed_by FROM messages").all()
    assert [tuple(row) for row in states] == [("crm.update:invoice-1:1", "running", "other")]


@pytest.mark.parametrize("broker_url", ["amqp://guest:guest@127.0.0.1:1/", "redis://127.0.0.1:1/0"])
def test_without_a_broker_workers_ask_the_store_by_themselves(
    deps: Deps, use: Callable[..., None], broker_url: str
) -> None:
    settings = _settings(deps.settings.database_url, broker_url=broker_url, poll_interval=timedelta(milliseconds=200))
    alone = build(settings)
    service = Service(alone)
    use(lambda message, deps: DONE)  # after the service registered the real stages
    put(deps.database, *(update(revision) for revision in range(1, 31)))
    service.start(threads=2)
    try:
        until = time.monotonic() + 15
        while len(outcomes(deps)) < 30 and time.monotonic() < until:
            time.sleep(0.05)
        assert outcomes(deps) == ["done"] * 30
    finally:
        service.stop(2000)
        alone.database.dispose()


def test_a_log_line_of_a_run_holds_ids_and_no_payload(
    deps: Deps, use: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    from runtime.logs import set_up

    set_up("INFO")
    use(lambda message, deps: DONE)
    put(deps.database, update(1))

    run(deps)

    line = json.loads(capsys.readouterr().err.strip().splitlines()[-1])
    assert line["event"] == "stage.run"
    assert {"queue", "type", "message_id", "subject", "request_id", "outcome", "seconds"} <= set(line)
    assert "payload" not in line


def test_the_keeper_ticks_often_enough_for_its_leases() -> None:
    assert KEEPER_TICK_SECONDS < 1.0


# --- messages that end in one transaction ---------------------------------------------------------------------------


def attempts_by_key(deps: Deps) -> list[tuple[str, str]]:
    """Return every try: (deduplication key of its message, outcome)."""
    statement = """
        SELECT m.dedup_key, a.outcome FROM message_attempts a
        JOIN (SELECT id, dedup_key FROM messages UNION SELECT id, dedup_key FROM message_history) m
          ON m.id = a.message_id
        ORDER BY m.dedup_key, a.number
    """
    with deps.database.read() as tx:
        return [(row[0], row[1]) for row in tx.connection.exec_driver_sql(statement)]


def test_quick_stages_share_one_transaction(deps: Deps, use: Callable[..., None]) -> None:
    """While the last of them runs, nothing of the first is to be seen from outside."""
    seen: list[list[str]] = []

    def conclude(message: CrmUpdate, run: Deps) -> Outcome:
        with run.concluding(message) as tx:
            if message.revision < 100:
                tx.then(update(message.revision + 100))
        seen.append(outcomes(deps))
        return DONE

    use(conclude)
    put(deps.database, *(update(revision) for revision in range(1, 5)))

    run(deps, times=2)

    assert seen == [[]] * 4 + [["done"] * 4] * 4
    assert outcomes(deps) == ["done"] * 8


def test_each_end_of_a_shared_transaction_is_its_own(deps: Deps, use: Callable[..., None]) -> None:
    def end(message: CrmUpdate, run: Deps) -> Outcome:
        if message.revision == 1:
            with run.concluding(message, outcome="unmatched", detail="kept", provider_request_id="req-1"):
                return DONE
        return {2: NOT_YET(3600, "later"), 3: REFUSED("not believed")}.get(message.revision, DONE)

    use(end)
    put(deps.database, *(update(revision) for revision in range(1, 5)))

    run(deps, times=1)

    keys = [f"crm.update:invoice-1:{number}" for number in range(1, 5)]
    assert attempts_by_key(deps) == list(zip(keys, ["unmatched", "not_yet", "refused", "done"], strict=True))
    with deps.database.read() as tx:
        (kept,) = tx.connection.exec_driver_sql("SELECT id, detail FROM message_history WHERE outcome = 'unmatched'")
        (attempt,) = message_store.attempts_of(tx, kept.id)
    assert (kept.detail, attempt.provider_request_id) == ("kept", "req-1")


@pytest.mark.parametrize("error", [RuntimeError("broken"), Refused("never"), Unavailable("later")])
def test_an_error_of_one_is_not_its_neighbours(deps: Deps, use: Callable[..., None], error: Exception) -> None:
    def run_one(message: CrmUpdate, run: Deps) -> Outcome:
        with run.concluding(message) as tx:
            if message.revision < 100:
                tx.then(update(message.revision + 100))
            if message.revision == 3:
                raise error
        return DONE

    use(run_one, schedule=Schedule(()))
    put(deps.database, *(update(revision) for revision in range(1, 6)))

    run(deps)

    assert [letter.error_class for letter in dead(deps)] == [type(error).__name__]
    # Four that went well and their four followers, each tried once: what was undone was no try.
    assert sorted(outcome for _, outcome in attempts_by_key(deps)) == ["dead", *["done"] * 8]


@pytest.mark.parametrize("clean_url", ["postgresql"], indirect=True)  # nobody writes beside SQLite's one writer
def test_a_claim_that_one_lost_leaves_its_neighbours_alone(deps: Deps, use: Callable[..., None]) -> None:
    put(deps.database, *(update(revision) for revision in range(1, 4)))
    stolen = []

    def lose(message: CrmUpdate, run: Deps) -> Outcome:
        if message.revision == 2 and not stolen:
            stolen.append(run.claim)
            with deps.database.begin() as tx:
                message_store.give_back(tx, run.claim, seconds=3600)
        with run.concluding(message):
            return DONE

    use(lose)

    run(deps, times=1)

    assert outcomes(deps) == ["done", "done"]


def test_who_asks_the_outside_leaves_the_shared_transaction(deps: Deps, use: Callable[..., None]) -> None:
    shared: list[bool] = []

    def ask(message: CrmUpdate, run: Deps) -> Outcome:
        if message.revision == 2:
            run.alone()
            shared.append(run.together is not None)
        return DONE

    use(ask)
    put(deps.database, *(update(revision) for revision in range(1, 4)))

    run(deps, times=1)

    assert shared == [False]
    assert outcomes(deps) == ["done"] * 3


@pytest.mark.parametrize("clean_url", ["postgresql"], indirect=True)  # SQLite has one writer, and no row locks
def test_a_lock_that_one_does_not_get_holds_up_no_neighbour(deps: Deps, use: Callable[..., None]) -> None:
    locked = _invoice(deps)

    def lock(message: CrmUpdate, run: Deps) -> Outcome:
        with run.concluding(message) as tx:
            if message.revision == 2:
                invoices.lock(tx, locked)
        return DONE

    use(lock)
    put(deps.database, *(update(revision) for revision in range(1, 4)))

    with deps.database.begin() as tx:
        invoices.lock(tx, locked)
        run(deps, times=1)
        assert outcomes(deps) == ["done", "done"]

    def all_are_done() -> bool:
        run(deps, times=1)
        return outcomes(deps) == ["done"] * 3

    assert wait_until(all_are_done, timeout_seconds=10)  # after the pause for a lock that was not had
    assert dict(attempts_by_key(deps))["crm.update:invoice-1:2"] == "done"


def test_a_check_asked_for_in_a_shared_transaction_is_hastened_not_doubled(deps: Deps) -> None:
    """What the first one asked for is no row yet; the second one must find it all the same."""
    with deps.database.begin(is_shared=True) as tx:
        waiting = tx.then(update(1), delay_seconds=3600)
        assert message_store.is_waiting(tx, waiting)
        assert message_store.hasten(tx, waiting)

    with deps.database.read() as tx:
        assert [row.id for row in message_store.due(tx, "crm-update", limit=10)] == [waiting]
