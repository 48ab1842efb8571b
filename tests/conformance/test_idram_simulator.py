"""The simulated Idram, spoken to as a browser and listened to as a merchant would: bare HTTP, no adapter of ours.

Sections in brackets are those of "Idram Payment System merchant interface description" (edition of 16 October 2025).
"""

import hashlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl

import httpx
import pytest

from contracts.ids import new_id
from sandbox.control import ControlError, ProviderControl, eventually
from sandbox.idram_bills import PLANTED
from sandbox.launch import SimulatorProcess

SECRET = "secret-key-of-the-merchant"


class Shop:
    """A merchant's RESULT_URL: keeps what is posted, and answers each question as told."""

    def __init__(self) -> None:
        self.precheck: tuple[int, str] = (200, "OK")
        self.confirms: list[tuple[int, str]] = []  # one per confirmation; then OK
        self.posts: list[dict[str, str]] = []
        self.types: list[str] = []

    def __enter__(self) -> Self:
        shop, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                with lock:
                    shop.posts.append(dict(parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True)))
                    shop.types.append(self.headers.get("content-type", ""))
                    status, words = shop.answer()
                self.send_response(status)
                self.send_header("content-length", str(len(words)))
                self.end_headers()
                self.wfile.write(words.encode())

            def log_message(self, *args: object) -> None:
                """Be quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self) -> tuple[int, str]:
        if "EDP_PRECHECK" in self.posts[-1]:
            return self.precheck
        return self.confirms.pop(0) if self.confirms else (200, "OK")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/result"

    def confirmations(self) -> list[dict[str, str]]:
        return [one for one in self.posts if "EDP_CHECKSUM" in one]


class Till:
    """One merchant at the simulated Idram, with his shop, and a customer's browser."""

    def __init__(self, process: SimulatorProcess, shop: Shop, settings: dict[str, Any]) -> None:
        self.account = str(100_000_000 + int(new_id()[-6:], 36) % 10**8)
        self.shop, self.control = shop, process.control
        self.form_url = f"{process.base_url}/Payment/GetPayment"
        self.browser = httpx.Client(trust_env=False)
        urls = {"result_url": shop.url, "success_url": "https://shop.am/ok", "fail_url": "https://shop.am/no?a=1"}
        self.configure(**{"secret": SECRET, **urls, **settings})

    def configure(self, **settings: Any) -> None:
        self.control.configure(self.account, **settings)

    def form(self, **changes: str | None) -> dict[str, str]:
        given = {
            "EDP_LANGUAGE": "EN",
            "EDP_REC_ACCOUNT": self.account,
            "EDP_DESCRIPTION": "Կանխավճար",
            "EDP_AMOUNT": "1900",
            "EDP_BILL_NO": new_id(),
            **changes,
        }
        return {name: value for name, value in given.items() if value is not None}

    def post(self, form: dict[str, str]) -> httpx.Response:
        return self.browser.post(self.form_url, data=form)

    def press(self, form: dict[str, str], action: str) -> str:
        """Post the form, press a button of the page, and return where the browser is sent."""
        page = self.post(form).headers["location"]
        return self.browser.post(page, data={"action": action}).headers["location"]

    def pay(self, form: dict[str, str], **options: Any) -> dict[str, Any]:
        return self.control.act(form["EDP_BILL_NO"], "pay", account=self.account, fields=form, **options)

    def stats(self) -> dict[str, Any]:
        return self.control.stats(self.account)


Open = Callable[..., Till]


@pytest.fixture(scope="module")
def process() -> Iterator[SimulatorProcess]:
    with SimulatorProcess("idram", password=SECRET) as running:
        yield running


@pytest.fixture
def till(process: SimulatorProcess) -> Iterator[Open]:
    shops, tills = [Shop()], []
    with shops[0] as shop:

        def open_one(**settings: Any) -> Till:
            tills.append(Till(process, shop, settings))
            return tills[-1]

        yield open_one
        for one in tills:
            one.browser.close()


def checksum(told: dict[str, str], secret: str = SECRET) -> str:
    """The formula of [5 (b)], written again."""
    parts = [told["EDP_REC_ACCOUNT"], told["EDP_AMOUNT"], secret, told["EDP_BILL_NO"], told["EDP_PAYER_ACCOUNT"]]
    return hashlib.md5(":".join([*parts, told["EDP_TRANS_ID"], told["EDP_TRANS_DATE"]]).encode()).hexdigest()


# --- the form and the page --------------------------------------------------------------------------------------------


