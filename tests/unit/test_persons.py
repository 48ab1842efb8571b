"""Whether a text names a person, however it is written, and never because it names another."""

import base64
import json

import pytest

from rules.persons import Person, digits_of, looks_like_a_number

ANI = Person.of({"email": "Ani.P@Example.am", "phone": "+374 (10) 00-00-01", "name": "Ani"})


@pytest.mark.parametrize(
    "value",
    [
        "ani.p@example.am",
        "write to <ANI.P@EXAMPLE.AM>, please",
        "email=ani.p%40example.am&x=1",
        "+37410000001",
        "0037410000001",
        "tel. 374 10 000001.",
        "12 37410000001",
        {"a": [{"b": "ani.p@example.am"}]},
        b'{"email": "ani.p\\u0040example.am"}',
        b'{"text": "first\\nani.p@example.am", broken',
        b'{"phone": 37410000001}',
        b"\xff\xfe ani.p@example.am \x00",
        {"body_base64": base64.b64encode(b"to=ani.p@example.am").decode()},
        json.dumps({"data": {"body_base64": base64.b64encode(b"ani.p@example.am").decode()}}).encode(),
        b'{"a":' * 100_000 + b'"ani.p@example.am"',
    ],
)
def test_he_is_named(value: object) -> None:
    assert ANI.is_in(value)


@pytest.mark.parametrize(
    "value",
    [
        "giani.p@example.am",
        "x-ani.p@example.am",
        "ani.p@example.amx",
        "ani.p@example.am.evil.org",
        "ani.p@example.am-x",
        "137410000001",
        "374100000012",
        "374-10-000002",
        "Ani",
        b"",
        b"\x00",
        {"body_base64": "???"},
        {"body_base64": 5},
        None,
        37410000001,
    ],
)
def test_he_is_not(value: object) -> None:
    assert not ANI.is_in(value)


def test_nobody_is_nowhere() -> None:
    nobody = Person.of({"name": "Ani"})
    assert not nobody.is_known
    assert not nobody.is_in("ani.p@example.am +37410000001")


def test_wildcards_are_plain_characters() -> None:
    assert not Person(emails=frozenset(["%@example.am"])).is_in("ani@example.am")
    assert not Person(emails=frozenset([".*@example.am"])).is_in("ani@example.am")


def test_numbers_are_their_digits() -> None:
    assert digits_of("00 374 (10) 00-00-01") == digits_of("+37410000001") == "37410000001"
    assert looks_like_a_number("+374 10 000001")
    assert not looks_like_a_number("INV-1001")
    assert not looks_like_a_number("1001")
    assert digits_of("٣٧٤") == ""
