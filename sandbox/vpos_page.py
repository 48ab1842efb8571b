"""The hosted checkout of the simulated VPOS.am, and the way back to the merchant. ASSUMED: all of it."""

from html import escape
from urllib.parse import urlencode

from starlette.responses import HTMLResponse

from sandbox.vpos_sessions import Session

_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
    "referrer-policy": "no-referrer",
    "x-robots-tag": "noindex",
}


def page(session: Session) -> HTMLResponse:
    """Draw the page."""
    buttons = [("pay", "Pay"), ("decline", "Pay with a card that is declined")] if session.is_open else []
    shown = "".join(
        f'<p><button name="action" value="{name}">{words}</button></p>' for name, words in [*buttons, ("back", "Back")]
    )
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><title>Payment</title></head>'
        f"<body><main><h1>Payment</h1><p>{session.amount / 100:,.2f} {escape(session.currency)}</p>"
        f"<p>{escape(session.order_id)}</p><p>Test page: no real money is charged.</p>"
        f'<form method="post">{shown}</form></main></body></html>'
    )
    return HTMLResponse(html, headers=_HEADERS)


def back_url(session: Session, status: str) -> str:
    """Return returnUrl with what a browser may read there, and anybody may forge."""
    told = urlencode({"sessionId": session.id, "status": status})
    return f"{session.return_url}{'&' if '?' in session.return_url else '?'}{told}"
