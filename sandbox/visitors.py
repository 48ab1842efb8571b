"""Customers who pay on the page of a simulated provider as a browser shows it: they see its buttons, and press them.

What happens without a browser (time, banks, people at the provider) has no button. Each simulator has its own words for
that; a `Deed` says one of them to its control interface.
"""

import contextlib
import re
import time
from collections.abc import Callable, Mapping
from html import unescape
from typing import Any

import httpx

from sandbox.control import ProviderControl
from sandbox.customers import Customer, hidden_fields

_BUTTON = re.compile(r'<button name="action" value="([a-z_]+)"')
_FORM = re.compile(r'<form method="post" action="(https?://[^"]+)"')
_HOPS = 4
_PAUSE_SECONDS = 0.5

Deed = Callable[["Visitor"], object]


class Visitor(Customer):
    """One person with one link and a browser."""

    def __init__(
        self, link_url: str, provider: ProviderControl, merchant: str, amount_minor: int, deeds: Mapping[str, Deed]
    ) -> None:
        """`merchant` is what the simulator calls the account; `deeds` are what can happen there without a browser."""
        super().__init__(link_url, provider, merchant, amount_minor)
        self.page = ""  # at the provider
        self._deeds = deeds

    def press_pay(self) -> str:
        """Press Pay on our page, and hand its form over where there is one; return the provider's page."""
        self.page = super().press_pay()
        return self.page

    def begin(self) -> None:
        """Press Pay until there is a page of the provider's that takes money."""
        until = time.monotonic() + self.patience_seconds
        while self.press_pay() and "pay" not in self.buttons():
            if time.monotonic() > until:
                raise AssertionError("the provider's page took no money")
            self.come_back()
            time.sleep(_PAUSE_SECONDS)

    def buttons(self) -> list[str]:
        """Return what can be pressed on the provider's page."""
        return _BUTTON.findall(self._browser.get(self.page).text)

    def press_there(self, button: str) -> httpx.Response:
        """Press a button of the provider's page."""
        offered = self.buttons()
        if button not in offered:
            raise AssertionError(f"the provider's page has no button {button}; it has {', '.join(offered) or 'none'}")
        return self._browser.post(self.page, data={"action": button})

    def pay(self) -> None:
        """Pay there, and go where the provider's answer leads."""
        self.go_home(self.press_there("pay"))

    def be_declined(self) -> None:
        """Have a try fail there; who is sent away goes."""
        self.go_home(self.press_there("decline"))

    def go_home(self, answer: httpx.Response) -> None:
        """Follow redirects as a browser does; who finds the site down closes the tab."""
        with contextlib.suppress(httpx.TransportError):
            for _ in range(_HOPS):
                if "location" not in answer.headers:
                    return
                answer = self._open(str(answer.url.join(answer.headers["location"])))

    def deed(self, name: str) -> None:
        """Let something happen at the provider."""
        self._deeds[name](self)

    def _provider_page(self, answer: httpx.Response) -> str:
        """Post the form of our page "handover", as its button would, where no redirect leads there."""
        found = _FORM.search(answer.text)
        if found is None:
            return super()._provider_page(answer)
        taken = self._browser.post(unescape(found.group(1)), data=hidden_fields(answer))
        return str(taken.headers.get("location", ""))


def act(action: str, **options: Any) -> Deed:
    """Return a deed: an action of the simulator's, about the order that the customer was led to."""
    return lambda visitor: visitor.at_provider(action, **options)


def bad_luck(fault: str, operation: str, **options: Any) -> Deed:
    """Return a deed: a fault about that order."""

    def order(visitor: Visitor) -> None:
        rule = {"operation": operation, "reference": visitor.reference, **options}
        visitor.provider.fault(fault, account=visitor.account, **rule)

    return order


def knock(door: str, **request: Any) -> int:
    """Send a request of a stranger's own making to a door of ours; return the status of the answer."""
    return httpx.request(url=door, timeout=30, trust_env=False, **request).status_code
