"""Would a change break those who already speak a published version? Schema against schema, keyword by keyword.

Every published message must still be readable: nothing that it may hold is refused now, no field of it is ignored now,
and an absent field still means the same. What we send is also promised the other way round: nothing arrives that the
published schema excludes, and what always came still comes. New words in an enumeration are the exception, because
readers are told to expect them.

What cannot be judged counts as breaking: a breaking change is a new version beside the old one, never an edit.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]

# Each bound: its keyword, the exclusive form if it has one, and whether a higher number allows less (1) or more (-1).
_BOUNDS = (
    ("minimum", "exclusiveMinimum", 1),
    ("maximum", "exclusiveMaximum", -1),
    *((f"min{what}", "", 1) for what in ("Length", "Items", "Properties")),
    *((f"max{what}", "", -1) for what in ("Length", "Items", "Properties")),
)
_HANDLED = {
    *(
        "$ref",
        "$defs",
        "type",
        "enum",
        "const",
        "anyOf",
        "oneOf",
        "allOf",
        "properties",
        "required",
        "items",
        "default",
    ),
    *(keyword for bound in _BOUNDS for keyword in bound[:2]),
}
_WORDS_ONLY = {"$schema", "$id", "$comment", "title", "description", "examples", "deprecated"}
_KINDS = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})


@dataclass(frozen=True, slots=True)
class _Finding:
    """Something that one schema allows and the other does not."""

    path: str  # "" for the whole event
    what: str  # the keyword, or "field" for one that is gone
    before: str
    after: str


def breaking_changes(published: Schema, new: Schema) -> list[str]:
    """Return each way in which `new` breaks `published`: "data.currency: ..."; empty when it only adds.

    Both are schemas of the same type and version, as `contracts export` writes them.
    """
    narrowed = _Comparison(published, new).findings()
    problems = [_as_refusal(finding) for finding in narrowed]
    if published.get("x-direction") == "outbound":
        widened = _Comparison(new, published).findings()
        problems += [_as_surprise(finding) for finding in widened if _surprises(finding, narrowed)]
    return problems + list(_changed_facts(published, new))


def broken_types(published: Mapping[str, Schema], new: Mapping[str, Schema]) -> list[str]:
    """Compare whole sets by name; a published name that is missing now is a breaking change too."""
    problems = []
    for name, schema in sorted(published.items()):
        if name not in new:
            problems.append(f"{name}: removed; keep it as long as somebody may send or read it")
        else:
            problems += [f"{name}: {problem}" for problem in breaking_changes(schema, new[name])]
    return problems


def _as_refusal(finding: _Finding) -> str:
    texts = {
        "field": f"removed{finding.after}; readers and senders still use it",
        "required": "newly required; who does not send it is refused now",
        "default": f"the default was {finding.before} and is {finding.after}; an absent field means something else now",
    }
    usual = f"{finding.what} was {finding.before} and is {finding.after}; what was valid is refused now"
    return f"{finding.path or 'event'}: {texts.get(finding.what, usual)}"


def _surprises(finding: _Finding, said: list[_Finding]) -> bool:
    """Leave out what is no surprise (a new field, a new word), and what was said already."""
    known = {
        (other.path, what) for other in said for what in {other.what, finding.what if other.what == "field" else ""}
    }
    return finding.what not in {"field", "default", "values"} and (finding.path, finding.what) not in known


def _as_surprise(finding: _Finding) -> str:
    if finding.what == "required":
        return f"{finding.path}: no longer always sent; readers rely on it"
    return (
        f"{finding.path or 'event'}: {finding.what} was {finding.after} and is {finding.before}; "
        "readers of the published version do not expect it"
    )


def _changed_facts(published: Schema, new: Schema) -> Iterator[str]:
    """Compare what no JSON Schema keyword says: where a message travels and what makes two of them the same."""
    for fact in ("x-direction", "x-routing-key", "x-deduplication-key"):
        if fact in published and published[fact] != new.get(fact):
            yield f"{fact}: was {published[fact]} and is {new.get(fact)}"
    fields = _data_fields(published)
    before, after = set(published.get("x-fingerprint", ())), set(new.get("x-fingerprint", ()))
    for field in sorted((before ^ after) & fields):
        change = "left" if field in before else "joined"
        yield f"data.{field}: {change} the fingerprint; messages that are known already would look different"
    for field in sorted(set(published.get("x-sensitive-fields", ())) - set(new.get("x-sensitive-fields", ()))):
        yield f"data.{field}: is no longer sensitive; it was promised to be encrypted"


def _data_fields(schema: Schema) -> set[str]:
    data = _resolved(schema.get("properties", {}).get("data", {}), schema)
    return set(data.get("properties", ()))


def _resolved(node: Any, root: Schema) -> Schema:
    """Follow references, and join what stands beside them or in an `allOf` of one."""
    if isinstance(node, bool):
        return {} if node else {"enum": []}
    joined = dict(node)
    reference = joined.pop("$ref", None)
    parts = joined.pop("allOf", [])
    if reference is not None:
        parts = [*parts, _at(reference, root)]
    for part in parts:
        joined = {**_resolved(part, root), **joined}
    return joined


def _at(reference: str, root: Schema) -> Any:
    found: Any = root
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


class _Comparison:
    """Finds what `wide` allows and `narrow` refuses."""

    def __init__(self, wide: Schema, narrow: Schema) -> None:
        self._wide = wide
        self._narrow = narrow

    def findings(self) -> list[_Finding]:
        """Return every finding, in the order of the fields."""
        return list(self._compare(self._wide, self._narrow, ""))

    def _compare(self, wide: Any, narrow: Any, path: str) -> Iterator[_Finding]:
        wide, narrow = _resolved(wide, self._wide), _resolved(narrow, self._narrow)
        choices = _choices(narrow, self._narrow)
        for choice in _choices(wide, self._wide):
            yield from self._best(choice, choices, path)

    def _best(self, wide: Schema, choices: list[Schema], path: str) -> Iterator[_Finding]:
        """Compare one alternative with the one of the other side that takes most of it."""
        fitting = [choice for choice in choices if _kinds(wide) <= _kinds(choice)]
        if not fitting:
            allowed = {kind for choice in choices for kind in _kinds(choice)}
            yield _Finding(path, "type", _list(_kinds(wide)), _list(allowed))
            return
        yield from min((list(self._single(wide, choice, path)) for choice in fitting), key=len)

    def _single(self, wide: Schema, narrow: Schema, path: str) -> Iterator[_Finding]:
        yield from _values(wide, narrow, path)
        yield from _bounds(wide, narrow, path)
        yield from _unknown_keywords(wide, narrow, path)
        yield from self._fields(wide, narrow, path)
        if "items" in narrow:
            yield from self._compare(wide.get("items", {}), narrow["items"], f"{path}[]")

    def _fields(self, wide: Schema, narrow: Schema, path: str) -> Iterator[_Finding]:
        before, after = wide.get("properties", {}), narrow.get("properties", {})
        had, has = set(wide.get("required", ())), set(narrow.get("required", ()))
        for name, rule in before.items():
            where = _join(path, name)
            if name not in after:
                yield _Finding(where, "field", "", _renamed_to(sorted(set(after) - set(before))))
                continue
            yield from self._compare(rule, after[name], where)
            if name not in had | has:
                yield from _default(rule, after[name], where)
        # A new field that is always sent harms nobody if it has a default for the messages that we kept without it.
        harmless = {name for name, rule in after.items() if name not in before and "default" in rule}
        yield from (_Finding(_join(path, name), "required", "", "") for name in sorted(has - had - harmless))


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _renamed_to(added: list[str]) -> str:
    return f" (renamed to {' or '.join(added)}?)" if added else ""


def _choices(node: Schema, root: Schema) -> list[Schema]:
    """Return the alternatives of a node, each with a type of its own where it names types."""
    nested = [*node.get("anyOf", ()), *node.get("oneOf", ())]
    shared = {keyword: value for keyword, value in node.items() if keyword not in ("anyOf", "oneOf", "default")}
    if nested:
        return [leaf for choice in nested for leaf in _choices({**shared, **_resolved(choice, root)}, root)]
    if isinstance(node.get("type"), list):
        return [{**shared, "type": kind} for kind in node["type"]]
    return [shared]


def _kinds(node: Schema) -> set[str]:
    if "type" in node:
        return {"integer", "number"} if node["type"] == "number" else {node["type"]}
    values = _allowed_values(node)
    return set(_KINDS) if values is None else {_kind_of(value) for value in values}


def _kind_of(value: Any) -> str:
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return kinds.get(type(value), "null")


def _allowed_values(node: Schema) -> list[Any] | None:
    if "const" in node:
        return [node["const"]]
    return list(node["enum"]) if "enum" in node else None


def _values(wide: Schema, narrow: Schema, path: str) -> Iterator[_Finding]:
    before, after = _allowed_values(wide), _allowed_values(narrow)
    if after is None:
        return
    if before is None:
        yield _Finding(path, "value", "free", _list(after))
    elif gone := [value for value in before if value not in after]:
        yield _Finding(path, "values", f"one of {_list(before)}", f"one of {_list(after)} (without {_list(gone)})")


def _bounds(wide: Schema, narrow: Schema, path: str) -> Iterator[_Finding]:
    for inclusive, exclusive, sign in _BOUNDS:
        if _edge(narrow, inclusive, exclusive, sign) > _edge(wide, inclusive, exclusive, sign):
            before = wide.get(inclusive, wide.get(exclusive, "free"))
            yield _Finding(path, inclusive, str(before), str(narrow.get(inclusive, narrow.get(exclusive))))


def _edge(node: Schema, inclusive: str, exclusive: str, sign: int) -> tuple[float, bool]:
    """Return where the allowed values begin, turned so that the greater edge always allows less."""
    edges = [(float("-inf"), False)]
    if inclusive.startswith("min") and inclusive != "minimum":
        edges.append((0, False))  # no text is shorter than nothing
    if inclusive in node:
        edges.append((node[inclusive] * sign, False))
    if exclusive in node:
        # Whole numbers above 0 are those from 1.
        is_whole = node.get("type") == "integer"
        edges.append((node[exclusive] * sign + is_whole, not is_whole))
    return max(edges)


def _unknown_keywords(wide: Schema, narrow: Schema, path: str) -> Iterator[_Finding]:
    """Any other rule, a pattern or a format among them, must have been there before, word for word."""
    for keyword in sorted(set(narrow) - _HANDLED - _WORDS_ONLY):
        is_free = keyword == "additionalProperties" and narrow[keyword] is True
        if not keyword.startswith("x-") and not is_free and wide.get(keyword) != narrow[keyword]:
            yield _Finding(path, keyword, str(wide.get(keyword, "free")), str(narrow[keyword]))


def _default(wide: Schema, narrow: Schema, path: str) -> Iterator[_Finding]:
    # Null and absent are the same default.
    before, after = wide.get("default"), narrow.get("default")
    if before != after:
        yield _Finding(path, "default", repr(before), repr(after))


def _list(values: Any) -> str:
    return "anything" if values == _KINDS else ", ".join(sorted(str(value) for value in values))
