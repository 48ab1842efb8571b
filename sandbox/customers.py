"""Customers for the demo and the fault tests: they open their link, press Pay, and do at the provider what people do.

Everything goes over HTTP as a browser would send it, and each notes the pages that he saw: the class of <main>, as
"state-paid". What each ends in is written beside what he does.
"""

import contextlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from html import unescape
from typing import Any

import httpx

from sandbox.control import NO_AUTHORITIES, ProviderControl

PAY_SECONDS = 150.0
_LOOK_SECONDS = 0.25
_STATE = re.compile(r'<main class="state-([a-z_]+)"')


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a customer does, and what his invoice must end as."""

    name: str
    act: Callable[["Customer"], None]
    status: str
    flags: tuple[str, ...] = ()


class Customer:
    """One person with one link."""

    def __init__(
        self,
        link_url: str,
        provider: ProviderControl,
        account: str,
        amount_minor: int,
        *,
        patience_seconds: float = PAY_SECONDS,
    ) -> None:
        """Hold the link, and a hand at the provider's desk to act with."""
        self.link_url = link_url
        self.provider = provider
        self.account = account
        self.amount_minor = amount_minor
        self.reference = ""
        self.seen: set[str] = set()  # pages
        self.patience_seconds = patience_seconds
        self._browser = httpx.Client(timeout=30, follow_redirects=False, trust_env=False, verify=NO_AUTHORITIES)

    @property
    def site(self) -> str:
        """The address of the site that the link is of."""
        return "/".join(self.link_url.split("/")[:3])

    def close(self) -> None:
        """Close the browser."""
        self._browser.close()

    def press_pay(self) -> str:
        """Open the link, press Pay until the provider's page is there, and return its address."""
        began = time.monotonic()
        last: object = None
        while time.monotonic() < began + self.patience_seconds:
            try:
                answer = self._follow(self.press("pay"), "/continue")
            except httpx.TransportError as error:  # the site is down: people reload
                last = error
            else:
                last = answer.status_code
                page = self._provider_page(answer)
                if page:
                    self.reference = self._reference_of(page)
                    return page
            time.sleep(0.3)
        raise AssertionError(f"Pay led nowhere within {self.patience_seconds:g} s; last answer {last!r}")

    def press(self, button: str, site: str = "same-origin") -> httpx.Response:
        """Open the link and press a button there: pay or ask. `site`: where the browser says the form stands."""
        page = self._open(self.link_url)
        headers = {"origin": self.site, "sec-fetch-site": site}
        return self._note(self._browser.post(f"{self.link_url}/{button}", data=hidden_fields(page), headers=headers))

    def look(self, path: str = "") -> str:
        """Open the page of the link, and return what it says; empty when the site is down."""
        with contextlib.suppress(httpx.TransportError):
            return _state_of(self._open(f"{self.link_url}{path}"))
        return ""

    def come_back_as_a_stranger(self, account: str) -> str:
        """Open an account's way back in a browser that never left for its provider; return what it says."""
        return _state_of(self._note(httpx.get(f"{self.site}/back/{account}", timeout=30, trust_env=False)))

    def wait_for(self, *states: str, path: str = "", seconds: float = 60.0) -> str:
        """Reload the page until it says one of these, and return which. AssertionError tells what it said instead."""
        until = time.monotonic() + seconds
        while (state := self.look(path)) not in states:
            if time.monotonic() > until:
                raise AssertionError(f"the page never said {' or '.join(states)}; it says {state or 'nothing'}")
            time.sleep(_LOOK_SECONDS)
        return state

    def saw(self, *pages: str) -> None:
        """Insist on having seen these pages."""
        missing = set(pages) - self.seen
        if missing:
            raise AssertionError(f"never saw {', '.join(sorted(missing))}; saw {', '.join(sorted(self.seen))}")

    def _provider_page(self, answer: httpx.Response) -> str:
        """Return the address at the provider that an answer leads to; empty: none yet."""
        page: str = answer.headers.get("location", "/")
        elsewhere = answer.status_code == httpx.codes.SEE_OTHER and not page.startswith((self.link_url, "/"))
        return page if elsewhere else ""

    def _follow(self, answer: httpx.Response, only: str = "") -> httpx.Response:
        """Go where the answer leads within the site of the link, if `only` is in it."""
        onward = answer.headers.get("location", "")
        if not onward.startswith("/") or only not in onward:
            return answer
        return self._open(str(answer.url.join(onward)))

    def _open(self, url: str) -> httpx.Response:
        return self._note(self._browser.get(url))

    def _note(self, answer: httpx.Response) -> httpx.Response:
        self.seen |= {_state_of(answer)} - {""}
        return answer

    def _reference_of(self, page: str) -> str:
        for order in self.provider.orders(self.account):
            if order["pay_url"] == page:
                return str(order["reference"])
        raise AssertionError("the provider does not know the page that Pay led to")

    def at_provider(self, action: str, **options: Any) -> None:
        """Act on the provider's page."""
        self.provider.act(self.reference, action, account=self.account, **options)

    def come_back(self) -> None:
        """Follow the provider's redirect to the return page and on; who finds the site down closes the tab."""
        with contextlib.suppress(httpx.TransportError):
            self._follow(self._open(f"{self.link_url}/return"))

    def bad_luck(self, fault: str, **options: Any) -> None:
        """Let the next event of this order go wrong."""
        self.provider.fault(fault, account=self.account, reference=self.reference, operation="webhook", **options)


