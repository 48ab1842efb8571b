"""The sandbox's memory, its schedule, and its small HTTP client."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sandbox.posting import Poster, PostError
from sandbox.publishing import CANCELLED, Announcement, Outbox
from sandbox.records import Records
from sandbox.schedule import Schedule
from sandbox.store import Store
from tests.conformance.receiver import Receiver

# --- memory ---------------------------------------------------------------------------------------------------------


def test_documents_come_back_as_they_were_at_the_flush(tmp_path: Path) -> None:
    store = Store(tmp_path / "deep" / "state.sqlite")
    order = {"id": "b", "status": "open", "text": "Անի"}
    store.put("order", "b", order)
    store.put("order", "a", {"id": "a"})
    store.put("task", "t", {"id": "t"})
    order["status"] = "paid"
    store.flush()
    store.drop("task", "t")
    store.close()

    again = Store(tmp_path / "deep" / "state.sqlite")
    assert again.load("order") == [{"id": "a"}, {"id": "b", "status": "paid", "text": "Անի"}]
    assert again.load("task") == []
    again.close()


def test_without_a_path_nothing_is_kept() -> None:
    store = Store(None)
    store.put("order", "a", {"id": "a"})
    store.flush()
    assert store.load("order") == []
    store.close()


def test_a_file_that_is_no_state_or_is_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database, and long enough to be read as one" * 50)
    with pytest.raises(OSError, match="no state file"):
        Store(tmp_path / "text")


# --- what a CRM announces --------------------------------------------------------------------------------------------


class _Confirming:
    """A broker that confirms everything."""

    def __init__(self) -> None:
        self.was_asked = asyncio.Event()

    async def carry(self, announcement: Announcement) -> str:
        self.was_asked.set()
        return "confirmed"

    async def close(self) -> None:
        return None


def test_a_cancellation_that_never_left_is_not_taken_for_one_that_had_its_effect() -> None:
    """A result that was on its way before the cancellation says nothing about it."""

    async def scene() -> list[int]:
        store = Store(None)
        outbox = Outbox(store, "acme", republish_seconds=60)
        data = {"crm": "acme", "invoice_id": "I-1", "version": 1}
        record = Records(store).put(data)
        outbox.announce(record, CANCELLED, data)
        outbox.cancellation_arrived(record)
        left = [outbox.stats()["unaccepted"]]

        broker = _Confirming()
        sending = asyncio.create_task(outbox.run(broker))
        await broker.was_asked.wait()
        await asyncio.sleep(0.05)  # until the answer is noted
        sending.cancel()
        outbox.cancellation_arrived(record)
        return [*left, outbox.stats()["unaccepted"]]

    assert asyncio.run(scene()) == [1, 0]


# --- schedule -------------------------------------------------------------------------------------------------------


def test_things_come_out_when_they_are_due_and_a_sooner_one_overtakes() -> None:
    async def scene() -> list[str]:
        schedule: Schedule[str] = Schedule()
        loop = asyncio.get_running_loop()
        schedule.add(0.08, "last")
        loop.call_later(0.02, schedule.add, -5.0, "first")
        loop.call_later(0.02, schedule.add, 0.01, "second")
        begin = loop.time()
        out = [await schedule.next() for _ in range(3)]
        assert 0.07 < loop.time() - begin < 1.0
        return out

    assert asyncio.run(scene()) == ["first", "second", "last"]


# --- posting --------------------------------------------------------------------------------------------------------


def posted(work: Callable[[Poster], Awaitable[object]]) -> object:
    async def scene() -> object:
        poster = Poster()
        try:
            return await work(poster)
        finally:
            poster.close()

    return asyncio.run(scene())


def test_posting_returns_the_status_and_keeps_the_connection() -> None:
    with Receiver(statuses=[503, 204]) as receiver:

        async def three(poster: Poster) -> list[int]:
            return [await poster.post(f"{receiver.url}?a=1", b"{}", {"x-a": "b"}) for _ in range(3)]

        assert posted(three) == [503, 204, 200]
        assert {received.path for received in receiver.received} == {"/hook?a=1"}
        assert receiver.received[0].headers["x-a"] == "b"
        assert receiver.received[0].body == b"{}"


def serve_bytes(answer: bytes) -> Callable[[Poster], Awaitable[object]]:
    async def work(poster: Poster) -> object:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            return await poster.post(f"http://127.0.0.1:{port}/", b"", {})

    return work


def test_an_answer_without_a_length_is_an_answer() -> None:
    assert posted(serve_bytes(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")) == 200


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab",
        b"HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_answer_is_an_error(answer: bytes) -> None:
    with pytest.raises(PostError):
        posted(serve_bytes(answer))


@pytest.mark.parametrize("url", ["", "ftp://127.0.0.1/", "http://127.0.0.1:1/", "http://127.0.0.1:99999/", "http://["])
def test_an_address_nobody_answers_on_is_an_error(url: str) -> None:
    with pytest.raises(PostError):
        posted(lambda poster: poster.post(url, b"", {}))


def test_a_header_cannot_smuggle_another_line() -> None:
    with Receiver() as receiver, pytest.raises(PostError):
        posted(lambda poster: poster.post(receiver.url, b"", {"x": "a\r\ny: b"}))
