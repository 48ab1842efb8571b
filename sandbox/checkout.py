"""The hosted page of the sandbox's provider, where a customer pays, is declined, pays later, or walks away."""

from html import escape
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from starlette.responses import HTMLResponse

from sandbox.orders import Order

# The page frames nothing, runs nothing and is kept by nobody. form-action stays unset: browsers apply it to the
# redirect after a form too, and that leads to the merchant.
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-robots-tag": "noindex",
}
_DECIMALS = {"JPY": 0, "KWD": 3}
_ACTIONS = ("pay", "decline", "pay_later", "abandon")

_WORDS = {
    "en": {
        "title": "Payment",
        "notice": "Test page: no real money is charged.",
        "pay": "Pay",
        "decline": "Pay with a card that is declined",
        "pay_later": "Pay, result comes later",
        "abandon": "Back to the shop without paying",
        "declined": "The last try was declined. You may try again.",
        "closed": "This order cannot be paid any more.",
        "processing": "The payment is being processed.",
        "paid": "The order is paid.",
        "back": "Back to the shop",
    },
    "ru": {
        "title": "Оплата",
        "notice": "Тестовая страница: деньги не списываются.",
        "pay": "Оплатить",
        "decline": "Оплатить картой, которую отклонят",
        "pay_later": "Оплатить, результат придёт позже",
        "abandon": "Вернуться в магазин без оплаты",
        "declined": "Последняя попытка отклонена. Можно попробовать ещё раз.",
        "closed": "Этот заказ больше нельзя оплатить.",
        "processing": "Платёж обрабатывается.",
        "paid": "Заказ оплачен.",
        "back": "Вернуться в магазин",
    },
    "hy": {
        "title": "Վճարում",
        "notice": "Փորձնական էջ է. իրական գումար չի գանձվում։",
        "pay": "Վճարել",
        "decline": "Վճարել քարտով, որը կմերժվի",
        "pay_later": "Վճարել, արդյունքը կգա ավելի ուշ",
        "abandon": "Վերադառնալ խանութ առանց վճարելու",
        "declined": "Վերջին փորձը մերժվել է։ Կարող եք կրկին փորձել։",
        "closed": "Այս պատվերն այլևս հնարավոր չէ վճարել։",
        "processing": "Վճարումը մշակվում է։",
        "paid": "Պատվերը վճարված է։",
        "back": "Վերադառնալ խանութ",
    },
}

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;margin:0;background:#f3f4f6;color:#111}
main{max-width:26rem;margin:2rem auto;padding:1.5rem;background:#fff;border-radius:.75rem;box-shadow:0 1px 4px #0002}
.sum{font-size:1.9rem;font-weight:700;margin:.2rem 0}.note{color:#92400e;background:#fef3c7;padding:.5rem .75rem}
button{width:100%;padding:.75rem;margin:.3rem 0;font:inherit}
button{border:1px solid #9ca3af;border-radius:.5rem;background:#fff}
button[value=pay]{background:#1d4ed8;border-color:#1d4ed8;color:#fff}
button:focus-visible,a:focus-visible{outline:3px solid #f59e0b;outline-offset:2px}
"""


def page(order: Order, status: int = 200) -> HTMLResponse:
    """Draw the page in the order's language."""
    words = _WORDS[order.locale]
    middle = _buttons(order, words) if order.is_payable else _closed(order, words)
    html = (
        f'<!doctype html><html lang="{order.locale}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{words['title']}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{words['title']}</h1><p class=sum>{_sum(order)}</p><p>{escape(order.description)}</p>"
        f"<p class=note>{words['notice']}</p>{middle}</main></body></html>"
    )
    return HTMLResponse(html, status, _HEADERS)


def back_url(order: Order) -> str:
    """Return the merchant's page with our reference added to its query."""
    parts = urlsplit(order.return_url)
    query = [*parse_qsl(parts.query, keep_blank_values=True), ("reference", order.reference)]
    return urlunsplit(parts._replace(query=urlencode(query)))


def _buttons(order: Order, words: dict[str, str]) -> str:
    told = f'<p role="status">{words["declined"]}</p>' if order.status == "declined" else ""
    buttons = "".join(f'<button name="action" value="{name}">{words[name]}</button>' for name in _ACTIONS)
    return f'{told}<form method="post">{buttons}</form>'


def _closed(order: Order, words: dict[str, str]) -> str:
    told = words.get(order.status, words["closed"])
    return f'<p role="status">{told}</p><p><a href="{escape(back_url(order))}">{words["back"]}</a></p>'


def _sum(order: Order) -> str:
    decimals = _DECIMALS.get(order.currency, 2)
    whole, part = divmod(order.amount_minor, 10**decimals)
    tail = f".{part:0{decimals}d}" if decimals else ""
    return f"{whole:,}{tail} {order.currency}".replace(",", "\N{NO-BREAK SPACE}")
