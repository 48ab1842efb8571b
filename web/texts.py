"""What the customer's pages say, in the three languages that customers here read. A test finds what is missing.

Placeholders are in braces and the same in all languages. No text claims what the provider has not proven.
"""

from collections.abc import Callable
from typing import get_args

from contracts.messages import Locale
from rules.pages import PageState

LANGUAGES: dict[Locale, str] = {"hy": "Հայերեն", "ru": "Русский", "en": "English"}
DEFAULT: Locale = "en"
# Every page that there is: one for each state of a link, what waits or leads nowhere, and messages about no link.
PAGES = frozenset(
    {*PageState, "preparing", "handover", "checking", "unavailable"}
    | {"not_found", "too_many", "refused", "trouble", "come_back"}
)

TEXTS: dict[str, dict[Locale, str]] = {
    "page.title": {"hy": "Վճարում", "ru": "Оплата", "en": "Payment"},
    "page.language": {"hy": "Լեզու", "ru": "Язык", "en": "Language"},
    "label.invoice": {"hy": "Հաշիվ", "ru": "Счёт", "en": "Invoice"},
    "label.deal": {"hy": "Գործարք", "ru": "Сделка", "en": "Deal"},
    "label.order": {"hy": "Պատվեր", "ru": "Заказ", "en": "Order"},
    "label.purpose": {"hy": "Նպատակ", "ru": "Назначение", "en": "Purpose"},
    "label.amount": {"hy": "Գումար", "ru": "Сумма", "en": "Amount"},
    "label.valid_until": {"hy": "Հղումը գործում է մինչև", "ru": "Ссылка действует до", "en": "Link valid until"},
    "label.paid_at": {"hy": "Վճարվել է", "ru": "Оплачено", "en": "Paid on"},
    "label.payment_number": {"hy": "Վճարման համար", "ru": "Номер платежа", "en": "Payment number"},
    "label.seller": {"hy": "Վաճառող", "ru": "Продавец", "en": "Seller"},
    "label.contact": {"hy": "Հարցերի դեպքում", "ru": "Вопросы", "en": "Questions"},
    "label.paid": {"hy": "Վճարված է", "ru": "Оплачено", "en": "Paid"},
    "label.remaining": {"hy": "Մնացել է վճարել", "ru": "Осталось оплатить", "en": "Remaining"},
    "label.refunded": {"hy": "Վերադարձված է", "ru": "Возвращено", "en": "Given back"},
    "label.refunded_at": {"hy": "Վերադարձի օրը", "ru": "Дата возврата", "en": "Given back on"},
    "label.reference": {
        "hy": "Կոդ՝ աջակցության ծառայության համար",
        "ru": "Код для службы поддержки",
        "en": "Reference for support",
    },
    "time.zone": {"hy": "Երևանի ժամանակով", "ru": "по ереванскому времени", "en": "Yerevan time"},
    "button.pay": {"hy": "Վճարել {amount}", "ru": "Оплатить {amount}", "en": "Pay {amount}"},
    "button.rest": {"hy": "Վճարել մնացած {amount}", "ru": "Оплатить остаток {amount}", "en": "Pay the rest, {amount}"},
    "button.again": {"hy": "Փորձել կրկին", "ru": "Попробовать ещё раз", "en": "Try again"},
    "button.continue": {"hy": "Շարունակել վճարումը", "ru": "Продолжить оплату", "en": "Continue the payment"},
    "button.check": {"hy": "Ստուգել կրկին", "ru": "Проверить ещё раз", "en": "Check again"},
    "button.open": {"hy": "Բացել վճարման էջը", "ru": "Открыть страницу оплаты", "en": "Open the payment page"},
    "button.result": {"hy": "Ցույց տալ արդյունքը", "ru": "Показать результат", "en": "Show the result"},
    "button.print": {"hy": "Տպել", "ru": "Распечатать", "en": "Print"},
    "news.text": {
        "hy": "Վճարման վիճակը փոխվել է։",
        "ru": "Состояние платежа изменилось.",
        "en": "The state of the payment has changed.",
    },
    "print.text": {
        "hy": "Այս էջը կարող եք տպել կամ պահել։",
        "ru": "Эту страницу можно распечатать или сохранить.",
        "en": "You may print or save this page.",
    },
    "button.ask": {"hy": "Խնդրել նոր հղում", "ru": "Попросить новую ссылку", "en": "Ask for a new link"},
    "qr.title": {
        "hy": "Շարունակել հեռախոսով",
        "ru": "Продолжить на телефоне",
        "en": "Go on with a telephone",
    },
    "qr.text": {
        "hy": "Այս հղումը որպես կոդ՝ հեռախոսի տեսախցիկի համար",
        "ru": "Эта ссылка в виде кода для камеры телефона",
        "en": "This link as a code for the camera of a telephone",
    },
    "asked.text": {
        "hy": "Ձեր խնդրանքը փոխանցված է վաճառողին։",
        "ru": "Ваша просьба передана продавцу.",
        "en": "Your request was passed on to the seller.",
    },
    "ready.title": {"hy": "Վճարեք առցանց", "ru": "Оплатите онлайн", "en": "Pay online"},
    "ready.text": {
        "hy": "Սեղմեք կոճակը, և կբացվի վճարային համակարգի պաշտպանված էջը։",
        "ru": "Нажмите кнопку — откроется защищённая страница платёжной системы.",
        "en": "Press the button to open the payment provider's secure page.",
    },
    "in_progress.title": {
        "hy": "Վճարումն արդեն սկսված է",
        "ru": "Оплата уже начата",
        "en": "A payment is already under way",
    },
    "in_progress.text": {
        "hy": "Վճարման էջն արդեն բացվել է, գուցե այլ ներդիրում կամ այլ սարքում։ Շարունակեք այնտեղ կամ այստեղ. "
        "դա նույն վճարումն է։",
        "ru": "Страница оплаты уже открывалась — возможно, в другой вкладке или на другом устройстве. "
        "Продолжите там или здесь: это один и тот же платёж.",
        "en": "The payment page was opened already, perhaps in another tab or on another device. "
        "Go on there or here: it is the same payment.",
    },
    "preparing.title": {
        "hy": "Պատրաստում ենք վճարման էջը",
        "ru": "Готовим страницу оплаты",
        "en": "We are preparing your payment",
    },
    "preparing.text": {
        "hy": "Սովորաբար դա տևում է մի քանի վայրկյան։ Եթե վճարման էջն ինքնաշխատ չբացվի, սեղմեք կոճակը։",
        "ru": "Обычно это занимает несколько секунд. Если страница оплаты не откроется сама, нажмите кнопку.",
        "en": "This usually takes a few seconds. If the payment page does not open by itself, press the button.",
    },
    "handover.title": {
        "hy": "Ամեն ինչ պատրաստ է վճարման համար",
        "ru": "Всё готово к оплате",
        "en": "Everything is ready for your payment",
    },
    "handover.text": {
        "hy": "Սեղմեք կոճակը, և կբացվի վճարային համակարգի պաշտպանված էջը։",
        "ru": "Нажмите кнопку — откроется защищённая страница платёжной системы.",
        "en": "Press the button to open the payment provider's secure page.",
    },
    "checking.title": {"hy": "Ստուգում ենք վճարումը", "ru": "Проверяем оплату", "en": "We are checking your payment"},
    "checking.text": {
        "hy": "Սպասում ենք վճարային համակարգի պատասխանին։ Եթե վճարել եք, կարող եք փակել այս էջը. վճարումը չի կորչի։",
        "ru": "Ждём ответа платёжной системы. Если вы уже оплатили, страницу можно закрыть: оплата не потеряется.",
        "en": "We are waiting for the payment provider. If you have paid, you may close this page: nothing is lost.",
    },
    "checking.unfinished": {
        "hy": "Դեռ չե՞ք ավարտել վճարումը։",
        "ru": "Ещё не завершили оплату?",
        "en": "Have you not finished paying?",
    },
    "processing.title": {
        "hy": "Վճարումը մշակվում է",
        "ru": "Платёж обрабатывается",
        "en": "Your payment is processing",
    },
    "processing.text": {
        "hy": "Վճարային համակարգը դեռ չի հաստատել արդյունքը։ Խնդրում ենք երկրորդ անգամ չվճարել։ "
        "Էջն արդեն կարող եք փակել. վճարումը չի կորչի։",
        "ru": "Платёжная система ещё не подтвердила результат. Не платите повторно. "
        "Страницу уже можно закрыть: оплата не потеряется.",
        "en": "The payment provider has not confirmed the result. Do not pay again. "
        "You may close this page now: nothing is lost.",
    },
    "paid.title": {"hy": "Վճարված է", "ru": "Оплачено", "en": "Paid"},
    "paid.text": {
        "hy": "Շնորհակալություն։ Վճարումը հաստատված է։",
        "ru": "Спасибо! Оплата подтверждена.",
        "en": "Thank you. Your payment is confirmed.",
    },
    "fiscal.title": {"hy": "ՀԴՄ կտրոն", "ru": "Фискальный чек", "en": "Fiscal receipt"},
    "fiscal.pending": {
        "hy": "ՀԴՄ կտրոնը դեռ պատրաստվում է։",
        "ru": "Фискальный чек ещё готовится.",
        "en": "The fiscal receipt is still being prepared.",
    },
    "fiscal.issued": {
        "hy": "ՀԴՄ կտրոնը տրված է։",
        "ru": "Фискальный чек выдан.",
        "en": "The fiscal receipt has been issued.",
    },
    "fiscal.failed": {
        "hy": "ՀԴՄ կտրոնը չի հաջողվել տալ։ Վճարման վրա դա չի ազդում. կտրոնի համար դիմեք վաճառողին։",
        "ru": "Фискальный чек выдать не удалось. На платёж это не влияет; за чеком обратитесь к продавцу.",
        "en": "The fiscal receipt could not be issued. Your payment is not affected; please ask the seller for it.",
    },
    "fiscal.returned": {
        "hy": "Տրված է վերադարձի ՀԴՄ կտրոն։",
        "ru": "Выдан фискальный чек возврата.",
        "en": "A fiscal receipt for the return has been issued.",
    },
    "fiscal.apart": {
        "hy": "Այս էջն ինքնին ՀԴՄ կտրոն չէ։",
        "ru": "Сама эта страница — не фискальный чек.",
        "en": "This page itself is not the fiscal receipt.",
    },
    "paid_elsewhere.title": {"hy": "Արդեն վճարված է", "ru": "Уже оплачено", "en": "Already paid"},
    "paid_elsewhere.text": {
        "hy": "Վճարումը կատարվել է այլ հղումով կամ այլ եղանակով։ Կրկին վճարել պետք չէ։",
        "ru": "Оплата прошла по другой ссылке или другим способом. Платить ещё раз не нужно.",
        "en": "This was paid by another link or in another way. There is no need to pay again.",
    },
    "failed.title": {"hy": "Վճարումը չստացվեց", "ru": "Оплата не прошла", "en": "The payment did not go through"},
    "failed.text": {
        "hy": "Վճարային համակարգը չընդունեց վճարումը։ Կարող եք փորձել կրկին կամ այլ քարտով։",
        "ru": "Платёжная система не приняла платёж. Можно попробовать ещё раз или другой картой.",
        "en": "The payment provider did not accept the payment. You may try again, or use another card.",
    },
    "exhausted.title": {
        "hy": "Այլևս փորձեր չկան",
        "ru": "Попыток больше нет",
        "en": "There are no more tries",
    },
    "exhausted.text": {
        "hy": "Այս հղումով այլևս հնարավոր չէ վճարել։ Խնդրում ենք նոր հղում ստանալ վաճառողից։",
        "ru": "По этой ссылке больше нельзя оплатить. Попросите у продавца новую ссылку.",
        "en": "This link takes no more payments. Please ask the seller for a new link.",
    },
    "expired.title": {"hy": "Հղման ժամկետը լրացել է", "ru": "Срок ссылки истёк", "en": "This link has expired"},
    "expired.text": {
        "hy": "Խնդրում ենք նոր հղում ստանալ վաճառողից։ Եթե արդեն վճարել եք, կրկին վճարել պետք չէ։",
        "ru": "Попросите у продавца новую ссылку. Если вы уже оплатили, платить ещё раз не нужно.",
        "en": "Please ask the seller for a new link. If you have paid already, there is no need to pay again.",
    },
    "cancelled.title": {"hy": "Վճարումը չեղարկված է", "ru": "Оплата отменена", "en": "This payment was cancelled"},
    "cancelled.text": {
        "hy": "Վաճառողը չեղարկել է այս վճարումը։ Հարցերի դեպքում դիմեք վաճառողին։",
        "ru": "Продавец отменил этот платёж. Если есть вопросы, обратитесь к продавцу.",
        "en": "The seller cancelled this payment. Please contact the seller with any question.",
    },
    "replaced.title": {"hy": "Կա նոր հղում", "ru": "Есть новая ссылка", "en": "There is a newer link"},
    "replaced.text": {
        "hy": "Այս հղումը փոխարինվել է նորով։ Բացեք վերջին ստացած հղումը կամ դիմեք վաճառողին։",
        "ru": "Эта ссылка заменена новой. Откройте последнюю полученную ссылку или обратитесь к продавцу.",
        "en": "This link was replaced. Please open the latest link that you received, or contact the seller.",
    },
    "refunded.title": {"hy": "Գումարը վերադարձված է", "ru": "Деньги возвращены", "en": "Refunded"},
    "refunded.text": {
        "hy": "Վճարված գումարը վերադարձված է։ Ձեր բանկում դա կարող է երևալ մի քանի օրից։",
        "ru": "Платёж возвращён. В вашем банке это может отразиться через несколько дней.",
        "en": "The payment was given back. Your bank may take some days to show it.",
    },
    "review.title": {"hy": "Վճարումը ստուգվում է", "ru": "Платёж проверяется", "en": "Your payment is under review"},
    "review.text": {
        "hy": "Վաճառողի աշխատակիցը ստուգում է այս վճարումը։ Խնդրում ենք կրկին չվճարել։",
        "ru": "Сотрудник продавца проверяет этот платёж. Пожалуйста, не платите повторно.",
        "en": "The seller's staff are looking at this payment. Please do not pay again.",
    },
    "partly_paid.title": {
        "hy": "Գումարի մի մասը վճարված է",
        "ru": "Оплачена часть суммы",
        "en": "A part of the amount is paid",
    },
    "partly_paid.text": {
        "hy": "Մնացած գումարը վճարելու համար խնդրում ենք դիմել վաճառողին։",
        "ru": "Чтобы оплатить остаток, обратитесь к продавцу.",
        "en": "Please contact the seller to pay the rest.",
    },
    "rest.title": {
        "hy": "Գումարի մի մասը վճարված է",
        "ru": "Оплачена часть суммы",
        "en": "A part of the amount is paid",
    },
    "rest.text": {
        "hy": "Մնացած գումարը կարող եք վճարել այս նույն հղումով։",
        "ru": "Остаток можно оплатить по этой же ссылке.",
        "en": "You can pay the rest by this same link.",
    },
    "unavailable.title": {
        "hy": "Վճարումն այս պահին հնարավոր չէ",
        "ru": "Сейчас оплатить нельзя",
        "en": "Payment is not possible at the moment",
    },
    "unavailable.text": {
        "hy": "Խնդրում ենք փորձել ավելի ուշ կամ դիմել վաճառողին։",
        "ru": "Попробуйте позже или обратитесь к продавцу.",
        "en": "Please try again later, or contact the seller.",
    },
    "come_back.title": {
        "hy": "Ստուգեք վճարումը ձեր հղումով",
        "ru": "Проверьте оплату по вашей ссылке",
        "en": "See your payment at your link",
    },
    "come_back.text": {
        "hy": "Բացեք վաճառողից ստացած հղումը. այնտեղ կտեսնեք վճարման արդյունքը։",
        "ru": "Откройте ссылку, которую прислал продавец: там виден результат оплаты.",
        "en": "Open the link that the seller sent you: the result of the payment is shown there.",
    },
    "not_found.title": {"hy": "Էջը չի գտնվել", "ru": "Страница не найдена", "en": "Page not found"},
    "not_found.text": {
        "hy": "Ստուգեք, որ հղումն ամբողջությամբ եք պատճենել, կամ խնդրեք վաճառողին ուղարկել այն կրկին։",
        "ru": "Проверьте, что ссылка скопирована целиком, или попросите продавца прислать её ещё раз.",
        "en": "Please check that you copied the whole link, or ask the seller to send it again.",
    },
    "too_many.title": {
        "hy": "Չափազանց շատ հարցումներ",
        "ru": "Слишком много запросов",
        "en": "Too many requests",
    },
    "too_many.text": {
        "hy": "Այս հասցեից չափազանց հաճախ են բացվել գոյություն չունեցող հղումներ։ Խնդրում ենք սպասել մեկ րոպե։",
        "ru": "С этого адреса слишком часто открывали несуществующие ссылки. Подождите минуту.",
        "en": "Links that do not exist were opened from this address too often. Please wait a minute.",
    },
    "refused.title": {"hy": "Բացեք հղումը կրկին", "ru": "Откройте ссылку заново", "en": "Please open the link again"},
    "refused.text": {
        "hy": "Հարցումը մեր էջից չէր։ Բացեք ստացած հղումը և սեղմեք կոճակն այնտեղ։",
        "ru": "Запрос пришёл не с нашей страницы. Откройте полученную ссылку и нажмите кнопку там.",
        "en": "The request did not come from our page. Open the link that you received, and press the button there.",
    },
    "trouble.title": {"hy": "Ժամանակավոր խափանում", "ru": "Временный сбой", "en": "A temporary fault"},
    "trouble.text": {
        "hy": "Խնդրում ենք փորձել մեկ րոպեից։ Եթե արդեն վճարել եք, վճարումը չի կորչի։",
        "ru": "Попробуйте через минуту. Если вы уже оплатили, оплата не потеряется.",
        "en": "Please try again in a minute. If you have paid already, nothing is lost.",
    },
}

Translate = Callable[..., str]


def translator(language: Locale) -> Translate:
    """Return t(key, **values) for one language; KeyError for a key that does not exist."""

    def t(key: str, **values: str) -> str:
        return TEXTS[key][language].format(**values)

    return t


def language_of(wanted: str | None, otherwise: str) -> Locale:
    """Return the language that was asked for if we speak it, else the other, else English."""
    for candidate in (wanted, otherwise):
        for known in get_args(Locale):
            if candidate == known:
                return known  # type: ignore[no-any-return]  # one of the literals
    return DEFAULT


def language_of_browser(accept_language: str) -> Locale:
    """Return the first of the browser's languages that we speak; weights are not read, browsers sort by them."""
    for part in accept_language[:200].split(","):
        code = part.partition(";")[0].strip().lower()[:2]
        if code in LANGUAGES:
            return language_of(code, DEFAULT)
    return DEFAULT
