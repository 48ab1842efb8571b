"""The payment page of the simulated ArCa iPay / BPC gateway, and the way back to the merchant."""

from html import escape

from starlette.responses import HTMLResponse

from sandbox.arca_orders import Order

_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "referrer-policy": "no-referrer",
    "x-robots-tag": "noindex",
}
_WORDS = {
    "en": ("Payment", "Test page: no real money is charged.", "Pay", "Pay with a card that is declined", "Back"),
    "ru": ("Оплата", "Тестовая страница: деньги не списываются.", "Оплатить", "Картой, которую отклонят", "Назад"),
    "hy": ("Վճարում", "Փորձնական էջ է. իրական գումար չի գանձվում։", "Վճարել", "Քարտով, որը կմերժվի", "Վերադառնալ"),
}


def page(order: Order) -> HTMLResponse:
    """Draw the page in the order's language."""
    title, notice, pay, decline, back = _WORDS.get(order.language, _WORDS["en"])
    buttons = ((("pay", pay), ("decline", decline)) if order.is_payable else ()) + (("abandon", back),)
    shown = "".join(f'<p><button name="action" value="{name}">{words}</button></p>' for name, words in buttons)
    html = (
        f'<!doctype html><html lang="{order.language}"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><title>{title}</title></head>'
        f"<body><main><h1>{title}</h1><p>{order.amount / 100:,.2f} ({order.currency})</p>"
        f"<p>{escape(order.description)}</p><p>{notice}</p>"
        f'<form method="post">{shown}</form></main></body></html>'
    )
    return HTMLResponse(html, headers=_HEADERS)


def back_url(order: Order) -> str:
    """Return returnUrl with orderId and lang appended [Make use of returnUrl]: the same after a failure."""
    return f"{order.return_url}{'&' if '?' in order.return_url else '?'}orderId={order.id}&lang={order.language}"