def test_a_customer_pays_on_the_page_after_the_merchant_agreed(till: Open) -> None:
    shop = till()
    form = shop.form(order="17", lang="hy")
    page = shop.post(form).headers["location"]
    shown = shop.browser.get(page)
    assert (shown.status_code, "1,900.00 AMD" in shown.text, "Կանխավճար" in shown.text) == (200, True, True)
    assert shop.shop.posts == []
    back = shop.browser.post(page, data={"action": "pay"})
    assert (back.status_code, back.headers["location"]) == (303, "https://shop.am/ok?order=17&lang=hy")
    question, told = shop.shop.posts
    assert question == {
        "EDP_PRECHECK": "YES",
        "EDP_BILL_NO": form["EDP_BILL_NO"],
        "EDP_REC_ACCOUNT": shop.account,
        "EDP_AMOUNT": "1900",
    }
    assert set(told) == {
        *("EDP_BILL_NO", "EDP_REC_ACCOUNT", "EDP_PAYER_ACCOUNT", "EDP_AMOUNT"),
        *("EDP_TRANS_ID", "EDP_TRANS_DATE", "EDP_CHECKSUM"),
    }
    assert (told["EDP_AMOUNT"], len(told["EDP_TRANS_ID"])) == ("1900.00", 14)
    assert told["EDP_PAYER_ACCOUNT"] == PLANTED["EDP_PAYER_ACCOUNT"]
    assert told["EDP_CHECKSUM"].lower() == checksum(told)
    assert {one.partition(";")[0] for one in shop.shop.types} == {"application/x-www-form-urlencoded"}


def test_looking_at_the_page_and_going_back_pays_nothing_and_a_page_is_paid_once(till: Open) -> None:
    shop = till()
    form = shop.form()
    page = shop.post(form).headers["location"]
    for _ in range(3):
        shop.browser.get(page)
    for _ in range(3):
        assert shop.browser.post(page, data={"action": "pay"}).headers["location"] == "https://shop.am/ok"
    assert shop.stats()["transactions"] == 1
    assert "<button" not in shop.browser.get(page).text


@pytest.mark.parametrize("action", ["decline", "abandon"])
def test_who_gives_up_goes_to_the_fail_url_and_the_merchant_hears_nothing(till: Open, action: str) -> None:
    shop = till()
    assert shop.press(shop.form(order="17"), action) == "https://shop.am/no?a=1&order=17"
    assert (shop.shop.posts, shop.stats()["transactions"]) == ([], 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"EDP_LANGUAGE": "HY"},
        {"EDP_LANGUAGE": None},
        {"EDP_REC_ACCOUNT": "1"},
        {"EDP_REC_ACCOUNT": None},
        {"EDP_BILL_NO": ""},
        {"EDP_BILL_NO": None},
        {"EDP_AMOUNT": "0"},
        {"EDP_AMOUNT": "0.00"},
        {"EDP_AMOUNT": "-5"},
        {"EDP_AMOUNT": "19,50"},
        {"EDP_AMOUNT": "1.005"},
        {"EDP_AMOUNT": "1e3"},
        {"EDP_AMOUNT": None},
        {"EDP_CHECKSUM": "invented"},
        {"EDP_SUCCESS_URL": "https://evil.example"},
    ],
)
def test_a_wrong_form_is_no_bill(till: Open, changes: dict[str, str | None]) -> None:
    shop = till()
    answer = shop.post(shop.form(**changes))
    assert (answer.status_code, "text/html" in answer.headers["content-type"]) == (400, True)
    assert shop.control.orders(shop.account) == []


def test_a_form_needs_no_description_and_may_have_an_email_and_hundredths(till: Open) -> None:
    shop = till()
    form = shop.form(EDP_DESCRIPTION=None, EDP_EMAIL="sales@shop.am", EDP_AMOUNT="1900.5")
    assert shop.press(form, "pay") == "https://shop.am/ok"
    assert [one["EDP_AMOUNT"] for one in shop.shop.posts] == ["1900.5", "1900.50"]


def test_json_and_broken_utf_8_are_no_form(till: Open) -> None:
    shop = till()
    kind = {"content-type": "application/x-www-form-urlencoded"}
    assert shop.browser.post(shop.form_url, json=shop.form()).status_code == 400
    assert shop.browser.post(shop.form_url, content="EDP_BILL_NO=%ff", headers=kind).status_code == 400
    assert shop.browser.get(shop.form_url).status_code == 405


# --- the precheck -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer", [(200, "ok"), (200, "OK\n"), (200, '"OK"'), (200, "<p>OK</p>"), (200, ""), (201, "OK"), (500, "OK")]
)
def test_only_ok_to_the_letter_lets_money_move(till: Open, answer: tuple[int, str]) -> None:
    shop = till()
    shop.shop.precheck = answer
    assert shop.press(shop.form(), "pay") == "https://shop.am/no?a=1"
    assert (shop.stats()["transactions"], shop.shop.confirmations()) == (0, [])


