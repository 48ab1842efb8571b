"""What an adapter adds to a call beyond the HTTP client: its checks, its mapping, its evidence.

Each installed adapter makes its calls once at its provider's simulator, and the answers are kept. Then the same calls
go to a transport that gives these answers at once, in turn with the same requests by `gateways.http.HttpClient` alone,
which reads the answers into a model without fields. The difference is the adapter's own. It is processor time of the
thread, which neither waiting nor other programs change much.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any
from urllib.parse import parse_qsl

import httpx
from pydantic import BaseModel

from bench.report import Line, Target, say
from bench.room import Room
from gateways.errors import GatewayError
from gateways.http import Call, HttpClient
from gateways.providers.base import Provider
from runtime.build import PROVIDERS_GROUP
from tests.conformance.desk import Desk

MOST_MS = 0.3
FULL_CALLS, QUICK_CALLS = 300, 100
FULL_ROUNDS, QUICK_ROUNDS = 5, 2
BLOCK = 10
# The client's own headers, and those of the body: the bare client writes them again.
_OF_THE_CLIENT = {"host", "accept", "accept-encoding", "connection", "user-agent", "content-type", "content-length"}

Work = Callable[[Provider], object]


class _NoFields(BaseModel):
    """Any JSON object."""


@dataclass(frozen=True)
class Exchange:
    """One call as it went over the wire, and its answer."""

    request: httpx.Request
    answer: httpx.Response

    @property
    def key(self) -> str:
        """What was asked."""
        return _key(self.request)

    def call(self, *, idempotent: bool) -> Call:
        """Return the same request for the bare client."""
        request = self.request
        is_json = request.headers.get("content-type", "").startswith("application/json")
        form = dict(parse_qsl(request.content.decode(), keep_blank_values=True)) if not is_json else {}
        headers = {name: value for name, value in request.headers.items() if name not in _OF_THE_CLIENT}
        return Call(
            "bare",
            request.method,
            request.url.path,
            idempotent=idempotent,
            json=json.loads(request.content) if is_json else None,
            form=form or None,
            params=dict(request.url.params) or None,
            headers=headers,
        )


@dataclass
class Recorder(httpx.BaseTransport):
    """Passes calls on to the simulator, and keeps them."""

    exchanges: list[Exchange] = field(default_factory=list)
    _wire: httpx.HTTPTransport = field(default_factory=httpx.HTTPTransport)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Make the call."""
        request.read()
        answer = self._wire.handle_request(request)
        answer.read()
        self.exchanges.append(Exchange(request, answer))
        return _again(answer)

    def taken(self) -> list[Exchange]:
        """Return what was exchanged since the last time."""
        exchanges, self.exchanges = self.exchanges, []
        return exchanges


