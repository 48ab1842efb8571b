"""The payment page of the simulated Idram, and the way back to the merchant."""

from html import escape
from urllib.parse import urlencode

from starlette.responses import HTMLResponse

from sandbox.idram_bills import Submission

_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "referrer-policy": "no-referrer",
    "x-robots-tag": "noindex",
}
_WORDS = {
    "EN": ("en", "Idram payment", "Test page: no real money is charged.", "Pay", "Not enough money", "Give up"),
    "RU": ("ru", "Оплата Idram", "Тестовая страница: деньги не списываются.", "Оплатить", "Не хватает денег", "Уйти"),
    "AM": (
        "hy",
        "Idram վճարում",
        "Փորձնական էջ է. իրական գումար չի գանձվում։",
        "Վճարել",
        "Գումարը չի բավարարում",
        "Թողնել",
    ),
}


def page(submission: Submission) -> HTMLResponse:
    """Draw the page in the form's language; buttons only while the customer may decide."""
    language, title, notice, pay, decline, abandon = _WORDS[submission.fields["EDP_LANGUAGE"]]
    buttons = (("pay", pay), ("decline", decline), ("abandon", abandon)) if submission.state == "open" else ()
    shown = "".join(f'<p><button name="action" value="{name}">{words}</button></p>' for name, words in buttons)
    description = escape(submission.fields.get("EDP_DESCRIPTION", ""))
    return _html(
        language,
        title,
        f"<p>{submission.cents / 100:,.2f} AMD</p><p>{description}</p><p>{notice}</p>"
        f'<form method="post">{shown}</form>',
    )


def error_page(why: str) -> HTMLResponse:
    """Say that a form is none. ASSUMED: with HTTP 400; the document shows no such page."""
    return _html("en", "Idram payment", f"<p>{escape(why)}</p>", status=400)


def back_url(base: str, submission: Submission) -> str:
    """Return SUCCESS_URL or FAIL_URL with the merchant's own fields [2]. ASSUMED: in the query of a GET."""
    query = urlencode(submission.own_fields)
    return f"{base}{'&' if '?' in base else '?'}{query}" if query else base


def _html(language: str, title: str, body: str, *, status: int = 200) -> HTMLResponse:
    html = (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><title>{title}</title></head>'
        f"<body><main><h1>{title}</h1>{body}</main></body></html>"
    )
    return HTMLResponse(html, status, headers=_HEADERS)