def test_a_merchant_that_does_not_answer_lets_no_money_move(till: Open) -> None:
    shop = till(result_url="http://127.0.0.1:9/result")
    assert shop.press(shop.form(), "pay") == "https://shop.am/no?a=1"
    assert shop.stats()["transactions"] == 0


def test_the_same_bill_is_paid_twice_unless_the_precheck_stops_it(till: Open) -> None:
    shop = till()
    form = shop.form()
    assert [shop.press(form, "pay"), shop.press(form, "pay")] == ["https://shop.am/ok"] * 2
    shop.shop.precheck = (200, "already paid")
    assert shop.press(form, "pay") == "https://shop.am/no?a=1"
    (bill,) = shop.control.orders(shop.account)
    assert [one["state"] for one in bill["submissions"]] == ["paid", "paid", "refused"]
    assert len({one["id"] for one in bill["transactions"]}) == 2


def test_a_precheck_can_be_left_out_on_demand(till: Open) -> None:
    shop = till(skip_precheck=True)
    shop.shop.precheck = (200, "no")
    assert shop.press(shop.form(), "pay") == "https://shop.am/ok"
    assert len(shop.shop.posts) == len(shop.shop.confirmations()) == 1


def test_the_question_may_have_two_decimals_too(till: Open) -> None:
    shop = till(precheck_amount="0.00")
    shop.press(shop.form(), "pay")
    assert [one["EDP_AMOUNT"] for one in shop.shop.posts] == ["1900.00", "1900.00"]


# --- the confirmation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "state", "back"),
    [
        ((200, "OK"), "completed", "https://shop.am/ok"),
        ((200, "no"), "cancelled", "https://shop.am/no?a=1"),
        ((200, "OK "), "cancelled", "https://shop.am/no?a=1"),
        ((204, ""), "cancelled", "https://shop.am/no?a=1"),
        ((202, "OK"), "cancelled", "https://shop.am/no?a=1"),
        ((400, "no"), "completed", "https://shop.am/ok"),
        ((503, "OK"), "completed", "https://shop.am/ok"),
        ((302, "OK"), "completed", "https://shop.am/ok"),
    ],
)
def test_an_answer_of_2xx_that_is_not_ok_takes_the_money_back_and_any_other_does_not(
    till: Open, answer: tuple[int, str], state: str, back: str
) -> None:
    shop = till()
    shop.shop.confirms = [answer]
    form = shop.form()
    assert shop.press(form, "pay") == back
    (bill,) = shop.control.orders(shop.account)
    assert [one["state"] for one in bill["transactions"]] == [state]
    assert shop.stats()["alerts"] == (answer != (200, "OK"))
    assert len(shop.shop.confirmations()) == 1


def test_by_the_older_edition_nothing_but_an_email_comes_of_it(till: Open) -> None:
    shop = till(unconfirmed="email", email="office@shop.am")
    shop.shop.confirms = [(200, "no"), (200, "no")]
    assert shop.press(shop.form(), "pay") == "https://shop.am/ok"
    shop.press(shop.form(EDP_EMAIL="sales@shop.am"), "pay")
    assert (shop.stats()["cancelled"], shop.stats()["alerts"]) == (0, 2)


def test_a_confirmation_may_be_repeated_where_somebody_wants_that(till: Open) -> None:
    shop = till(confirm_tries=3, confirm_pause_seconds=0.01)
    shop.shop.confirms = [(503, ""), (503, "")]
    shop.press(shop.form(), "pay")
    assert len(shop.shop.confirmations()) == 3
    assert len({one["EDP_TRANS_ID"] for one in shop.shop.confirmations()}) == 1


def test_a_secret_is_rotated_by_changing_it(till: Open) -> None:
    shop = till()
    shop.pay(shop.form())
    shop.configure(secret="the-new-one")
    shop.pay(shop.form())
    old, new = shop.shop.confirmations()
    assert old["EDP_CHECKSUM"].lower() == checksum(old)
    assert new["EDP_CHECKSUM"].lower() == checksum(new, "the-new-one") != checksum(new)


def test_a_confirmation_is_doubled_on_demand(till: Open) -> None:
    shop = till(confirm="duplicate")
    shop.pay(shop.form())
    told = eventually(shop.shop.confirmations, lambda told: len(told) >= 2)
    assert told[0] == told[1]
    assert shop.stats()["transactions"] == 1


