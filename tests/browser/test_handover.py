"""A provider that takes a form from the customer's own browser: ours shows it, and no redirect could post it.

Idram is SIMULATED; the browser, our server and its Content-Security-Policy are real.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest
from playwright.sync_api import expect

from contracts.messages import Locale
from gateways.providers.idram import IdramProvider
from runtime.deps import Deps
from sandbox.launch import SimulatorProcess
from tests.browser.test_accessibility import COLOURS, problems, too_small
from tests.browser.window import Window, button, go_on_until, is_at, pay_button
from tests.customer import ACCOUNT, Workers, link_of, make_deps, make_invoice, path_of, served
from tests.services.processes import free_port
from web.texts import LANGUAGES, TEXTS

SECRET = "secret-key-of-the-merchant"
IDRAM_ID = "100000114"
PAY = {"hy": "Վճարել", "ru": "Оплатить", "en": "Pay"}
GIVE_UP = "Give up"


@dataclass(frozen=True)
class Shop:
    """An installation whose one account is at the wallet."""

    deps: Deps
    address: str

    def url(self, number: str, language: Locale = "en") -> str:
        make_invoice(self.deps, number, customer={"name": "Ani", "locale": language})
        return self.address + path_of(self.deps, link_of(self.deps, number))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    port, folder = free_port(), tmp_path_factory.mktemp("handover")
    with SimulatorProcess("idram") as wallet:
        idram = IdramProvider(ACCOUNT, wallet.base_url, "none", (SECRET,), rec_account=IDRAM_ID, settle="PT0S")
        own = {"public_base_url": f"http://127.0.0.1:{port}"}
        deps = make_deps(f"sqlite:///{folder / 'store.db'}", idram, wallet.base_url, **own)
        with closing(idram), served(deps, port) as address, Workers(deps):
            back = f"{address}/back/{ACCOUNT}"
            wallet.control.configure(
                IDRAM_ID, secret=SECRET, result_url=f"{address}/webhooks/{ACCOUNT}", success_url=back, fail_url=back
            )
            yield Shop(deps, address)
        deps.database.dispose()


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_customer_posts_our_form_pays_and_comes_back_to_his_own_link(
    shop: Shop, open_window: Callable[..., Window], language: Locale
) -> None:
    window = open_window(locale=language)
    page = window.page
    page.goto(shop.url(f"FORM-{language}", language))
    pay_button(page).click()
    is_at(page, "handover")
    expect(page.get_by_role("heading", level=1)).to_have_text(TEXTS["handover.title"][language])
    assert problems(page) == []
    page.emulate_media(color_scheme="dark")
    assert problems(page, COLOURS) == []
    assert too_small(page) == []
    button(page, "button.continue", language).click()
    page.get_by_role("button", name=PAY[language], exact=True).click()
    page.wait_for_url(f"{shop.address}/l/**")
    go_on_until(window, page, "paid", language)


def test_it_needs_no_script_and_whoever_gives_up_there_may_press_pay_again(
    shop: Shop, open_window: Callable[..., Window]
) -> None:
    window = open_window(script=False)
    page = window.page
    page.goto(shop.url("FORM-1"))
    for press in (GIVE_UP, PAY["en"]):
        pay_button(page).click()
        is_at(page, "handover")
        button(page, "button.continue").click()
        page.get_by_role("button", name=press, exact=True).click()
        page.wait_for_url(f"{shop.address}/l/**")
    go_on_until(window, page, "paid")


def test_another_browser_finds_no_link_on_the_way_back(shop: Shop, open_window: Callable[..., Window]) -> None:
    page = open_window(locale="en").page
    page.goto(f"{shop.address}/back/{ACCOUNT}?EDP_BILL_NO=FORM-1")
    is_at(page, "come_back")
