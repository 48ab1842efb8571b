"""A published version is never broken: each kind of breaking change is found, and what only adds passes."""

import copy
import json

import pytest

from contracts.compatibility import breaking_changes, broken_types
from contracts.export import ASYNCAPI, PUBLISHED, BreakingChange, breaks, check, documents, export
from contracts.json_schema import message_schema
from contracts.messages import InvoiceCreated, PaymentStatusChanged


def test_the_models_break_no_published_version():
    assert breaks(PUBLISHED) == [], "add a new version beside the published one (invoice.created.v2)"


def test_nothing_is_published_twice_or_forgotten():
    assert {path.name for path in PUBLISHED.glob("*.json")} == set(documents())


@pytest.fixture
def published():
    return message_schema(InvoiceCreated)


@pytest.fixture
def sent():
    return message_schema(PaymentStatusChanged)


def _data(schema):
    return schema["$defs"]["InvoiceCreated"]


def _field(schema, name):
    return _data(schema)["properties"][name]


def _remove_field(schema):
    del _data(schema)["properties"]["deal_id"]


def _rename_field(schema):
    _data(schema)["properties"]["deal"] = _data(schema)["properties"].pop("deal_id")


def _require_an_old_field(schema):
    _data(schema)["required"].append("deal_id")


def _require_a_new_field(schema):
    _data(schema)["properties"]["branch"] = {"type": "string"}
    _data(schema)["required"].append("branch")


def _another_type(schema):
    _field(schema, "purpose")["type"] = "integer"


def _no_longer_null(schema):
    _field(schema, "version")["anyOf"].pop()


def _fewer_words(schema):
    _field(schema, "kind")["enum"].remove("prepayment")


def _words_where_all_was_free(schema):
    _field(schema, "purpose")["enum"] = ["Goods", "Services"]


def _lower_maximum(schema):
    _field(schema, "amount_minor")["maximum"] = 1000


def _higher_minimum(schema):
    _field(schema, "version")["anyOf"][0]["minimum"] = 2


def _exclusive_minimum(schema):
    _field(schema, "amount_minor")["exclusiveMinimum"] = 9


def _minimum_for_exclusive(schema):
    _field(schema, "amount_minor").pop("exclusiveMinimum")
    _field(schema, "amount_minor")["minimum"] = 2


def _shorter(schema):
    _field(schema, "purpose")["maxLength"] = 100


def _longer_at_least(schema):
    _field(schema, "purpose")["minLength"] = 3


def _another_pattern(schema):
    _field(schema, "crm")["pattern"] = "^[a-z]+$"


def _a_pattern(schema):
    _field(schema, "amount_minor")["multipleOf"] = 100


def _another_format(schema):
    schema["$defs"]["Policy"]["properties"]["expires_in"]["anyOf"][0]["format"] = "date"


def _another_default(schema):
    _field(schema, "kind")["default"] = "prepayment"


def _closed_to_unknown_fields(schema):
    _data(schema)["additionalProperties"] = False


def _deep_inside(schema):
    del schema["$defs"]["Customer"]["properties"]["locale"]


def _stricter_envelope(schema):
    schema["required"].append("time")


def _another_routing_key(schema):
    schema["x-routing-key"] = "invoice.new"


def _another_deduplication_key(schema):
    schema["x-deduplication-key"] = "invoice:{crm}:{invoice_id}"


def _out_of_the_fingerprint(schema):
    schema["x-fingerprint"].remove("purpose")


def _into_the_fingerprint(schema):
    schema["x-fingerprint"].append("created_by")


def _no_longer_sensitive(schema):
    schema["x-sensitive-fields"].remove("customer")


def _another_rule_that_nobody_can_judge(schema):
    _data(schema)["dependentRequired"] = {"manager": ["deal_id"]}


