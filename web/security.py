"""What keeps the customer's page to itself: headers, who may press Pay, where we may send a browser.

A link's token is its secret: pages are not cached, not indexed, not framed, and tell no other site where the customer
came from.
"""

import hmac
import time
from collections.abc import Mapping
from hashlib import sha256
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from runtime.settings import AccountSettings, Settings

# How long "we are preparing your payment" may lead on to the provider before Pay must be pressed again.
TICKET_SECONDS = 1800


def page_headers(settings: Settings) -> dict[str, str]:
    """Return the headers of every page."""
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        f"form-action {' '.join(_form_targets(settings))}; base-uri 'none'; frame-ancestors 'none'"
    )
    return {
        "content-security-policy": policy,
        "cache-control": "no-store",
        "referrer-policy": "no-referrer",
        "x-robots-tag": "noindex, nofollow",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "cross-origin-opener-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=()",
    }


def _form_targets(settings: Settings) -> list[str]:
    """Pay answers with a redirect to the provider, and browsers hold a form's redirects to this list too.

    Providers' hosts are not named: the page must not tell which provider it is before Pay.
    """
    hosts = {urlsplit(account.base_url).hostname for account in settings.accounts.values() if _is_plain(account)}
    return ["'self'", "https:", *sorted(f"http://{host}:*" for host in hosts if host)]


def _is_plain(account: AccountSettings) -> bool:
    return urlsplit(account.base_url).scheme == "http"


def may_redirect(url: str, account: AccountSettings | None) -> bool:
    """Tell whether a provider's page may be visited: https, or http where the account itself is set to that host."""
    try:
        parts = urlsplit(url)
        if not parts.hostname or parts.username is not None or not url.isascii() or not url.isprintable():
            return False
    except ValueError:
        return False
    if parts.scheme == "https":
        return True
    return (
        parts.scheme == "http"
        and account is not None
        and _is_plain(account)
        and parts.hostname == urlsplit(account.base_url).hostname
    )


_WAY_BACK = "paylinks_way_back"


def keep_way_back(response: Response, token: str, settings: Settings) -> None:
    """Let this browser alone find its link again, where a provider sends all customers back to one address."""
    secure = urlsplit(settings.public_base_url).scheme == "https"
    # Lax: sent when the provider's page leads back here by a link or a redirect, and to no other site.
    response.set_cookie(
        _WAY_BACK, token, max_age=TICKET_SECONDS, path="/back", secure=secure, httponly=True, samesite="lax"
    )


def way_back(request: Request) -> str | None:
    """Return the token of the link that this browser left from, if it says one."""
    return request.cookies.get(_WAY_BACK)


class FormGuard:
    """Decides whether a POST came from our own page.

    Sec-Fetch-Site decides where the browser sends it. Else Origin does; but it is "null" under our own Referrer-Policy,
    and then, as for clients that send neither, the form's hidden field must hold what only our page tells.
    """

    def __init__(self, settings: Settings) -> None:
        self._keys = [key.secret.get_secret_value().encode() for key in settings.link_keys]
        self._own_host = urlsplit(settings.public_base_url).netloc.lower()

    def token(self, link_id: str) -> str:
        """Return the hidden field of a link's form."""
        return self._tag(0, "form", link_id)

    def by_headers(self, headers: Mapping[str, str]) -> bool | None:
        """Decide by the browser's headers; None: they say nothing."""
        site = headers.get("sec-fetch-site")
        if site is not None:
            return site in ("same-origin", "none")
        origin = headers.get("origin")
        if origin is None or origin == "null":
            return None
        try:
            host = urlsplit(origin).netloc.lower()
        except ValueError:
            return False
        return bool(host) and host in (headers.get("host", "").lower(), self._own_host)

    def by_token(self, link_id: str, given: str) -> bool:
        """Decide by the hidden field."""
        return any(self._same(number, given, "form", link_id) for number in range(len(self._keys)))

    def ticket(self, link_id: str) -> str:
        """Prove, for a while, that Pay was pressed for this link."""
        until = int(time.time()) + TICKET_SECONDS
        return f"{until}.{self._tag(0, 'ticket', link_id, until)}"

    def admits(self, link_id: str, ticket: str) -> bool:
        """Tell whether a ticket is ours, for this link, and still good."""
        text, _, tag = ticket.partition(".")
        if not (text.isascii() and text.isdigit() and len(text) <= 12) or int(text) < time.time():
            return False
        return any(self._same(number, tag, "ticket", link_id, int(text)) for number in range(len(self._keys)))

    def _same(self, number: int, given: str, *parts: object) -> bool:
        return hmac.compare_digest(self._tag(number, *parts).encode(), given.encode("utf-8", "replace"))

    def _tag(self, number: int, *parts: object) -> str:
        text = "\n".join(str(part) for part in ("paylinks.page", *parts))
        return hmac.new(self._keys[number], text.encode(), sha256).hexdigest()[:40]
