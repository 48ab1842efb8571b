"""Turns a link's facts into HTML. Templates escape everything; the texts are in web.texts."""

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import segno
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from contracts.messages import Locale
from db.customer_pages import CustomerView
from runtime.settings import MerchantSettings
from runtime.tokens import TOKEN_LENGTH
from web.formats import format_money, format_time
from web.texts import LANGUAGES, translator

_TOKEN = re.compile(rf"[A-Za-z0-9_-]{{{TOKEN_LENGTH}}}")
_ASSETS = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
REFERENCE_LENGTH = 8


@dataclass(frozen=True, slots=True)
class Shown:
    """How one page is drawn. URLs are paths of ours; None: there is no such thing on this page."""

    state: str
    language: Locale
    language_urls: Mapping[Locale, str]  # the same page in each language
    pay_url: str | None
    form_token: str
    status_url: str
    expected: str  # what `now` of the status says while nothing has changed
    next_url: str | None  # where a waiting page leads when something has; None: the page does not wait
    ask_url: str | None = None  # where a new link is asked for
    has_asked: bool = False
    qr_url: str | None = None
    handover: tuple[str, Mapping[str, str]] | None = None  # the provider's page, and the form fields that it takes


class Renderer:
    """The templates and the static files, read once."""

    def __init__(self) -> None:
        self._templates = Environment(
            loader=PackageLoader("web", "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals["languages"] = LANGUAGES
        folder = files("web") / "static"
        self._assets = {name: (folder / name).read_bytes() for name in _ASSETS}

    def page(self, shown: Shown, view: CustomerView, merchant: MerchantSettings) -> str:
        """Draw a link's page."""

        def money(amount_minor: int) -> str:
            return format_money(amount_minor, view.currency, shown.language)

        return self._draw(
            "page.html",
            shown.language,
            shown=shown,
            view=view,
            merchant=merchant,
            money=money,
            amount=money(view.amount_minor),
            refunded_at=format_time(view.refunded_at) if view.refunded_at else None,
            valid_until=format_time(view.expires_at),
            paid_at=format_time(view.paid_at) if view.paid_at else None,
            reference=view.link_id[-REFERENCE_LENGTH:],
        )

    def message(self, state: str, language: Locale, reference: str | None, merchant: MerchantSettings) -> str:
        """Draw a page that is about no link."""
        return self._draw("message.html", language, state=state, reference=reference, merchant=merchant)

    def _draw(self, template: str, language: Locale, **values: Any) -> str:
        return self._templates.get_template(template).render(t=translator(language), language=language, **values)

    async def asset(self, request: Request) -> Response:
        """Serve a static file of the pages."""
        name = request.path_params["name"]
        if name not in self._assets:
            raise HTTPException(404)
        headers = {"cache-control": "public, max-age=3600", "x-content-type-options": "nosniff"}
        return Response(self._assets[name], headers=headers, media_type=_ASSETS[name])


def qr_code(url: str) -> bytes:
    """Draw a QR code (ISO/IEC 18004, level M) as SVG: black on white in both colour schemes, as cameras want it."""
    drawn = io.BytesIO()
    segno.make(url, error="m", micro=False).save(drawn, kind="svg", scale=5, border=4, dark="#000", light="#fff")
    return drawn.getvalue()


def is_token(text: str) -> bool:
    """Tell whether this could be a link's token at all."""
    return _TOKEN.fullmatch(text) is not None