BREAKING = [
    (_remove_field, "data.deal_id: removed"),
    (_rename_field, "data.deal_id: removed (renamed to deal?)"),
    (_require_an_old_field, "data.deal_id: newly required"),
    (_require_a_new_field, "data.branch: newly required"),
    (_another_type, "data.purpose: type was string and is integer"),
    (_no_longer_null, "data.version: type was null and is integer"),
    (_fewer_words, "data.kind: values was one of invoice, prepayment and is one of invoice (without prepayment)"),
    (_words_where_all_was_free, "data.purpose: value was free and is Goods, Services"),
    (_lower_maximum, "data.amount_minor: maximum was 100000000000 and is 1000"),
    (_higher_minimum, "data.version: minimum was 1 and is 2"),
    (_exclusive_minimum, "data.amount_minor: minimum was 0 and is 9"),
    (_minimum_for_exclusive, "data.amount_minor: minimum was 0 and is 2"),
    (_shorter, "data.purpose: maxLength was 200 and is 100"),
    (_longer_at_least, "data.purpose: minLength was 1 and is 3"),
    (_another_pattern, "data.crm: pattern was ^[a-z0-9][a-z0-9._-]*$ and is ^[a-z]+$"),
    (_a_pattern, "data.amount_minor: multipleOf was free and is 100"),
    (_another_format, "data.policy.expires_in: format was duration and is date"),
    (_another_default, "data.kind: the default was 'invoice' and is 'prepayment'"),
    (_closed_to_unknown_fields, "data: additionalProperties was free and is False"),
    (_deep_inside, "data.customer.locale: removed"),
    (_stricter_envelope, "time: newly required"),
    (_another_routing_key, "x-routing-key: was invoice.created and is invoice.new"),
    (_another_deduplication_key, "x-deduplication-key: was"),
    (_out_of_the_fingerprint, "data.purpose: left the fingerprint"),
    (_into_the_fingerprint, "data.created_by: joined the fingerprint"),
    (_no_longer_sensitive, "data.customer: is no longer sensitive"),
    (_another_rule_that_nobody_can_judge, "data: dependentRequired was free"),
]


@pytest.mark.parametrize(("change", "told"), BREAKING, ids=lambda value: getattr(value, "__name__", ""))
def test_a_breaking_change_is_found_and_named(published, change, told):
    new = copy.deepcopy(published)
    change(new)

    problems = breaking_changes(published, new)

    assert any(problem.startswith(told) for problem in problems), problems


def _add_field(schema):
    _data(schema)["properties"]["branch"] = {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}


def _add_word(schema):
    _field(schema, "kind")["enum"].append("deposit")


def _any_word(schema):
    del _field(schema, "kind")["enum"]


def _wider_bounds(schema):
    _field(schema, "amount_minor")["maximum"] *= 10
    _field(schema, "purpose")["maxLength"] = 400
    _field(schema, "purpose")["minLength"] = 0


def _the_same_bound_in_other_words(schema):
    _field(schema, "amount_minor").pop("exclusiveMinimum")
    _field(schema, "amount_minor")["minimum"] = 1


def _wider_type(schema):
    _field(schema, "invoice_id")["type"] = ["string", "integer"]


def _number_for_integer(schema):
    _field(schema, "amount_minor")["type"] = "number"


def _no_pattern(schema):
    del _field(schema, "crm")["pattern"]


def _no_longer_required(schema):
    _data(schema)["required"].remove("purpose")


def _required_becomes_optional_with_a_default(schema):
    _data(schema)["required"].remove("currency")
    _field(schema, "currency")["default"] = "AMD"


def _a_new_field_in_the_fingerprint(schema):
    _add_field(schema)
    schema["x-fingerprint"].append("branch")


def _other_words(schema):
    schema["description"] = _data(schema)["description"] = "Something better said."
    schema["examples"] = []


def _part_written_out(schema):
    _field(schema, "customer").pop("$ref")
    _field(schema, "customer").update(schema["$defs"].pop("Customer"))


def _open_said_aloud(schema):
    _data(schema)["additionalProperties"] = True


ADDITIVE = [
    *(_add_field, _add_word, _any_word, _wider_bounds, _the_same_bound_in_other_words, _wider_type, _no_pattern),
    *(_no_longer_required, _required_becomes_optional_with_a_default, _a_new_field_in_the_fingerprint, _other_words),
    *(_part_written_out, _open_said_aloud, _number_for_integer),
]


@pytest.mark.parametrize("change", ADDITIVE, ids=lambda change: change.__name__)
def test_what_only_adds_passes(published, change):
    new = copy.deepcopy(published)
    change(new)
    assert breaking_changes(published, new) == []


def _result(schema):
    return schema["$defs"]["PaymentResult"]


def test_what_was_always_sent_still_is(sent):
    new = copy.deepcopy(sent)
    _result(new)["required"].remove("status")
    assert breaking_changes(sent, new) == ["data.result.status: no longer always sent; readers rely on it"]