class Replay:
    """Gives recorded answers at once; where the same was asked more than once, in turn."""

    def __init__(self, exchanges: Sequence[Exchange]) -> None:
        self.count = 0
        self._answers: dict[str, deque[httpx.Response]] = {}
        for one in exchanges:
            self._answers.setdefault(one.key, deque()).append(one.answer)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer."""
        request.read()
        self.count += 1
        answers = self._answers[_key(request)]
        answers.rotate(-1)
        return _again(answers[-1])


@dataclass(frozen=True)
class Operation:
    """One method of one adapter, and the calls that it made. Beside them, what an adapter asks before its first."""

    adapter: str
    name: str
    work: Work
    exchanges: Sequence[Exchange]
    before: Sequence[Exchange]


def measure(_: Room, *, quick: bool) -> list[Line]:
    """Measure every installed adapter."""
    rounds, calls = (QUICK_ROUNDS, QUICK_CALLS) if quick else (FULL_ROUNDS, FULL_CALLS)
    lines = []
    for name in sorted(entry_points(group=PROVIDERS_GROUP).names):
        say(f"adapters: {name}")
        with import_module(f"tests.conformance.desk_{name}").open_desk() as desk:
            lines += [_measure(desk, operation, rounds, calls) for operation in _recorded(name, desk)]
    return lines


def _recorded(name: str, desk: Desk) -> Iterator[Operation]:
    """Make an order that is paid and partly refunded, and keep what was said about it."""
    recorder = Recorder()
    provider = desk.adapter(transport=recorder)
    capabilities = provider.capabilities
    provider.create_order(desk.order())
    first = recorder.taken()

    request = desk.order()
    order = provider.create_order(request)
    kept = recorder.taken()
    before = [one for one in first if one.key not in {other.key for other in kept}]
    yield Operation(name, "create_order", lambda adapter: adapter.create_order(request), kept, before)

    desk.pay(order)
    event = desk.event_of(desk.events(1)[0]) if capabilities.signed_events else None
    if capabilities.lookup:
        desk.refund_there(order, request.amount_minor // 4)
        evidence = provider.fetch_evidence(order.reference, order.provider_order_id)
        kinds = {str(one.kind) for one in evidence.transactions} if evidence else set()
        if kinds != {"capture", "refund"}:
            raise RuntimeError(f"{name}: the evidence tells of {sorted(kinds)}, not of a payment and a refund")
        known = (order.reference, order.provider_order_id)
        yield Operation(name, "fetch_evidence", lambda adapter: adapter.fetch_evidence(*known), recorder.taken(), [])

    if event is not None:
        provider.parse_event(**event)
        yield Operation(name, "parse_event", lambda adapter: adapter.parse_event(**event), recorder.taken(), [])


def _measure(desk: Desk, operation: Operation, rounds: int, calls: int) -> Line:
    replays = Replay([*operation.before, *operation.exchanges]), Replay(operation.exchanges)
    adapter = desk.adapter(transport=httpx.MockTransport(replays[0]))
    work = partial(operation.work, adapter)
    with _bare(desk, operation, replays[1]) as bare:
        _turns(work, bare, BLOCK)  # to warm both
        for replay in replays:
            replay.count = 0
        times = [_turns(work, bare, calls) for _ in range(rounds)]
    expected = rounds * calls * len(operation.exchanges)
    if any(replay.count != expected for replay in replays):
        raise RuntimeError(f"{operation.adapter}, {operation.name}: {[one.count for one in replays]} calls, {expected}")
    made = f"{len(operation.exchanges)} calls" if len(operation.exchanges) > 1 else ""
    return Line(
        "an adapter beyond its HTTP client",
        f"{operation.adapter}: {operation.name}",
        "ms",
        tuple((whole - alone) * 1000 for whole, alone in times),
        ratio=sum(whole for whole, _ in times) / sum(alone for _, alone in times) if operation.exchanges else None,
        target=Target(most=MOST_MS),
        note=made if operation.exchanges else "no call",
    )


def _turns(work: Callable[[], object], bare: Callable[[], object], calls: int) -> tuple[float, float]:
    """Let both do so many calls in turn; return the seconds of processor time of one call of each."""
    clock = time.thread_time
    whole = alone = 0.0
    for _ in range(calls // BLOCK):
        began = clock()
        for _ in range(BLOCK):
            work()
        between = clock()
        for _ in range(BLOCK):
            bare()
        whole += between - began
        alone += clock() - between
    return whole / calls, alone / calls


@contextmanager
def _bare(desk: Desk, operation: Operation, replay: Replay) -> Iterator[Callable[[], object]]:
    """The same requests by the HTTP client alone; without any, nothing at all."""
    if not operation.exchanges:
        yield lambda: None
        return
    calls = [one.call(idempotent=_is_repeated(desk, operation, one.key)) for one in operation.exchanges]
    url = operation.exchanges[0].request.url
    client = HttpClient("bare", f"{url.scheme}://{url.netloc.decode()}", transport=httpx.MockTransport(replay))

    def ask() -> None:
        for call in calls:
            client.ask(call, _NoFields)

    try:
        yield ask
    finally:
        client.close()


def _is_repeated(desk: Desk, operation: Operation, key: str) -> bool:
    """Tell whether the adapter lets the client repeat this call: the client then does so when it hears 503."""
    replay = Replay([*operation.before, *operation.exchanges])
    asked: list[str] = []

    def busy(request: httpx.Request) -> httpx.Response:
        asked.append(_key(request))
        return httpx.Response(503, headers={"retry-after": "0"}) if key in asked else replay(request)

    with suppress(GatewayError):
        operation.work(desk.adapter(transport=httpx.MockTransport(busy)))
    first = asked.index(key)
    return asked[first + 1 : first + 2] == [key]


def _key(request: httpx.Request) -> str:
    return f"{request.method} {request.url.raw_path.decode()}"


def _again(answer: httpx.Response) -> httpx.Response:
    headers: Any = [(name, value) for name, value in answer.headers.raw if name.lower() != b"transfer-encoding"]
    return httpx.Response(answer.status_code, headers=headers, content=answer.content)
