"""Ways between an adapter and its provider that a test puts in between: transports that keep, repeat or spoil."""

import json
from collections.abc import Sequence
from typing import Any

import httpx


class Recording(httpx.BaseTransport):
    """Passes on, and keeps what was asked and answered."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: list[httpx.Response] = []
        self._way = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.read().decode())
        answer = self._way.handle_request(request)
        content = answer.read()
        answer.close()
        self.answers.append(httpx.Response(answer.status_code, headers=answer.headers, content=content))
        return httpx.Response(answer.status_code, headers=answer.headers, content=content)

    def close(self) -> None:
        self._way.close()


class Replaying(httpx.BaseTransport):
    """Gives kept answers, whatever is asked."""

    def __init__(self, answers: Sequence[httpx.Response]) -> None:
        self._answers = list(answers)
        self._asked = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        kept = self._answers[min(self._asked, len(self._answers) - 1)]
        self._asked += 1
        return httpx.Response(kept.status_code, headers=kept.headers, content=kept.content)


SPOILS = ("half", "status_400", "status_404", "status_500", "strings", "numbers")


class Spoiling(httpx.BaseTransport):
    """Passes on, and spoils the answer in one way; strings or numbers become what nobody may read."""

    def __init__(self, how: str, planted: tuple[str, ...]) -> None:
        self._how = how
        self._planted = planted or ("4111111111111111 ANAHIT TESTYAN",)
        self._way = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._way.handle_request(request)
        content, status = answer.read(), answer.status_code
        answer.close()
        match self._how:
            case "half":
                content = content[: len(content) // 2]
            case "strings" | "numbers":
                content = self._filled(content)
            case _:
                status = int(self._how.removeprefix("status_"))
        return httpx.Response(status, headers={"content-type": answer.headers.get("content-type", "")}, content=content)

    def _filled(self, content: bytes) -> bytes:
        try:
            document = json.loads(content)
        except ValueError:
            return " ".join(self._planted).encode()
        return json.dumps(self._replaced(document)).encode()

    def _replaced(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._replaced(one) for name, one in value.items()}
        if isinstance(value, list):
            return [self._replaced(one) for one in value]
        is_struck = isinstance(value, str) if self._how == "strings" else isinstance(value, int | float)
        return self._planted[len(str(value)) % len(self._planted)] if is_struck else value

    def close(self) -> None:
        self._way.close()


class Given(Replaying):
    """Gives what it is told to, then the last of it again and again. AssertionError when the questions have no end."""

    def __init__(self) -> None:
        super().__init__([httpx.Response(500)])

    def give(self, answers: Sequence[httpx.Response]) -> None:
        super().__init__(answers)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        assert self._asked < 100, "it asks without an end"
        return super().handle_request(request)
