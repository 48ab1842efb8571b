"""What the outbound client makes of everything that can happen to a call."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from pydantic import BaseModel

from gateways.errors import GatewayError, LoginRefused, Refused, Unavailable, Unknown
from gateways.http import Call, HttpClient, Limits, decode_json, segment

SECRET_WORDS = ("Ani", "ani@example.am", "hidden")


class Thing(BaseModel):
    name: str


class Script(httpx.BaseTransport):
    """Plays one step per request: an answer, or an error to raise. The last step repeats."""

    def __init__(self, *steps: httpx.Response | Exception) -> None:
        self.steps = list(steps)
        self.requests: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, Exception):
            raise step
        return httpx.Response(step.status_code, headers=step.headers, content=step.content)


class Cut(httpx.SyncByteStream):
    """A body that breaks off."""

    def __iter__(self) -> Iterator[bytes]:
        yield b'{"name": '
        raise httpx.ReadError("reset")


def client(transport: httpx.BaseTransport, pauses: list[float] | None = None, **limits: float) -> HttpClient:
    slept: Callable[[float], None] = (pauses if pauses is not None else []).append
    return HttpClient("acme", "http://other.test/base", transport=transport, limits=Limits(**limits), sleep=slept)


def call(idempotent: bool) -> Call:
    return Call(
        "get_thing", "POST", "v1/hidden", idempotent=idempotent, json={"name": "Ani"}, params={"mail": "ani@example.am"}
    )


def failure(transport: httpx.BaseTransport, *, idempotent: bool) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        client(transport).ask(call(idempotent), Thing)
    for word in SECRET_WORDS:
        assert word not in str(caught.value)
        assert word not in repr(caught.value)
    return caught.value


def test_an_answer_is_parsed_and_carries_the_other_sides_request_id() -> None:
    script = Script(httpx.Response(200, json={"name": "x", "extra": 1}, headers={"Request-Id": "req_1"}))
    answer = client(script).ask(call(True), Thing)
    assert (answer.status, answer.body, answer.request_id) == (200, Thing(name="x"), "req_1")
    assert str(script.requests[0].url) == "http://other.test/base/v1/hidden?mail=ani%40example.am"


@pytest.mark.parametrize("status", [408, 425, 429, 503])
@pytest.mark.parametrize("idempotent", [True, False])
def test_an_overloaded_other_side_is_unavailable(status: int, idempotent: bool) -> None:
    error = failure(Script(httpx.Response(status, json={"error": "busy"})), idempotent=idempotent)
    assert isinstance(error, Unavailable)
    assert error.code == "busy"


@pytest.mark.parametrize("error", [httpx.ConnectError("no"), httpx.ConnectTimeout("no"), httpx.PoolTimeout("no")])
@pytest.mark.parametrize("idempotent", [True, False])
def test_no_connection_is_unavailable(error: Exception, idempotent: bool) -> None:
    assert isinstance(failure(Script(error), idempotent=idempotent), Unavailable)


LOST = [
    httpx.ReadTimeout("slow"),
    httpx.WriteTimeout("slow"),
    httpx.RemoteProtocolError("gone"),
    httpx.ReadError("reset"),
    httpx.Response(500, json={"error": "oops"}),
    httpx.Response(502, content=b"<html>Ani</html>"),
    httpx.Response(302, headers={"location": "http://elsewhere.test/"}),
    httpx.Response(200, content=b"not json, Ani"),
    httpx.Response(200, content=b""),
    httpx.Response(200, json={"no_name": "Ani"}),
    httpx.Response(200, json=["Ani"]),
    httpx.Response(200, content=b'{"name": NaN}'),
    httpx.Response(200, content=b"[" * 100_000),
    httpx.Response(200, content=b'{"name": "\xff"}'),
    httpx.Response(200, content=b'{"name": "a\\u0000b"}'),
    httpx.Response(200, content=b'{"name": "\\ud800"}'),
]


@pytest.mark.parametrize("step", LOST, ids=repr)
def test_a_lost_or_unreadable_answer_is_unknown_unless_the_call_may_be_repeated(
    step: httpx.Response | Exception,
) -> None:
    assert isinstance(failure(Script(step), idempotent=False), Unknown)
    assert isinstance(failure(Script(step), idempotent=True), Unavailable)


@pytest.mark.parametrize("idempotent", [True, False])
def test_a_status_that_the_call_takes_for_an_answer_is_read_once(idempotent: bool) -> None:
    asked = replace(call(idempotent), answers=frozenset({500}))
    script = Script(httpx.Response(500, json={"name": "x"}))
    answer = client(script).ask(asked, Thing)
    assert (answer.status, answer.body, len(script.requests)) == (500, Thing(name="x"), 1)
    for other in (httpx.Response(502, json={"name": "x"}), httpx.Response(500, content=b"<html>Ani</html>")):
        with pytest.raises(Unavailable if idempotent else Unknown):
            client(Script(other)).ask(asked, Thing)


def test_an_answer_cut_off_in_its_body_is_lost() -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, stream=Cut()))
    assert isinstance(failure(transport, idempotent=False), Unknown)


def test_an_answer_longer_than_allowed_is_lost() -> None:
    transport = Script(httpx.Response(200, json={"name": "x" * 2000}))
    with pytest.raises(Unknown):
        client(transport, answer_bytes=1000).ask(call(False), Thing)


def test_an_encoded_answer_is_not_unpacked() -> None:
    stream = httpx.ByteStream(b"\x1f\x8b")
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers={"content-encoding": "gzip"}, stream=stream))
    assert isinstance(failure(transport, idempotent=False), Unknown)


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422])
@pytest.mark.parametrize("idempotent", [True, False])
def test_a_refusal_is_final_and_keeps_code_and_request_id(status: int, idempotent: bool) -> None:
    script = Script(httpx.Response(status, json={"error": "no_way"}, headers={"x-request-id": "r-9"}))
    error = failure(script, idempotent=idempotent)
    assert isinstance(error, Refused)
    assert (error.code, error.provider_request_id) == ("no_way", "r-9")
    assert error.detail == f"get_thing at acme: HTTP {status} no_way"
    assert len(script.requests) == 1


@pytest.mark.parametrize("idempotent", [True, False])
def test_a_login_that_is_refused_is_tried_once_and_says_nothing_about_the_call(idempotent: bool) -> None:
    script = Script(httpx.Response(401, json={"error": "no_way"}, headers={"x-request-id": "r-9"}))
    error = failure(script, idempotent=idempotent)
    assert isinstance(error, LoginRefused)
    assert (error.code, error.provider_request_id) == ("login_refused", "r-9")
    assert error.detail == "get_thing at acme: HTTP 401 no_way"
    assert len(script.requests) == 1


def test_a_form_is_sent_encoded_once_and_shows_nowhere() -> None:
    script = Script(httpx.Response(200, json={"name": "x"}))
    sent = Call("pay", "POST", "pay.do", idempotent=True, form={"password": "a&b=c ն", "amount": "5"})
    client(script).ask(sent, Thing)
    (request,) = script.requests
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.read() == b"password=a%26b%3Dc+%D5%B6&amount=5"
    assert "a&b" not in repr(sent)


@pytest.mark.parametrize(("idempotent", "expected"), [(True, Unavailable), (False, Unknown)])
def test_a_4xx_that_means_a_fault_of_theirs_says_nothing_about_the_outcome(
    idempotent: bool, expected: type[GatewayError]
) -> None:
    script = Script(httpx.Response(400))
    faulty = HttpClient(
        "acme", "http://other.test", own_faults=frozenset({400}), transport=script, sleep=lambda seconds: None
    )
    with pytest.raises(expected):
        faulty.ask(call(idempotent), Thing)
    script.steps = [httpx.Response(404)]
    with pytest.raises(Refused):
        faulty.ask(call(idempotent), Thing)


@pytest.mark.parametrize("body", [b"Ani", b'{"error": "Ani has no money"}', b'{"error": {"a": 1}}', b"[1]", b""])
def test_an_error_body_never_reaches_the_text(body: bytes) -> None:
    assert failure(Script(httpx.Response(400, content=body)), idempotent=False).code == "http_400"


@pytest.mark.parametrize("said", ["5555555555554444", "37477123987", "198.51.100.213", "e-4111111111111111", "Ani M"])
def test_a_code_that_may_be_a_card_a_telephone_or_an_address_is_left_out(said: str) -> None:
    answer = httpx.Response(400, json={"error": said}, headers={"x-request-id": "5555555555554444"})
    error = failure(Script(answer), idempotent=False)
    assert (error.code, error.provider_request_id, said in str(error)) == ("http_400", None, False)


@pytest.mark.parametrize("said", ["card_declined", "08204", "0-100", "-2007", "151018", "invoice.not.found", "1.2.3"])
def test_a_short_code_is_kept(said: str) -> None:
    answer = httpx.Response(400, json={"error": said}, headers={"x-request-id": "20261126-555555"})
    error = failure(Script(answer), idempotent=False)
    assert (error.code, error.provider_request_id) == (said, "20261126-555555")


@pytest.mark.parametrize("url", ["ftp://o.test", "http://o.test:99999999", "o.test", "http://", "http://o.test/?a=1"])
def test_a_base_url_that_cannot_be_called_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError):
        HttpClient("acme", url)


@pytest.mark.parametrize("error", [httpx.LocalProtocolError("bad header"), httpx.UnsupportedProtocol("no")])
@pytest.mark.parametrize("idempotent", [True, False])
def test_what_cannot_be_sent_is_refused(error: Exception, idempotent: bool) -> None:
    assert isinstance(failure(Script(error), idempotent=idempotent), Refused)


def test_only_an_idempotent_call_is_tried_again() -> None:
    good = httpx.Response(200, json={"name": "x"})
    script = Script(httpx.ConnectError("no"), httpx.Response(500), good)
    pauses: list[float] = []
    assert client(script, pauses).ask(call(True), Thing).body.name == "x"
    assert 0.2 <= pauses[0] <= 0.4 <= pauses[1] <= 0.8

    script = Script(httpx.ConnectError("no"), good)
    with pytest.raises(Unavailable):
        client(script).ask(call(False), Thing)
    assert len(script.requests) == 1


def test_an_idempotent_call_gives_up_after_its_tries() -> None:
    script = Script(httpx.Response(500))
    with pytest.raises(Unavailable):
        client(script).ask(call(True), Thing)
    assert len(script.requests) == 3


def test_retry_after_is_waited_for_when_the_deadline_allows_it() -> None:
    script = Script(httpx.Response(429, headers={"retry-after": "2"}), httpx.Response(200, json={"name": "x"}))
    pauses: list[float] = []
    client(script, pauses).ask(call(True), Thing)
    assert pauses == [2.0]


def test_a_longer_retry_after_is_handed_to_the_caller() -> None:
    script = Script(httpx.Response(429, headers={"retry-after": "60"}))
    with pytest.raises(Unavailable) as caught:
        client(script).ask(call(True), Thing)
    assert caught.value.retry_after_seconds == 60.0
    assert len(script.requests) == 1


def test_retry_after_may_be_a_date_and_nonsense_is_ignored() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    for value, low, high in [(later, 80, 91), ("99999999", 86_400, 86_400)]:
        with pytest.raises(Unavailable) as caught:
            client(Script(httpx.Response(503, headers={"retry-after": value}))).ask(call(False), Thing)
        assert low <= (caught.value.retry_after_seconds or 0) <= high
    with pytest.raises(Unavailable) as caught:
        client(Script(httpx.Response(503, headers={"retry-after": "soon"}))).ask(call(False), Thing)
    assert caught.value.retry_after_seconds is None


def test_cookies_are_not_kept() -> None:
    script = Script(httpx.Response(200, json={"name": "x"}, headers={"set-cookie": "a=b"}))
    http = client(script)
    http.ask(call(True), Thing)
    http.ask(call(True), Thing)
    assert "cookie" not in script.requests[1].headers


def test_tell_needs_no_body() -> None:
    assert client(Script(httpx.Response(204))).tell(call(False)).status == 204


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("INV-1", "INV-1"),
        ("2026/17", "2026%2F17"),
        ("..", "%2E%2E"),
        (".", "%2E"),
        ("a?b#c", "a%3Fb%23c"),
        ("№5", "%E2%84%965"),
    ],
)
def test_an_identifier_stays_one_path_segment(value: str, expected: str) -> None:
    script = Script(httpx.Response(204))
    assert segment(value) == expected
    client(script).tell(Call("x", "GET", f"v1/{segment(value)}/end", idempotent=True))
    assert script.requests[0].url.raw_path == f"/base/v1/{expected}/end".encode()


@pytest.mark.parametrize("raw", [b'{"a": "\\\\u0000"}', '{"a": "Անի"}'.encode(), b'{"a": "\\u0531"}', b"1e5"])
def test_legal_text_is_decoded(raw: bytes) -> None:
    decode_json(raw)
