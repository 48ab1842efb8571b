"""Idempotency keys of the simulated Stripe API.

https://docs.stripe.com/api/idempotent_requests: the first answer is kept with its status, a 500 too; other parameters
are an error; nothing is kept where validation failed or another request with the key was under way; keys are pruned
when they are at least a day old, and then a new object comes. At most 255 characters.
"""

from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from sandbox.stripe_form import WireError

MAX_KEY = 255


@dataclass
class _Kept:
    asked: Any
    answer: Response | None = None


class Keys:
    """The keys of one account."""

    def __init__(self) -> None:
        """Begin with none."""
        self._kept: dict[str, _Kept] = {}

    def begin(self, key: str, path: str, params: Any) -> Response | None:
        """Return the answer that is kept, or None: the request is the first one. WireError where it may not be made."""
        if len(key) > MAX_KEY:
            # ASSUMED: the words and the missing code.
            raise WireError(f"Idempotency keys may be at most {MAX_KEY} characters long.", type_="idempotency_error")
        found = self._kept.get(key)
        if found is None:
            self._kept[key] = _Kept((path, params))
            return None
        if found.asked != (path, params):
            message = (
                "Keys for idempotent requests can only be used with the same parameters they were first used with."
            )
            raise WireError(message, type_="idempotency_error")
        if found.answer is None:  # https://docs.stripe.com/error-codes#idempotency-key-in-use; ASSUMED: the type
            message = "There is currently another in-progress request using this Idempotent Key."
            raise WireError(message, status=409, type_="idempotency_error", code="idempotency_key_in_use")
        return found.answer

    def end(self, key: str, answer: Response | None) -> None:
        """Keep the answer, or forget the key."""
        if answer is None:
            self._kept.pop(key, None)
        else:
            self._kept[key].answer = answer

    def prune(self) -> None:
        """Forget what is answered, as Stripe may after 24 hours."""
        self._kept = {key: one for key, one in self._kept.items() if one.answer is None}