def hidden_fields(page: httpx.Response) -> dict[str, str]:
    """Return the hidden fields of the forms on a page."""
    found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.text)
    return {name: unescape(value) for name, value in found}


def _state_of(answer: httpx.Response) -> str:
    """Return what a page of ours says; empty for anything else."""
    found = _STATE.search(answer.text)
    return found.group(1) if found else ""


def pay(customer: Customer) -> None:
    """Pay and come back."""
    customer.press_pay()
    customer.at_provider("pay")
    customer.come_back()


def pay_and_close_the_tab(customer: Customer) -> None:
    """Pay and never come back: the event alone tells."""
    customer.press_pay()
    customer.at_provider("pay")


def pay_with_event(fault: str) -> Callable[[Customer], None]:
    """Pay, while the provider's event goes wrong in this way."""

    def act(customer: Customer) -> None:
        customer.press_pay()
        customer.bad_luck(fault)
        customer.at_provider("pay")

    return act


def lost_but_came_back(customer: Customer) -> None:
    """Pay and come back, while the event is lost."""
    customer.press_pay()
    customer.bad_luck("lost")
    customer.at_provider("pay")
    customer.come_back()


def decline_then_pay(customer: Customer) -> None:
    """Be declined, and pay with another card in the same order."""
    customer.press_pay()
    customer.at_provider("decline")
    customer.come_back()
    customer.at_provider("pay")
    customer.come_back()


def pay_later(customer: Customer) -> None:
    """Choose a way of paying that takes a while, and watch the page."""
    customer.press_pay()
    customer.at_provider("pay_later")
    customer.come_back()
    customer.wait_for("processing", "paid")


def abandon(customer: Customer) -> None:
    """Look at the provider's page, go away, and look at the link again."""
    customer.press_pay()
    customer.at_provider("abandon")
    customer.come_back()
    customer.look()


def two_tabs(customer: Customer) -> None:
    """Press Pay in two tabs: both must lead to one order."""
    first = customer.press_pay()
    second = customer.press_pay()
    if first != second:
        raise AssertionError("two tabs led to two orders")
    customer.at_provider("pay")


def pay_less(customer: Customer) -> None:
    """Pay half, as some providers allow."""
    customer.press_pay()
    customer.at_provider("pay", amount_minor=customer.amount_minor // 2)


def pay_then_refund(customer: Customer) -> None:
    """Pay, and get all of it back."""
    customer.press_pay()
    customer.at_provider("pay")
    time.sleep(1.0)
    customer.at_provider("refund")


def pay_then_part_back(customer: Customer) -> None:
    """Pay, and get a tenth back."""
    customer.press_pay()
    customer.at_provider("pay")
    time.sleep(1.0)
    customer.at_provider("refund", amount_minor=max(1, customer.amount_minor // 10))


def refund_told_first(customer: Customer) -> None:
    """Pay, and get all of it back, while the event of the payment comes after that of the refund."""
    customer.press_pay()
    customer.bad_luck("reordered")
    customer.at_provider("pay")
    customer.at_provider("refund")


def nothing(customer: Customer) -> None:
    """Never open the link."""


PAYING = Scenario("pays", pay, "paid")

# What customers of accounts that can be asked do.
ASKABLE = (
    PAYING,
    Scenario("pays, closes the tab", pay_and_close_the_tab, "paid"),
    Scenario("declined, then pays", decline_then_pay, "paid"),
    Scenario("event doubled", pay_with_event("duplicate"), "paid"),
    Scenario("event lost, comes back", lost_but_came_back, "paid"),
    Scenario("event lost for ever", pay_with_event("lost"), "paid"),
    Scenario("pays half", pay_less, "manual_review", ("partial",)),
    Scenario("event late", pay_with_event("late"), "paid"),
    Scenario("two tabs", two_tabs, "paid"),
    Scenario("refunded", pay_then_refund, "refunded"),
    Scenario("a part refunded", pay_then_part_back, "paid", ("partially_refunded",)),
    Scenario("pays later", pay_later, "paid"),
    Scenario("event stale", pay_with_event("stale"), "paid"),
    Scenario("forged event too", pay_with_event("forged"), "paid"),
    Scenario("goes away", abandon, "pending"),
    Scenario("never opens it", nothing, "pending"),
)

# What customers of accounts that speak by signed events alone do.
EVENTS_ONLY = (
    PAYING,
    Scenario("event doubled", pay_with_event("duplicate"), "paid"),
    Scenario("declined, then pays", decline_then_pay, "paid"),
    Scenario("forged event too", pay_with_event("forged"), "paid"),
    Scenario("event late", pay_with_event("late"), "paid"),
    Scenario("pays half", pay_less, "manual_review", ("partial",)),
    Scenario("refunded, events in the wrong order", refund_told_first, "refunded"),
    Scenario("never opens it", nothing, "pending"),
)
