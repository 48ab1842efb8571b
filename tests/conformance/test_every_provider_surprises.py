"""What no provider is known to send, sent to every adapter: any event, any answer, true answers with a part changed.

Whatever comes, an adapter gives a value or one of its three failures, and never money that nobody named. SIMULATED, as
test_every_provider; the true answers and events come from the simulators, and what is done to them from hypothesis.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.evidence import Evidence
from contracts.money import CURRENCIES
from gateways.errors import GatewayError, Refused
from gateways.providers.base import OrderRequest, Provider, ProviderOrder, ProviderRefund, RefundRequest
from tests.conformance.desk import Desk
from tests.conformance.every import CASES, Case, made, paid, wish
from tests.conformance.ways import Given, Recording

TIMES = settings(deadline=None, suppress_health_check=list(HealthCheck))
NOW = datetime(2026, 11, 26, 10, 0, tzinfo=UTC)

ROOMS = ExitStack()


@pytest.fixture(scope="module", autouse=True)
def _rooms() -> Iterator[None]:
    """The desks of this module stand open until its end: what is sent to them leaves them as they are."""
    with ROOMS:
        yield
    for kept in (open_desk, spoken, _an_event, _order, _requests, _puppet):
        kept.cache_clear()


@cache
def open_desk(case: Case) -> Desk:
    return ROOMS.enter_context(case.open())


every_case = pytest.mark.parametrize("case", CASES, ids=str)
"""Not a fixture: hypothesis asks for its arguments many times, and the desk stays the same."""


# --- events -----------------------------------------------------------------------------------------------------------

NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30)
VALUES = st.text(max_size=60)


@every_case
@TIMES
@given(
    method=st.sampled_from(["GET", "POST", "PUT", ""]),
    query=VALUES,
    headers=st.dictionaries(NAMES.map(str.lower), VALUES, max_size=4),
    body=st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")),
)
def test_any_bytes_are_no_event_and_no_question(
    case: Case, method: str, query: str, headers: dict[str, str], body: bytes
) -> None:
    _is_read(open_desk(case).provider, {"method": method, "query": query, "headers": headers, "body": body})


@every_case
@TIMES
@given(data=st.data())
def test_a_true_event_with_something_changed_is_refused_or_read(case: Case, data: st.DataObject) -> None:
    event = _true_event(case)
    part = data.draw(st.sampled_from(["query", "body", "header", "method", "received_at"]))
    match part:
        case "query":
            event["query"] = _damaged(data, event["query"].encode()).decode("latin-1")
        case "body":
            event["body"] = _damaged(data, event["body"])
        case "header":
            name = data.draw(st.sampled_from(sorted(event["headers"]) or ["x"]))
            event["headers"] = {**event["headers"], name: data.draw(VALUES)}
        case "method":
            event["method"] = data.draw(st.sampled_from(["GET", "POST", "DELETE"]))
        case _:
            event["received_at"] += timedelta(seconds=data.draw(st.integers(-(10**9), 10**9)))
    received_at = event.pop("received_at")
    _is_read(open_desk(case).provider, event, received_at)


@cache
def _an_event(case: Case) -> dict[str, Any]:
    desk = open_desk(case)
    if not desk.provider.capabilities.push:  # an event of nobody: such an account is sent none
        return {"method": "POST", "query": "a=b", "headers": {}, "body": b"{}", "received_at": NOW}
    desk.pay(made(desk))
    return desk.event_of(desk.events(1)[-1])


def _true_event(case: Case) -> dict[str, Any]:
    return dict(_an_event(case))


def _damaged(data: st.DataObject, raw: bytes) -> bytes:
    """Cut some bytes out of it and put others there."""
    begin = data.draw(st.integers(0, len(raw)))
    end = data.draw(st.integers(begin, min(begin + 8, len(raw))))
    return raw[:begin] + data.draw(st.binary(max_size=8)) + raw[end:]


def _is_read(provider: Provider, event: dict[str, Any], received_at: datetime = NOW) -> None:
    """Assert that each reader gives a value or a refusal; an exception of any other kind fails the test."""
    with suppress(Refused):
        assert isinstance(provider.check_event(**event, received_at=received_at), str | None)
    with suppress(Refused):
        read = provider.parse_event(**event, received_at=received_at)
        assert read.event_type
        if read.evidence is not None:
            _is_money_that_somebody_named(read.evidence)
    with suppress(Refused):
        asked = provider.parse_precheck(**event)
        assert asked is None or (asked.amount_minor > 0 and asked.currency in CURRENCIES)


# --- answers ----------------------------------------------------------------------------------------------------------

# What is put in the place of anything that a provider says: each has broken somebody's reader.
ODD: tuple[Any, ...] = (
    None, True, 0, -1, 10**18, 1.5, "", "-1", "4", "XXX", "2020-01-01", "javascript:alert(1)", "9" * 400, [], {},
)  # fmt: skip
PROBES: tuple[Any, ...] = ("9" * 400, {"x": []}, None)  # whoever reads a place minds at least one of them
LEAVES: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=20)
)
JSON: st.SearchStrategy[Any] = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3)
)
OPERATIONS = ("create", "find", "fetch", "cancel", "capture", "release", "refund", "list")
STATUSES = [200, 200, 200, 201, 204, 301, 302, 400, 401, 403, 404, 409, 418, 429, 500, 502, 503, 599]


@every_case
@TIMES
@given(
    status=st.sampled_from(STATUSES),
    content=JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=100),
    operation=st.sampled_from(OPERATIONS),
)
def test_any_answer_gives_a_value_or_one_of_three_failures(
    case: Case, status: int, content: bytes, operation: str
) -> None:
    _is_sane(case, operation, [httpx.Response(status, content=content)])


@every_case
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_true_answer_with_any_place_made_odd_gives_a_value_or_one_of_three_failures(
    case: Case, operation: str
) -> None:
    for struck, answer in enumerate(spoken(case, operation)):
        _make_odd(case, operation, struck, _decoded(answer.content), ())


@every_case
@TIMES
@given(data=st.data())
def test_a_true_answer_with_anything_put_into_it_gives_a_value_or_one_of_three_failures(
    case: Case, data: st.DataObject
) -> None:
    operation = data.draw(st.sampled_from([one for one in OPERATIONS if spoken(case, one)] or ["list"]))
    answers = spoken(case, operation)
    if not answers:  # no call is made for anything, so that there is no answer to change
        _is_sane(case, operation, [httpx.Response(500)])
        return
    struck = data.draw(st.integers(0, len(answers) - 1))
    _is_sane(case, operation, _with(answers, struck, _changed(data, answers[struck].content)))


@cache
def spoken(case: Case, operation: str) -> tuple[httpx.Response, ...]:
    """Return the true answers of one operation, as the simulator gave them."""
    way = Recording()
    with suppress(GatewayError):
        _does(case, open_desk(case).adapter(transport=way), operation)
    return tuple(way.answers)


def _with(answers: Sequence[httpx.Response], struck: int, content: bytes) -> list[httpx.Response]:
    kept = list(answers)
    kept[struck] = httpx.Response(kept[struck].status_code, content=content)
    return kept


def _make_odd(case: Case, operation: str, struck: int, document: Any, place: tuple[Any, ...]) -> None:
    """Ask with every odd value in this place of one answer, without it, and then in the places within it."""

    def ask_with(changed: Any) -> str:
        return _is_sane(case, operation, _with(spoken(case, operation), struck, json.dumps(changed).encode()))

    if {ask_with(_put(document, place, odd)) for odd in PROBES} == {ask_with(document)}:
        return  # nobody reads what stands here
    for odd in ODD:
        ask_with(_put(document, place, odd))
    if place:
        ask_with(_dropped(document, place))
    for name in _names(_at(document, place)):
        _make_odd(case, operation, struck, document, (*place, name))


def _changed(data: st.DataObject, content: bytes) -> bytes:
    """Put anything into one place of a JSON document, or damage its bytes."""
    if data.draw(st.booleans()):
        return _damaged(data, content)
    document = _decoded(content)
    return json.dumps(_put(document, data.draw(st.sampled_from(list(_places(document)))), data.draw(JSON))).encode()


def _decoded(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content.decode("utf-8", "replace")


def _places(document: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    for name in _names(_at(document, place)):
        yield from _places(document, (*place, name))


def _names(value: Any) -> Iterable[Any]:
    """Return what stands in it: every field, or the first entries of a list, as the others are read like them."""
    return list(value) if isinstance(value, dict) else range(min(len(value), 2)) if isinstance(value, list) else ()


def _at(document: Any, place: tuple[Any, ...]) -> Any:
    for name in place:
        document = document[name]
    return document


def _put(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return the document with another value in one place."""
    if not path:
        return value
    copy = document.copy()
    copy[path[0]] = _put(document[path[0]], path[1:], value)
    return copy