def test_a_confirmation_is_lost_late_and_repeated_on_demand(till: Open) -> None:
    shop = till()
    form = shop.form()
    shop.control.fault("lost", account=shop.account)
    assert shop.pay(form)["state"] == "paid"
    assert shop.shop.confirmations() == []
    shop.control.act(form["EDP_BILL_NO"], "repeat", account=shop.account)
    assert len(shop.shop.confirmations()) == 1
    shop.control.fault("late", account=shop.account, seconds=0.2)
    assert shop.press(shop.form(), "pay") == "https://shop.am/ok"
    eventually(shop.shop.confirmations, lambda told: len(told) == 2)


def test_a_forged_confirmation_has_no_checksum_of_the_secret(till: Open) -> None:
    shop = till(confirm="forged")
    shop.pay(shop.form())
    told = eventually(shop.shop.confirmations, lambda told: len(told) >= 2)
    forged = [one for one in told if one["EDP_CHECKSUM"].lower() != checksum(one)]
    assert [one["EDP_AMOUNT"] for one in forged] == ["19000.00"]
    assert shop.stats()["calls"] == {"precheck": 1, "confirm": 1, "forged": 1}


def test_an_amount_is_altered_on_the_way_or_wrong_by_idrams_own_signature(till: Open) -> None:
    shop = till(confirm="altered")
    shop.pay(shop.form())
    shop.configure(confirm="")
    shop.control.fault("wrong_amount", account=shop.account)
    shop.pay(shop.form())
    altered, wrong = shop.shop.confirmations()
    assert altered["EDP_CHECKSUM"].lower() != checksum(altered)
    assert (wrong["EDP_AMOUNT"], wrong["EDP_CHECKSUM"].lower()) == ("2000.00", checksum(wrong))


# --- control ----------------------------------------------------------------------------------------------------------


def test_it_is_played_without_a_browser_too(till: Open) -> None:
    shop = till()
    form = shop.form()
    bill = form["EDP_BILL_NO"]
    told = shop.control.act(bill, "submit", account=shop.account, fields=form)
    assert (told["state"], told["transactions"], told["reference"]) == ("open", [], bill)
    assert shop.browser.get(told["pay_url"]).status_code == 200
    told = shop.control.act(bill, "pay", account=shop.account)
    assert (told["state"], [one["cents"] for one in told["transactions"]]) == ("paid", [190_000])
    told = shop.control.act(bill, "refund", account=shop.account, cents=100_000)
    assert told["transactions"][0]["refunded_cents"] == 100_000
    assert len(shop.shop.posts) == 2
    told = shop.control.act(bill, "abandon", account=shop.account, fields=form)
    assert [one["state"] for one in told["submissions"]] == ["paid", "abandoned"]


def test_control_refuses_what_makes_no_sense(till: Open) -> None:
    shop = till()
    form = shop.form()
    bill = form["EDP_BILL_NO"]
    for action, options in (
        ("pay", {}),
        ("explode", {"fields": form}),
        ("repeat", {}),
        ("pay", {"fields": shop.form()}),
        ("pay", {"fields": form | {"EDP_AMOUNT": "x"}}),
    ):
        with pytest.raises(ControlError):
            shop.control.act(bill, action, account=shop.account, **options)
    shop.pay(form)
    for settings in ({"confirm": "x"}, {"unconfirmed": "x"}, {"no_such": 1}):
        with pytest.raises(ControlError):
            shop.configure(**settings)
    for fault in ("wrong_currency", "stale", "no_such"):
        with pytest.raises(ControlError):
            shop.control.fault(fault, account=shop.account)
    with pytest.raises(ControlError):
        shop.control.act(bill, "pay", account=shop.account)


def test_control_needs_its_key_and_knows_its_merchants(process: SimulatorProcess) -> None:
    stranger = ProviderControl(process.base_url, "not-the-key")
    for ask in (lambda: stranger.configure("1", secret="s"), lambda: process.control.orders("no-such")):
        with pytest.raises(ControlError):
            ask()
    stranger.close()
    assert httpx.get(f"{process.base_url}/Payment/Pay/no-such").status_code == 404


@pytest.mark.parametrize("fault", ["error_500_before", "rate_limited_429", "timeout_before", "timeout_after"])
def test_a_form_goes_wrong_on_demand(till: Open, fault: str) -> None:
    shop = till()
    shop.control.fault(fault, account=shop.account, operation="form", seconds=0.05)
    if fault.startswith("timeout"):
        with pytest.raises(httpx.HTTPError):
            shop.post(shop.form())
    else:
        assert shop.post(shop.form()).status_code in {429, 500}
    assert len(shop.control.orders(shop.account)) == (fault == "timeout_after")
    assert shop.press(shop.form(), "pay") == "https://shop.am/ok"
