"""Texts, money, times and states of the customer's pages."""

import re
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import product
from pathlib import Path
from string import Formatter

import pytest

from contracts.statuses import AttemptState, FiscalStatus, InvoiceStatus, LinkState
from db.customer_pages import CustomerView
from rules.links import may_pay
from rules.pages import PAYABLE, AttemptFacts, Opening, PageFacts, PageState, page_state
from runtime.settings import CrmSettings, MerchantSettings, Settings
from web.formats import format_money, format_time
from web.rendering import Renderer, Shown
from web.texts import LANGUAGES, PAGES, TEXTS, language_of, language_of_browser, translator

WEB = Path(__file__).parents[2] / "web"
NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
SPACE, THIN = "\N{NO-BREAK SPACE}", "\N{NARROW NO-BREAK SPACE}"


@pytest.mark.parametrize("key", TEXTS)
def test_every_text_exists_in_every_language(key: str) -> None:
    assert set(TEXTS[key]) == set(LANGUAGES)
    assert all(text.strip() == text and text for text in TEXTS[key].values())
    fields = [{name for _, name, _, _ in Formatter().parse(text) if name} for text in TEXTS[key].values()]
    assert all(names == fields[0] for names in fields), "the same placeholders in every language"


def test_every_text_that_a_page_may_ask_for_exists() -> None:
    asked = set()
    for template in (WEB / "templates").glob("*.html"):
        asked |= set(re.findall(r'\bt\("([a-z_.]+)"[,)]', template.read_text()))
    asked |= {f"{page}.{part}" for page, part in product(PAGES, ("title", "text"))}
    asked |= {f"label.{payable}" for payable in ("invoice", "deal", "order")}
    asked |= {f"fiscal.{status}" for status in FiscalStatus if status is not FiscalStatus.NOT_REQUIRED}

    assert asked == set(TEXTS), "none is missing, none is left over"


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_are_in_their_own_script(language: str) -> None:
    script = {"hy": r"[Ա-և]", "ru": r"[А-яё]", "en": r"[A-Za-z]"}[language]
    for key, text in TEXTS.items():
        assert re.search(script, text[language]), key  # type: ignore[index]  # one of the literals
        others = {"hy": r"[А-яёA-Za-z]", "ru": r"[Ա-ևA-Za-z]", "en": r"[Ա-ևА-яё]"}[language]
        assert not re.search(others, re.sub(r"\{\w+\}", "", text[language])), key  # type: ignore[index]


def test_a_text_takes_its_values() -> None:
    assert translator("en")("button.pay", amount="5 ֏") == "Pay 5 ֏"


@pytest.mark.parametrize(
    ("amount", "currency", "language", "written"),
    [
        (15_000_000, "AMD", "hy", f"150{THIN}000{SPACE}֏"),
        (15_000_000, "AMD", "ru", f"150{THIN}000{SPACE}֏"),
        (15_000_000, "AMD", "en", f"150,000{SPACE}֏"),
        (150_050, "AMD", "hy", f"1{THIN}500,50{SPACE}֏"),
        (1, "AMD", "en", f"0.01{SPACE}֏"),
        (100, "USD", "en", f"1.00{SPACE}$"),
        (123_456_789, "EUR", "ru", f"1{THIN}234{THIN}567,89{SPACE}€"),
        (5_000, "JPY", "en", f"5,000{SPACE}¥"),
        (1_234_567, "KWD", "en", f"1,234.567{SPACE}KWD"),
    ],
)
def test_money_reads_as_people_write_it(amount: int, currency: str, language: str, written: str) -> None:
    assert format_money(amount, currency, language) == written  # type: ignore[arg-type]  # one of the literals


def test_times_are_yerevans() -> None:
    assert format_time(datetime(2026, 11, 22, 21, 30, tzinfo=UTC)) == "23.11.2026, 01:30"


def test_the_language_is_one_that_we_speak() -> None:
    assert language_of("ru", "hy") == "ru"
    assert language_of("xx", "hy") == "hy"
    assert language_of(None, "xx") == "en"
    assert language_of_browser("hy-AM,ru;q=0.7") == "hy"
    assert language_of_browser("de, fr;q=0.5,RU;q=0.3") == "ru"
    assert language_of_browser("") == "en"


def drawn(state: PageState, **changes: object) -> str:
    """A page with money of all kinds on it."""
    values: dict[str, object] = {
        "link_id": "01link",
        "invoice_id": "01invoice",
        "attempt_id": None,
        "amount_minor": 10_000,
        "facts": facts_of_all_kinds()[0],
        "currency": "USD",
        "expires_at": NOW,
        "external_id": "INV-7",
        "payable_type": "invoice",
        "purpose": "Work",
        "locale": "en",
        "paid_at": NOW,
        "paid_minor": 4_000,
        "refunded_minor": 1_500,
        "refunded_at": NOW + timedelta(1),
    }
    addresses = {language: f"/l/t?lang={language}" for language in LANGUAGES}
    shown = Shown(state, "en", addresses, None, "", "/l/t/status", "", None)
    view = CustomerView(**{**values, **changes})  # type: ignore[arg-type]
    return Renderer().page(shown, view, MerchantSettings(name="Nairi <& Co>", contact="+374 10 000000"))


def test_a_page_says_who_is_paid_and_whom_to_ask() -> None:
    for state in PageState:
        assert "Nairi &lt;&amp; Co&gt;" in drawn(state)
        assert "+374 10 000000" in drawn(state)


