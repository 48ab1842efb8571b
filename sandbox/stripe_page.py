"""The payment page of the simulated Stripe API, and the way back to the merchant."""

from html import escape

from starlette.responses import HTMLResponse

from sandbox.stripe_money import decimals
from sandbox.stripe_objects import DELAYED, Object

_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "referrer-policy": "no-referrer",
    "x-robots-tag": "noindex",
}
_WORDS = {
    "en": {
        "title": "Payment",
        "notice": "Test page: no real money is charged.",
        "pay": "Pay",
        "pay_later": "Pay by bank debit, which ends later",
        "decline": "Pay with a card that is declined",
        "abandon": "Back",
        "declined": "Your card was declined.",
        "expired": "This session has expired.",
        "complete": "You are all done here.",
    },
    "ru": {
        "title": "Оплата",
        "notice": "Тестовая страница: деньги не списываются.",
        "pay": "Оплатить",
        "pay_later": "Списать с банковского счёта, позже",
        "decline": "Картой, которую отклонят",
        "abandon": "Назад",
        "declined": "Карта отклонена.",
        "expired": "Время сессии истекло.",
        "complete": "Всё готово.",
    },
}


def page(session: Object, *, declined: bool = False) -> HTMLResponse:
    """Draw the page. What has ended says so, and takes no payment [sessions, expire]."""
    language = session["locale"] if session["locale"] in _WORDS else "en"
    words, code = _WORDS[language], session["currency"]
    if session["status"] != "open":
        body = f"<p>{words[session['status']]}</p>"
    else:
        amount = f"{session['amount_total'] / 10 ** decimals(code):,.{decimals(code)}f} {code.upper()}"
        items = "".join(f"<p>{escape(one['description'])}</p>" for one in session["_line_items"])
        failure = f'<p role="alert">{words["declined"]}</p>' if declined else ""
        buttons = f'<form method="post">{_buttons(session, words)}</form>'
        body = f"<p>{amount}</p>{items}<p>{words['notice']}</p>{failure}{buttons}"
    html = (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><title>{words["title"]}</title></head>'
        f"<body><main><h1>{words['title']}</h1>{body}</main></body></html>"
    )
    return HTMLResponse(html, headers=_HEADERS)


def delayed_method(session: Object) -> str | None:
    """Return the first method of the session that notifies later, if it has one."""
    return next((one for one in session["payment_method_types"] if one in DELAYED), None)


def success_url(session: Object) -> str:
    """Return where a customer who has paid goes: https://docs.stripe.com/payments/checkout/custom-success-page."""
    return str(session["success_url"].replace("{CHECKOUT_SESSION_ID}", session["id"]))


def _buttons(session: Object, words: dict[str, str]) -> str:
    names = ["pay", "decline"] if "card" in session["payment_method_types"] else []
    names += ["pay_later"] if delayed_method(session) else []
    names += ["abandon"] if session["cancel_url"] else []
    return "".join(f'<p><button name="action" value="{name}">{words[name]}</button></p>' for name in names)