def test_readers_of_what_is_sent_meet_no_new_kind_of_value(sent):
    new = copy.deepcopy(sent)
    _result(new)["properties"]["paid_minor"] = {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    (problem,) = breaking_changes(sent, new)
    assert problem.startswith("data.result.paid_minor: type was integer and is string; readers")


def test_a_change_of_type_in_what_is_sent_is_told_once(sent):
    new = copy.deepcopy(sent)
    _result(new)["properties"]["paid_minor"]["type"] = "string"
    assert len(breaking_changes(sent, new)) == 1


def test_a_field_gone_from_what_is_sent_is_told_once(sent):
    new = copy.deepcopy(sent)
    del _result(new)["properties"]["paid_minor"]
    _result(new)["required"].remove("paid_minor")
    (problem,) = breaking_changes(sent, new)
    assert problem.startswith("data.result.paid_minor: removed")


def test_new_fields_and_new_words_in_what_is_sent_pass(sent):
    new = copy.deepcopy(sent)
    new["$defs"]["InvoiceStatus"]["enum"].append("disputed")
    _result(new)["properties"]["fee_minor"] = {"type": "integer", "default": 0}
    _result(new)["required"].append("fee_minor")
    _result(new)["properties"]["payer"] = {"type": "string"}
    assert breaking_changes(sent, new) == []


def test_a_new_field_without_a_default_would_make_kept_messages_unreadable(sent):
    new = copy.deepcopy(sent)
    _result(new)["properties"]["fee_minor"] = {"type": "integer"}
    _result(new)["required"].append("fee_minor")
    (problem,) = breaking_changes(sent, new)
    assert problem.startswith("data.result.fee_minor: newly required")


def test_a_type_that_is_gone_is_a_breaking_change_and_a_new_one_is_none(published):
    assert broken_types({"invoice.created.v1": published}, {"invoice.created.v2": published}) == [
        "invoice.created.v1: removed; keep it as long as somebody may send or read it"
    ]


def test_every_schema_is_compatible_with_itself():
    files = [path for path in PUBLISHED.glob("*.json") if path.name != ASYNCAPI]
    for path in files:
        schema = json.loads(path.read_text(encoding="utf-8"))
        assert breaking_changes(schema, copy.deepcopy(schema)) == []


def test_export_writes_what_is_missing_and_takes_away_what_is_no_contract(tmp_path):
    export(tmp_path)
    assert check(tmp_path) == []

    (tmp_path / "crm.update.v1.json").unlink()
    reworded = (tmp_path / "delivery.json").read_text(encoding="utf-8").replace("Names one", "Points to a")
    (tmp_path / "delivery.json").write_text(reworded, encoding="utf-8")
    (tmp_path / ASYNCAPI).write_text("{}", encoding="utf-8")
    assert check(tmp_path) == [
        "asyncapi.json: differs from the models",
        "crm.update.v1.json: missing",
        "delivery.json: differs from the models",
    ]

    assert export(tmp_path) == ["asyncapi.json", "crm.update.v1.json", "delivery.json"]
    assert check(tmp_path) == []
    assert export(tmp_path) == []


def test_export_does_not_overwrite_a_published_version_with_one_that_breaks_it(tmp_path, published):
    published["$defs"]["InvoiceCreated"]["properties"]["colour"] = {"type": "string"}
    text = json.dumps(published)
    (tmp_path / "invoice.created.v1.json").write_text(text, encoding="utf-8")

    with pytest.raises(BreakingChange, match=r"invoice\.created\.v1: data\.colour: removed"):
        export(tmp_path)

    assert (tmp_path / "invoice.created.v1.json").read_text(encoding="utf-8") == text
    assert not (tmp_path / "crm.update.v1.json").exists()
    export(tmp_path, allow_breaking=True)
    assert check(tmp_path) == []


def test_a_published_type_that_no_model_makes_any_more_is_kept_until_a_person_says_so(tmp_path):
    export(tmp_path)
    (tmp_path / "invoice.created.v0.json").write_text("{}", encoding="utf-8")
    with pytest.raises(BreakingChange, match=r"invoice\.created\.v0: removed"):
        export(tmp_path)
    assert export(tmp_path, allow_breaking=True) == ["invoice.created.v0.json"]