def test_a_partly_paid_page_says_what_is_paid_and_what_remains() -> None:
    text = drawn(PageState.PARTLY_PAID)
    assert f"40.00{SPACE}$" in text
    assert f"60.00{SPACE}$" in text


def test_a_rest_that_is_being_paid_says_what_is_paid_already() -> None:
    part, whole = (next(f for f in facts_of_all_kinds() if f.partly_paid is is_part) for is_part in (True, False))
    assert f"60.00{SPACE}$" in drawn(PageState.IN_PROGRESS, facts=part)
    assert f"60.00{SPACE}$" not in drawn(PageState.IN_PROGRESS, facts=whole)


@pytest.mark.parametrize("state", [PageState.PAID, PageState.REFUNDED])
def test_what_was_given_back_is_shown_with_its_date(state: PageState) -> None:
    text = drawn(state)
    assert f"15.00{SPACE}$" in text
    assert "24.11.2026" in text
    assert "Given back" not in drawn(state, refunded_minor=0, refunded_at=None)


def test_a_receipt_says_what_was_paid_when_and_under_which_number() -> None:
    text = drawn(PageState.PAID, payment_number="TX-42")
    assert "23.11.2026, 12:00 (Yerevan time)" in text
    assert "TX-42" in text
    assert "print or save" in text
    assert "TX-42" not in drawn(PageState.READY, payment_number="TX-42")


@pytest.mark.parametrize("status", FiscalStatus)
@pytest.mark.parametrize("state", [PageState.PAID, PageState.REFUNDED, PageState.READY])
def test_the_fiscal_receipt_has_words_of_its_own(state: PageState, status: FiscalStatus) -> None:
    is_told = state is not PageState.READY and status is not FiscalStatus.NOT_REQUIRED
    text = drawn(state, fiscal=status)
    assert (f'class="fiscal-{status}"' in text) is is_told
    assert ("This page itself is not the fiscal receipt." in text) is is_told


def test_a_payment_is_under_way_once_somebody_was_led_to_the_providers_page() -> None:
    """An order that was opened early and that nobody saw is no reason to speak of another tab."""
    for facts in facts_of_all_kinds():
        attempt = facts.attempt
        if page_state(facts) is PageState.IN_PROGRESS:
            assert attempt is not None
            assert attempt.visited
            assert attempt.opening(NOW) is Opening.OPEN
        if page_state(facts) is PageState.READY and attempt is not None and attempt.visited:
            assert attempt.opening(NOW) is not Opening.OPEN


def test_the_merchant_is_the_crms_own_where_it_has_one() -> None:
    own = CrmSettings(adapter="a", base_url="http://x", token="t", merchant=MerchantSettings(name="Own"))
    given = {"database_url": "sqlite://", "data_keys": ["k"], "link_keys": [{"id": "k1", "secret": "s" * 32}]}
    settings = Settings(
        **given, merchant={"name": "All"}, crms={"one": own, "two": own.model_copy(update={"merchant": None})}
    )
    assert [settings.merchant_of(crm).name for crm in ("one", "two", "three")] == ["Own", "All", "All"]


@cache
def facts_of_all_kinds() -> list[PageFacts]:
    attempts: list[AttemptFacts | None] = [None]
    for state, expires, has_page in product(AttemptState, (None, NOW, NOW + timedelta(1)), (True, False)):
        attempts.append(AttemptFacts(state, expires, has_page))
    for expires, visited, declined in product((None, NOW, NOW + timedelta(1)), (True, False), (True, False)):
        attempts.append(AttemptFacts(AttemptState.OPEN, expires, has_page=True, visited=visited, declined=declined))
    ends = (NOW - timedelta(1), NOW + timedelta(1))
    kinds = product(LinkState, ends, InvoiceStatus, (True, False), (True, False), attempts, (True, False))
    return [
        PageFacts(link, end, NOW, status, partly, elsewhere, attempt, left, paid_here=left)
        for link, end, status, partly, elsewhere, attempt, left in kinds
    ]


def test_pay_is_offered_exactly_where_it_would_not_be_refused() -> None:
    """The page and the button must agree, whatever the facts are."""
    closed = {InvoiceStatus.PAID, InvoiceStatus.REFUNDED, InvoiceStatus.MANUAL_REVIEW, InvoiceStatus.CANCELLED}
    for facts in facts_of_all_kinds():
        attempt = facts.attempt
        is_open = attempt is not None and attempt.opening(NOW) is not Opening.OVER
        # A paid attempt does not run: its money decided the status, or went back, and the page can be paid again.
        settles = attempt is not None and attempt.state is AttemptState.PROCESSING
        if settles or facts.processing_elsewhere:
            assert page_state(facts) not in PAYABLE
            continue
        decision = may_pay(
            link=facts.link,
            expires_at=facts.expires_at,
            now=NOW,
            open_attempt=attempt.state if attempt is not None and is_open else None,
            attempt_expires_at=attempt.expires_at if attempt is not None else None,
            attempts_left=facts.attempts_left,
        )
        refused = decision.action == "refused" or facts.status in closed or facts.partly_paid
        assert (page_state(facts) in PAYABLE) is not refused, facts


def test_a_paid_page_needs_a_paid_invoice() -> None:
    for facts in facts_of_all_kinds():
        is_paid = page_state(facts) in (PageState.PAID, PageState.PAID_ELSEWHERE)
        assert is_paid is (facts.status is InvoiceStatus.PAID)
        assert (page_state(facts) is PageState.PAID) is (is_paid and facts.paid_here)
