"""The payment page of the simulated Ameriabank vPOS, and the customer's way back to the merchant."""

from html import escape
from urllib.parse import urlencode

from starlette.responses import HTMLResponse

from sandbox.ameriabank_payments import MESSAGES, OK, Payment, major

_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "referrer-policy": "no-referrer",
    "x-robots-tag": "noindex",
}
# [doc]: lang is am, ru or en. `am` is the bank's word for Armenian, whose language code is hy.
_WORDS = {
    "en": ("en", "Payment", "Test page: no real money is charged.", "Pay", "Pay with a card that is declined"),
    "ru": ("ru", "Оплата", "Тестовая страница: деньги не списываются.", "Оплатить", "Картой, которую отклонят"),
    "am": ("hy", "Վճարում", "Փորձնական էջ է. իրական գումար չի գանձվում։", "Վճարել", "Քարտով, որը կմերժվի"),
}


def page(payment: Payment, language: str) -> HTMLResponse:
    """Draw the page, with buttons while a customer may pay."""
    code, title, notice, pay, decline = _WORDS.get(language, _WORDS["en"])
    buttons = (("pay", pay), ("decline", decline)) if payment.is_payable else ()
    shown = "".join(f'<p><button name="action" value="{name}">{words}</button></p>' for name, words in buttons)
    html = (
        f'<!doctype html><html lang="{code}"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><title>{title}</title></head>'
        f"<body><main><h1>{title}</h1><p>{major(payment.amount):,.2f} ({payment.currency})</p>"
        f"<p>{escape(payment.description)}</p><p>{notice}</p>"
        f'<form method="post">{shown}</form></main></body></html>'
    )
    return HTMLResponse(html, headers=_HEADERS)


def back_url(payment: Payment, *, broken: bool = False) -> str:
    """Return BackURL with what the bank appends: unsigned, misspelt, the id in lower case [doc; obs 4.10, 4.12].

    ASSUMED: appended with & where the URL has a query. `broken`: the page itself failed, and nobody tried anything.
    """
    words = "Operation Approved " if payment.code == OK else MESSAGES.get(payment.code, "Decline.")
    told = {
        "orderID": str(payment.order_id),
        "resposneCode": "0999" if broken else payment.code,
        "paymentID": payment.id,
        "opaque": payment.opaque,
        "description": "Internal server error" if broken else words,
    }
    return f"{payment.back_url}{'&' if '?' in payment.back_url else '?'}{urlencode(told)}"