def _dropped(document: Any, path: tuple[Any, ...]) -> Any:
    """Return the document without one place."""
    copy = document.copy()
    if len(path) == 1:
        del copy[path[0]]
    else:
        copy[path[0]] = _dropped(document[path[0]], path[1:])
    return copy


# --- what is asked, and what may come of it ---------------------------------------------------------------------------


@cache
def _order(case: Case) -> ProviderOrder:
    """One order that is paid, and partly refunded where that can be."""
    desk = open_desk(case)
    created = paid(desk)
    if desk.provider.capabilities.refund:
        desk.provider.refund(wish(desk, created, desk.order().amount_minor // 4))
    return created


@cache
def _requests(case: Case) -> tuple[OrderRequest, RefundRequest]:
    """What is asked for, always under the same names: true answers repeat them."""
    desk = open_desk(case)
    return desk.order(), wish(desk, _order(case), desk.order().amount_minor // 4)


def _does(case: Case, provider: Provider, operation: str) -> object:
    order, (request, refund) = _order(case), _requests(case)
    now, amount, currency = datetime.now(UTC), refund.amount_minor, refund.currency
    calls: dict[str, Callable[[], object]] = {
        "create": partial(provider.create_order, request),
        "find": partial(provider.find_order, order.reference),
        "fetch": partial(provider.fetch_evidence, order.reference, order.provider_order_id),
        "cancel": partial(provider.cancel_order, order.reference, order.provider_order_id),
        "capture": partial(provider.capture_order, order.reference, order.provider_order_id, amount, currency),
        "release": partial(provider.release_order, order.reference, order.provider_order_id),
        "refund": partial(provider.refund, refund),
        "list": partial(provider.list_orders, now - timedelta(hours=1), now + timedelta(hours=1)),
    }
    return calls[operation]()


# When somebody was asked, and what counts from that moment, differs from call to call.
_TIMES = re.compile(r"(asked_at|expires_at)=datetime\.datetime\([^)]*\)")


@cache
def _puppet(case: Case) -> tuple[Provider, Given]:
    """An adapter that hears what it is given."""
    way = Given()
    return open_desk(case).adapter(transport=way), way


def _is_sane(case: Case, operation: str, answers: Sequence[httpx.Response]) -> str:
    """Assert that a call gives what can be believed, or one of three failures, and return which of them."""
    provider, way = _puppet(case)
    way.give(answers)
    failure, value = None, None
    try:
        value = _does(case, provider, operation)
    except GatewayError as error:
        failure = error
    if failure is not None:
        assert failure.detail
        assert len(failure.code) <= 64
        return repr(failure)
    match value:
        case Evidence():
            assert value.reference == _order(case).reference
            _is_money_that_somebody_named(value)
        case ProviderOrder():
            assert value.pay_url is None or urlsplit(value.pay_url).scheme in {"http", "https"}
            assert value.pay_url is not None or operation != "create", "an order that nobody can pay"
        case ProviderRefund():
            assert value.amount_minor == _requests(case)[1].amount_minor
            assert value.provider_transaction_id
        case list():
            for one in value:
                _is_money_that_somebody_named(one)
        case _:
            assert value is None
    return _TIMES.sub("", repr(value))


def _is_money_that_somebody_named(evidence: Evidence) -> None:
    for one in evidence.transactions:
        assert one.amount_minor > 0
        assert one.currency in CURRENCIES
        assert one.occurred_at.tzinfo is not None
