"""`paylinks contracts validate` reads files as people write them, and says line, field and remedy."""

import json
from collections import Counter
from pathlib import Path

import pytest

from contracts.catalog import INBOUND, OUTBOUND, TYPES
from contracts.examples import data_example, event_example
from contracts.messages import InvoiceCreated
from contracts.validation import validate

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
GOOD = event_example(InvoiceCreated)
BAD = GOOD | {"data": GOOD["data"] | {"currency": "XYZ", "amount_minor": 1.5}}


@pytest.fixture
def check(tmp_path):
    """Validates a file of these bytes and gives what is told, as text."""

    def check_bytes(content):
        file = tmp_path / "events"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return [str(problem) for problem in validate(file)]

    return check_bytes


def _line(value):
    return json.dumps(value, ensure_ascii=False)


FORMS = {
    "one line": _line(GOOD),
    "one object over lines": json.dumps(GOOD, indent=2),
    "one object after empty lines": "\n\n" + json.dumps(GOOD, indent=2),
    "JSON lines": f"{_line(GOOD)}\n{_line(GOOD)}\n",
    "JSON lines of Windows": f"{_line(GOOD)}\r\n\r\n{_line(GOOD)}\r\n",
    "an array": json.dumps([GOOD, GOOD]),
    "an array over lines": json.dumps([GOOD, GOOD], indent=2),
    "data alone": _line(GOOD["data"]),
}


@pytest.mark.parametrize("content", FORMS.values(), ids=FORMS.keys())
def test_each_form_of_a_file_is_read(check, content):
    assert check(content) == []


@pytest.mark.parametrize("model", [*INBOUND, *OUTBOUND], ids=lambda model: model.TYPE)
def test_every_type_that_travels_can_be_checked(check, model):
    assert check(_line(event_example(model))) == []


def test_every_problem_is_told_with_its_line_field_and_remedy(check):
    told = check(f"{_line(GOOD)}\n\n{_line(BAD)}\n{_line(GOOD)}\nnot json\n")
    assert [text[: text.index(";")] for text in told] == [
        "line 3: data.amount_minor: not a whole number",
        "line 3: data.currency: unknown currency",
        "line 5: body: not JSON (Expecting value)",
    ]


def test_problems_in_an_array_name_the_line_where_the_event_begins(check):
    content = f"[\n{json.dumps(GOOD, indent=1)},\n{json.dumps(BAD, indent=1)}\n]"
    line = 2 + json.dumps(GOOD, indent=1).count("\n") + 1
    assert {text.split(":")[0] for text in check(content)} == {f"line {line}"}


BROKEN = {
    "nothing": ("", "line 1: body: holds no event"),
    "only space": (" \n\n", "line 1: body: holds no event"),
    "an empty array": ("[]", "line 1: body: holds no event"),
    "an array that ends early": (f"[{_line(GOOD)},\n{_line(GOOD)[:50]}", "line 2: body: not JSON"),
    "an object that ends early": (json.dumps(GOOD, indent=1)[:80], "line 1: body: not JSON"),
    "a broken first line of several": (f"{{oops}}\n{_line(GOOD)}", "line 1: body: not JSON"),
    "a line that is no object": (f"{_line(GOOD)}\n7", "line 2: body: not a JSON object"),
    "bytes that are no text": (b"\xff\xfe{}", "line 1: body: not UTF-8"),
    "an array with bytes that are no text": (b'[{"a": "\xff"}]', "line 1: body: not UTF-8"),
    "nesting without end": ("[" * 50_000, "line 1: body: nested deeper than 32 levels"),
    "an unknown type": (_line(GOOD | {"type": "invoice.paid.v1"}), "line 1: type: unknown type"),
    "an unknown version": (_line(GOOD | {"type": "invoice.created.v7"}), "line 1: type: this version is unknown"),
    "a type of ours": (_line(event_example(TYPES["crm.update.v1"])), "line 1: type: unknown type"),
    "an envelope without data": (_line({"specversion": "1.0"}), "line 1: id: missing"),
    "data of something else": (_line({"name": "Ani"}), "line 1: crm: missing"),
}


@pytest.mark.parametrize(("content", "told"), BROKEN.values(), ids=BROKEN.keys())
def test_what_is_broken_is_told_and_never_raised(check, content, told):
    problems = check(content)
    assert problems
    assert problems[0].startswith(told), problems


def test_the_example_invoices_are_good_and_say_what_the_demo_needs():
    file = EXAMPLES / "invoices.jsonl"
    assert validate(file) == []

    invoices = [InvoiceCreated.parse(json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
    by_key = {}
    for invoice in invoices:
        by_key.setdefault(invoice.key(), []).append(invoice.fingerprint())
    again = [prints for prints in by_key.values() if len(prints) > 1]
    assert len(invoices) >= 44
    assert sorted(len(set(prints)) for prints in again) == [1, 2], "one line sent twice, one conflict"
    assert sum(invoice.version == 2 for invoice in invoices) == 2
    assert {invoice.crm for invoice in invoices} == {"acme-bitrix24", "nairi-kommo"}
    assert set(Counter(invoice.currency for invoice in invoices)) == {"AMD", "USD", "EUR", "RUB"}
    assert {invoice.customer.locale for invoice in invoices} == {"hy", "ru", "en"}
    assert {invoice.type for invoice in invoices} == {"invoice", "deal", "order"}
    assert {invoice.kind for invoice in invoices} == {"invoice", "prepayment"}
    assert {invoice.policy.partial for invoice in invoices} == {None, "review", "accept"}


def test_a_second_version_in_the_examples_asks_for_another_amount():
    lines = (EXAMPLES / "invoices.jsonl").read_text(encoding="utf-8").splitlines()
    invoices = [json.loads(line) for line in lines]
    amounts = {(one["invoice_id"], one["version"]): one["amount_minor"] for one in invoices if one["version"] == 1}
    for second in (one for one in invoices if one["version"] == 2):
        assert second["amount_minor"] != amounts[(second["invoice_id"], 1)]


def test_examples_are_copies_that_a_caller_may_change():
    data_example(InvoiceCreated)["customer"]["locale"] = "ru"
    assert data_example(InvoiceCreated)["customer"]["locale"] == "hy"
