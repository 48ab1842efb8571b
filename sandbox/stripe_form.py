"""Requests of the simulated Stripe API: form encoding with brackets, and what a parameter may be.

Shapes of errors are those of https://docs.stripe.com/api/errors and https://docs.stripe.com/error-codes; the words of a
message are no part of an interface and follow Stripe's only roughly.
"""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Check = Callable[[Any, str], Any]
"""Takes a decoded value and the parameter's name, and gives the value in its type. Raises WireError."""

_DEEPEST = 20
MAX_METADATA_KEYS, MAX_METADATA_KEY, MAX_METADATA_VALUE = 50, 40, 500  # https://docs.stripe.com/api/metadata


class WireError(Exception):
    """An answer with an error object. `executed`: the endpoint had begun, so an idempotency key keeps this answer."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        type_: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        executed: bool = False,
        **further: Any,
    ) -> None:
        """Keep the answer; `further` are fields of the error object, as decline_code."""
        super().__init__(message)
        self.status = status
        self.executed = executed
        self._error = {"type": type_, "code": code, "param": param, "message": message, **further}

    def body(self) -> dict[str, Any]:
        """Return the error object without the attributes that it has not; doc_url goes with a code."""
        told = {name: value for name, value in self._error.items() if value is not None}
        code = self._error["code"]
        return {"error": told | ({"doc_url": f"https://stripe.com/docs/error-codes/{code}"} if code else {})}


def missing(kind: str, id_: str, param: str, status: int = 404) -> WireError:
    """Return the error about an object that is not there."""
    return WireError(f"No such {kind}: '{id_}'", status=status, code="resource_missing", param=param)


def lacking(param: str) -> WireError:
    """Return the error about a parameter that did not come."""
    return WireError(f"Missing required param: {param}.", code="parameter_missing", param=param)


def decode(encoded: str) -> dict[str, Any]:
    """Return a form as nested dicts and lists: a[b]=1&c[0][d]=2&e[]=3."""
    tree: dict[str, Any] = {}
    try:
        pairs = parse_qsl(encoded, keep_blank_values=True, max_num_fields=5000)
    except ValueError:
        raise WireError("Too many parameters.") from None
    for name, value in pairs:
        if name.count("[") > _DEEPEST:
            raise WireError("Parameters are nested too deeply.")
        _put(tree, name, value)
    return {name: _with_lists(value) for name, value in tree.items()}


def _put(tree: dict[str, Any], name: str, value: str) -> None:
    first, *rest = name.replace("]", "").split("[")
    at = tree
    for key, following in zip([first, *rest], rest, strict=False):
        at = at.setdefault(key or str(len(at)), {})
        if not isinstance(at, dict):
            raise WireError(f"Invalid object: {following}", param=first)
    last = rest[-1] if rest else first
    if isinstance(at.get(last), dict):
        raise WireError("Invalid string", param=name)
    at[last or str(len(at))] = value


def _with_lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    told = {name: _with_lists(inner) for name, inner in value.items()}
    if told and all(name.isascii() and name.isdigit() for name in told):
        return [told[name] for name in sorted(told, key=int)]
    return told


def text(longest: int = 5000) -> Check:
    """Check a text; an empty one would unset something, and nothing here can be unset."""

    def check(value: Any, name: str) -> str:
        if not isinstance(value, str):
            raise WireError(f"Invalid string: {name}", param=name)
        if not value:
            raise WireError(f"You passed an empty string for '{name}'.", code="parameter_invalid_empty", param=name)
        if len(value) > longest:
            raise WireError(f"Invalid string: {name} must be at most {longest} characters", param=name)
        return value

    return check


def whole(lowest: int = 0) -> Check:
    """Check a whole number: digits alone."""

    def check(value: Any, name: str) -> int:
        digits = value.removeprefix("-") if isinstance(value, str) else ""
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
            raise WireError("Invalid integer", code="parameter_invalid_integer", param=name)
        if int(value) < lowest:
            message = f"This value must be greater than or equal to {lowest}."
            raise WireError(message, code="parameter_invalid_integer", param=name)
        return int(value)

    return check


def choice(*allowed: str) -> Check:
    """Check one of a few words."""

    def check(value: Any, name: str) -> str:
        if value not in allowed:
            raise WireError(f"Invalid {name}: must be one of {', '.join(allowed)}", param=name)
        return str(value)

    return check


def flag(value: Any, name: str) -> bool:
    """Check a boolean."""
    if value not in {"true", "false"}:
        raise WireError(f"Invalid boolean: {name}", param=name)
    return bool(value == "true")


def url(value: Any, name: str) -> str:
    """Check an absolute URL."""
    checked = text()(value, name)
    parts = urlsplit(checked)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise WireError("Not a valid URL", code="url_invalid", param=name)
    return str(checked)


def anything(value: Any, name: str) -> Any:
    """Take what the simulator knows to be a parameter of Stripe's and does nothing with."""
    return value


def listed(inner: Check, most: int = 100) -> Check:
    """Check a list."""

    def check(value: Any, name: str) -> list[Any]:
        if not isinstance(value, list) or len(value) > most:
            raise WireError(f"Invalid array: {name}, of at most {most}", param=name)
        return [inner(one, f"{name}[{number}]") for number, one in enumerate(value)]

    return check


def metadata(value: Any, name: str) -> dict[str, str]:
    """Check metadata: 50 keys of 40 characters with values of 500; an empty value is no value."""
    if value == "":
        return {}
    if not isinstance(value, dict) or len(value) > MAX_METADATA_KEYS:
        raise WireError(f"Invalid object: {name} has at most {MAX_METADATA_KEYS} keys", param=name)
    for key, one in value.items():
        if not isinstance(one, str) or len(key) > MAX_METADATA_KEY or len(one) > MAX_METADATA_VALUE:
            raise WireError("Metadata: a key or a value is too long, or no string", param=f"{name}[{key[:40]}]")
    return {key: one for key, one in value.items() if one}


def fields(known: Mapping[str, Check], required: tuple[str, ...] = ()) -> Check:
    """Check an object: unknown parameters are refused, and so are those that fail to come."""

    def check(value: Any, name: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise WireError(f"Invalid object: {name}", param=name)
        unknown = sorted(set(value) - set(known))
        if unknown:
            message = f"Received unknown parameter: {_inner(name, unknown[0])}"
            raise WireError(message, code="parameter_unknown", param=_inner(name, unknown[0]))
        for one in required:
            if one not in value:
                raise WireError(
                    f"Missing required param: {_inner(name, one)}.", code="parameter_missing", param=_inner(name, one)
                )
        return {one: known[one](inner, _inner(name, one)) for one, inner in value.items()}

    return check


def _inner(outer: str, name: str) -> str:
    return f"{outer}[{name}]" if outer else name


def _created(value: Any, name: str) -> dict[str, int]:
    if isinstance(value, dict):
        bounds = fields(dict.fromkeys(("gt", "gte", "lt", "lte"), whole()))(value, name)
        return {str(bound): int(moment) for bound, moment in bounds.items()}
    moment = whole()(value, name)
    return {"gte": moment, "lte": moment}


EXPAND: Mapping[str, Check] = {"expand": listed(text(500), 20)}
_LIMIT = whole(1)


def _limit(value: Any, name: str) -> int:
    limit = int(_LIMIT(value, name))
    if limit > 100:
        raise WireError("This value must be less than or equal to 100.", code="parameter_invalid_integer", param=name)
    return limit


LIST: Mapping[str, Check] = {
    **EXPAND,
    "limit": _limit,
    "starting_after": text(),
    "ending_before": text(),
    "created": _created,
}
