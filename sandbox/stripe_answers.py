"""Answers of the simulated Stripe API: expansion, pages of lists, and search.

https://docs.stripe.com/expand, https://docs.stripe.com/api/pagination, https://docs.stripe.com/search.
"""

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sandbox.stripe_books import Books
from sandbox.stripe_form import WireError
from sandbox.stripe_objects import Object

_EXPANDABLE = {
    "checkout.session": {"payment_intent"},
    "payment_intent": {"latest_charge"},
    "charge": {"balance_transaction", "payment_intent"},
    "refund": {"balance_transaction", "charge", "payment_intent", "failure_balance_transaction"},
    "balance_transaction": {"source"},
    "dispute": {"charge", "payment_intent"},
}
_DEEPEST = 4  # [expand]: a maximum depth of four levels


def answer(books: Books, found: Object, expand: Sequence[str] = ()) -> Object:
    """Return an object as it is answered, with what is asked for in place of ids."""
    told = {name: value for name, value in found.items() if not name.startswith("_")}
    told |= books.merchant.changed_answer.get(found["object"], {})
    branches: dict[str, list[str]] = {}
    for path in expand:
        if path.count(".") >= _DEEPEST:
            raise WireError("You cannot expand more than 4 levels of a property", param="expand")
        head, _, rest = path.partition(".")
        branches.setdefault(head, []).extend([rest] if rest else [])
    for head, inner in branches.items():
        told[head] = _expanded(books, found, head, inner)
    return told


def page(books: Books, kind: str, url: str, asked: Mapping[str, Any], keep: Callable[[Object], bool]) -> Object:
    """Return one page of a list, newest first [pagination]; of one second, the one that was made last comes first."""
    rows = sorted((one for one in books.all(kind) if keep(one)), key=lambda one: int(one["created"]))[::-1]
    rows = [one for one in rows if _in_time(one, asked.get("created", {}))]
    limit = asked.get("limit", 10)
    if "starting_after" in asked and "ending_before" in asked:
        raise WireError("You can only use one of starting_after and ending_before.", param="ending_before")
    if "ending_before" in asked:
        before = rows[: _place(books, kind, rows, asked["ending_before"], "ending_before")]
        return _listed(books, url, before[-limit:], asked, more=len(before) > limit)
    if "starting_after" in asked:
        rows = rows[_place(books, kind, rows, asked["starting_after"], "starting_after") + 1 :]
    return _listed(books, url, rows[:limit], asked, more=len(rows) > limit)


def search(books: Books, kind: str, url: str, asked: Mapping[str, Any]) -> Object:
    """Return what a query finds among objects that are old enough to be found [search, Data freshness].

    ASSUMED: an object is found as it is now once it is `search_lag_seconds` old; only the words below are understood.
    """
    matches = _query(asked["query"])
    seen = time.time() - books.merchant.search_lag_seconds
    rows = [one for one in books.all(kind) if (one.get("_indexed") or one["created"] <= seen) and matches(one)]
    start = int(asked["page"]) if asked.get("page", "").isdigit() else 0
    limit, rows = asked.get("limit", 10), rows[::-1][start:]
    told = _listed(books, url, rows[:limit], asked, more=len(rows) > limit)
    return told | {"object": "search_result", "next_page": str(start + limit) if len(rows) > limit else None}


def _expanded(books: Books, found: Object, head: str, inner: list[str]) -> Any:
    kind = found["object"]
    if kind == "checkout.session" and head == "line_items":
        return _included(found["_line_items"], f"/v1/checkout/sessions/{found['id']}/line_items")
    if kind == "charge" and head == "refunds":
        rows = [one for one in books.all("refund") if one["charge"] == found["id"]][::-1]
        paths = [path.removeprefix("data.") for path in inner]
        told = [answer(books, one, paths) for one in rows]
        return _included(told, f"/v1/charges/{found['id']}/refunds")
    if head not in _EXPANDABLE.get(kind, set()):
        raise WireError(f"This property cannot be expanded ({head}).", param="expand")
    linked = books.seen(found[head]) if found[head] else None
    return answer(books, linked, inner) if linked else None


def _included(rows: list[Object], url: str) -> Object:
    return {"object": "list", "data": rows[:10], "has_more": len(rows) > 10, "url": url}  # ten at most come along


def _listed(books: Books, url: str, rows: Iterable[Object], asked: Mapping[str, Any], *, more: bool) -> Object:
    for path in asked.get("expand", []):
        if not path.startswith("data."):
            raise WireError(f"This property cannot be expanded ({path}). Begin with data.", param="expand")
    paths = [path.removeprefix("data.") for path in asked.get("expand", [])]
    return {"object": "list", "url": url, "has_more": more, "data": [answer(books, one, paths) for one in rows]}


def _in_time(found: Object, bounds: Mapping[str, int]) -> bool:
    at = found["created"]
    tests = {"gt": at.__gt__, "gte": at.__ge__, "lt": at.__lt__, "lte": at.__le__}
    return all(tests[bound](moment) for bound, moment in bounds.items())


def _place(books: Books, kind: str, rows: list[Object], cursor: str, param: str) -> int:
    books.find(kind, cursor, param, 400)  # ASSUMED: 400 for a cursor that is not there
    place = next((number for number, one in enumerate(rows) if one["id"] == cursor), None)
    return len(rows) if place is None else place


_CLAUSE = re.compile(
    r"""\s*(?P<not>-)?(?P<field>\w+)(?:\[(?P<q>["'])(?P<key>.*?)(?P=q)\])?(?P<op>:|>=|<=|>|<)(?P<v>"[^"]*"|'[^']*'|\d+|null)"""
)
_JOINT = re.compile(r"\s+(AND|OR)\s+|\s+", re.IGNORECASE)


def _query(query: str) -> Callable[[Object], bool]:
    tests: list[Callable[[Object], bool]] = []
    joints: set[str] = set()
    at = 0
    while at < len(query):
        clause = _CLAUSE.match(query, at)
        if clause is None:
            raise WireError("We were unable to parse your search query.", param="query")
        tests.append(_clause(clause))
        at = clause.end()
        if at < len(query):
            joint = _JOINT.match(query, at)
            if joint is None:
                raise WireError("We were unable to parse your search query.", param="query")
            joints.add((joint[1] or "AND").upper())
            at = joint.end()
    if len(joints) > 1:  # [search query language]: no AND and OR in one query
        raise WireError("You cannot combine AND and OR in the same query.", param="query")
    return lambda one: (any if joints == {"OR"} else all)(test(one) for test in tests)


def _clause(clause: re.Match[str]) -> Callable[[Object], bool]:
    name, key, operator, value = clause["field"], clause["key"], clause["op"], clause["v"].strip("\"'")
    if name not in {"amount", "created", "currency", "customer", "metadata", "status", "refunded", "disputed"}:
        raise WireError(f"Field `{name}` is an unsupported search field.", param="query")

    def test(one: Object) -> bool:
        found = one["metadata"].get(key) if name == "metadata" else one.get(name)
        if operator == ":":
            told = "null" if found is None else str(found).lower() if isinstance(found, bool) else str(found)
            return (told == value) is not bool(clause["not"])
        return found is not None and {">": found.__gt__, ">=": found.__ge__, "<": found.__lt__, "<=": found.__le__}[
            operator
        ](int(value))

    return test
