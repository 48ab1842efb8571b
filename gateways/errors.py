"""Three failures of an outside call.

    GatewayError
    ├── Unavailable   nothing happened there; the same call may be tried again
    │   ├── LoginRefused  it does not let us in: our key is to blame, and nobody's order
    │   └── Postponed     we did not even call: not our turn yet, or it is known to be down. Counts as no try
    ├── Refused       the other side understood and said no; the same call will never succeed
    └── Unknown       it may have happened: ask under our own reference before anything is repeated

None carries a status of ours, and none carries personal data: `detail` is safe to log and to show to support.
"""


class GatewayError(Exception):
    """An outside call that gave no result."""

    def __init__(self, detail: str, *, code: str = "", provider_request_id: str | None = None) -> None:
        """Keep what support needs: a short safe sentence, the other side's code and its own request id."""
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.provider_request_id = provider_request_id


class Unavailable(GatewayError):
    """Nothing happened there: no connection, overload, maintenance."""

    def __init__(
        self,
        detail: str,
        *,
        code: str = "",
        provider_request_id: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        """Also keep the pause that the other side asked for, in seconds."""
        super().__init__(detail, code=code, provider_request_id=provider_request_id)
        self.retry_after_seconds = retry_after_seconds


class LoginRefused(Unavailable):
    """It does not let us in: a key that is wrong, or was replaced there before here. Tried too often, some block it."""

    def __init__(self, detail: str, *, provider_request_id: str | None = None) -> None:
        """Say which call found it out."""
        super().__init__(detail, code="login_refused", provider_request_id=provider_request_id)


class Postponed(Unavailable):
    """Nothing was sent: come back after `retry_after_seconds`. No retry budget is spent on it."""

    def __init__(self, detail: str, *, code: str, retry_after_seconds: float) -> None:
        """Say why, and when to come back."""
        super().__init__(detail, code=code, retry_after_seconds=retry_after_seconds)


class Refused(GatewayError):
    """The other side understood and said no."""


class Unknown(GatewayError):
    """It may have happened: the call left us and no answer came back."""
