"""What happens at a real provider's simulator: stories, each an invoice with what its people do and how it must end.

A story says what it needs: an account of a kind, deeds that the simulator knows, capabilities of the adapter. Where a
provider lacks them the story is not told, and the demo says so. The words of deeds:

    expire       the order's time is over there
    settle_late  a payment that was under way succeeds after the order's end
    begin        the customer begins a payment that takes days, as a debit, and counts from now
    settle       that payment succeeds
    refund       people at the provider give all of it back, without our call
    double       the next event of the order comes twice
    lose         the next event of the order never comes
    tell_again   people at the provider send the order's last event once more
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any

from cli.demo_cases import Act, Case, Ending, Scene
from cli.simulated import HOLDS, SHOP, SILENT, UNLUCKY, Simulation, Till
from cli.stack import CRMS
from gateways.providers.base import Capabilities
from rules.verdict_table import CASES, decide
from sandbox.office import OfficeError
from sandbox.visitors import Visitor, knock

AMOUNT_MINOR, PART_MINOR = 1_250_000, 250_000
CURRENCY = "AMD"
# Providers tell times in whole seconds: what is to have come later must be later by more.
WHOLE_SECOND = 1.1

_PAID = Ending("paid", tasks=frozenset())
_UNTOUCHED = Ending("pending", tasks=frozenset())
_CANCELLED = Ending("cancelled", tasks=frozenset())


@dataclass(frozen=True, slots=True)
class Story:
    """One invoice. `needs` says in words what `till`, `deeds` and `fits` ask for."""

    number: str
    what: str
    act: "Callable[[Telling], None]"
    ending: Ending = _PAID
    till: Till = SHOP
    deeds: frozenset[str] = frozenset()
    fits: Callable[[Capabilities], bool] = lambda _: True
    needs: str = ""


@dataclass(frozen=True, slots=True)
class Telling:
    """A scene at a provider's simulator."""

    scene: Scene
    customer: Visitor
    simulation: Simulation
    till: Till


def told_and_left_out(simulation: Simulation, can: Capabilities) -> tuple[list[Story], list[Story]]:
    """Sort the stories into those that this provider can tell, and those that it cannot."""
    simulator = simulation.simulator

    def fits(story: Story) -> bool:
        is_known = story.till in simulator.tills and story.deeds <= set(simulator.deeds)
        return is_known and story.fits(can)

    return [one for one in STORIES if fits(one)], [one for one in STORIES if not fits(one)]


def cases(simulation: Simulation, stories: list[Story]) -> list[Case]:
    """Make an invoice of each story."""
    return list(_cases(simulation, stories))


def _cases(simulation: Simulation, stories: list[Story]) -> Iterator[Case]:
    for place, story in enumerate(stories):
        data: dict[str, Any] = {
            "crm": CRMS[place % len(CRMS)],
            "invoice_id": story.number,
            "version": 1,
            "amount_minor": AMOUNT_MINOR,
            "currency": CURRENCY,
            "purpose": story.what,
            "account": story.till.name,
            "customer": {"name": "Ani", "email": "ani@example.am", "locale": "en"},
            "manager": {"id": "17", "name": "Karen Hakobyan"},
        }
        yield Case(data, story.what, story.till.name, _acting(simulation, story), story.ending)


def _acting(simulation: Simulation, story: Story) -> Act:
    def act(scene: Scene) -> None:
        customer = scene.customer
        if not isinstance(customer, Visitor):
            raise TypeError("a story needs a customer with a browser")
        story.act(Telling(scene, customer, simulation, story.till))

    return act


def _by_the_table(name: str) -> Ending:
    """Return how the verdict table says that an invoice ends."""
    decided = decide(next(row for row in CASES if row.name == name))
    return Ending(decided.status, decided.flags, decided.rules, decided.tasks)


# --- what customers do ------------------------------------------------------------------------------------------------


def _pays(told: Telling) -> None:
    told.customer.begin()
    told.customer.pay()
    told.customer.wait_for("paid")


def _pays_and_closes_the_tab(told: Telling) -> None:
    told.customer.begin()
    told.customer.press_there("pay")


def _is_declined_then_pays(told: Telling) -> None:
    told.customer.begin()
    told.customer.be_declined()
    told.customer.begin()
    told.customer.pay()
    told.customer.wait_for("paid")


def _pays_in_two_tabs(told: Telling) -> None:
    """Open the provider's page twice and pay in one; the other must not take money again."""
    first = told.customer
    first.begin()
    order, page = first.reference, first.page
    first.begin()
    if first.reference != order:
        raise AssertionError("two tabs led to two orders")
    first.pay()
    first.wait_for("paid")
    first.page = page
    if "pay" in first.buttons():
        first.pay()


def _goes_away(told: Telling) -> None:
    told.customer.begin()
    told.scene.end_link()
    told.customer.wait_for("expired")


def _nothing(told: Telling) -> None:
    """Never open the link. Somebody else opens the way back, and is led nowhere."""
    told.customer.come_back_as_a_stranger(told.till.name)


def _comes_after_the_session(told: Telling) -> None:
    told.customer.begin()
    old = told.customer.reference
    told.customer.deed("expire")
    told.customer.come_back()
    told.customer.begin()
    if told.customer.reference == old:
        raise AssertionError("the order that was over took money")
    told.customer.pay()
    told.customer.wait_for("paid")


def _money_comes_late(told: Telling, *, asks: bool = False) -> None:
    told.customer.begin()
    told.scene.end_link()
    told.customer.wait_for("expired")
    _settles_late(told, asks=asks)


def _money_comes_after_the_cancel(told: Telling, *, asks: bool = False) -> None:
    told.customer.begin()
    told.scene.office.command("link.cancel")
    told.customer.wait_for("cancelled")
    _settles_late(told, asks=asks)


def _settles_late(told: Telling, *, asks: bool) -> None:
    """Let the money come: from a page that nobody could close there, else from a payment that was under way.

    Where nobody tells us, the customer says so and a manager asks.
    """
    time.sleep(WHOLE_SECOND)
    if "pay" in told.customer.buttons():
        told.customer.press_there("pay")
    else:
        told.customer.deed("settle_late")
    if asks:
        told.scene.office.command("payment.verify")
    told.customer.wait_for("paid")


def _a_debit_ends_after_the_link(told: Telling) -> None:
    told.customer.begin()
    told.customer.deed("begin")
    told.customer.come_back()
    told.customer.wait_for("processing")
    told.scene.end_link()
    told.customer.wait_for("expired", "processing")
    time.sleep(WHOLE_SECOND)
    told.customer.deed("settle")
    told.customer.wait_for("paid")


def _confirmation_comes_after_the_cancel(told: Telling) -> None:
    told.customer.begin()
    told.customer.deed("lose")
    told.customer.pay()
    told.scene.office.command("link.cancel")
    told.customer.wait_for("cancelled")
    time.sleep(WHOLE_SECOND)
    told.customer.deed("tell_again")


def _confirmation_is_lost(told: Telling) -> None:
    told.customer.begin()
    told.customer.deed("lose")
    told.customer.pay()
    told.customer.deed("tell_again")
    told.customer.wait_for("paid")


def _event_comes_twice(told: Telling) -> None:
    told.customer.begin()
    told.customer.deed("double")
    told.customer.pay()
    told.customer.wait_for("paid")


def _pays_by_a_cancelled_link(told: Telling) -> None:
    """Press Pay at the provider when the link is cancelled: it asks us, and hears no."""
    told.customer.begin()
    told.scene.office.command("link.cancel")
    told.customer.wait_for("cancelled")
    told.customer.pay()


# --- what managers and strangers do -----------------------------------------------------------------------------------


def _invoice_is_cancelled(told: Telling) -> None:
    told.customer.begin()
    told.scene.office.cancel_in_crm()
    told.customer.wait_for("cancelled")


def _all_is_given_back(told: Telling) -> None:
    _pays(told)
    told.scene.office.command("payment.refund")
    told.customer.wait_for("refunded")


def _a_part_is_given_back(told: Telling) -> None:
    _pays(told)
    told.scene.office.command("payment.refund", amount_minor=PART_MINOR, currency=CURRENCY)


def _a_refund_is_refused(told: Telling) -> None:
    _pays(told)
    try:
        told.scene.office.command("payment.refund")
    except OfficeError:
        return
    raise AssertionError("a refund was promised that this provider does not make")


def _is_given_back_there(told: Telling) -> None:
    _pays(told)
    told.customer.deed("refund")
    told.scene.office.command("payment.verify")
    told.customer.wait_for("refunded")


def _is_captured(told: Telling) -> None:
    _is_held(told)
    told.scene.office.command("payment.capture")
    told.customer.wait_for("paid")


def _is_let_go(told: Telling) -> None:
    _is_held(told)
    told.scene.office.command("payment.release")


def _is_held(told: Telling) -> None:
    told.customer.begin()
    told.customer.pay()
    told.scene.office.wait_for_task("held_not_captured")


def _a_liar_says_paid(told: Telling, *, is_signed: bool = False) -> None:
    """Send an event to our own door that nobody there sent."""
    told.customer.begin()
    merchant = told.simulation.merchant(told.till.name)
    order = told.simulation.orders(told.till.name)[told.customer.reference]
    request = told.simulation.simulator.forge(merchant, order)
    status = knock(f"{told.customer.site}/webhooks/{told.till.name}", **request)
    if is_signed and status < HTTPStatus.BAD_REQUEST:
        raise AssertionError(f"the forged event was answered {status}")


_REFUNDED_PART = Ending("paid", ("partially_refunded",), tasks=frozenset())
_LATE = _by_the_table("the exact amount after the link expired")
_AFTER_CANCEL = _by_the_table("the exact amount by a cancelled link")
_REFUNDS = "refunds by a call"
_NO_REFUNDS = "a provider that gives nothing back by a call"
_LOOKS = "look-ups of an order"
_LATE_NEEDS = "a payment that may settle after its order's end"
_HOLDS = "an account that holds money first"
_PRECHECK = "a provider that asks before money moves"
_SIGNED = "signed events"
_LATE_DEEDS = frozenset({"settle_late"})
_TELL_AGAIN = frozenset({"lose", "tell_again"})
_STAFF = "people at the provider who send an event again"

# What takes longest comes first.
STORIES = (
    Story("LOST-ANSWER", "the answer to the order is lost", _pays, till=UNLUCKY, needs="orders made by a call"),
    Story(
        "NOBODY-TELLS",
        "pays, and nobody tells; a scheduled check finds it",
        _pays_and_closes_the_tab,
        till=SILENT,
        needs=_LOOKS,
    ),
    Story("CAPTURED", "is held, then captured", _is_captured, till=HOLDS, needs=_HOLDS),
    Story("LET-GO", "is held, then let go", _is_let_go, _UNTOUCHED, till=HOLDS, needs=_HOLDS),
    Story(
        "SESSION-OVER",
        "the order ends; pays by another",
        _comes_after_the_session,
        deeds=frozenset({"expire"}),
        needs="orders that end by themselves",
    ),
    Story(
        "LATE",
        "pays; the money comes when the link is over",
        _money_comes_late,
        _LATE,
        deeds=_LATE_DEEDS,
        fits=lambda can: can.push,
        needs=f"{_LATE_NEEDS}, and is told",
    ),
    Story(
        "LATE-ASKED",
        "pays; the money comes when the link is over, and a manager asks",
        partial(_money_comes_late, asks=True),
        _LATE,
        deeds=_LATE_DEEDS,
        fits=lambda can: not can.push,
        needs=f"{_LATE_NEEDS}, and is not told",
    ),
    Story(
        "AFTER-CANCEL",
        "pays; the money comes when the link is cancelled",
        _money_comes_after_the_cancel,
        _AFTER_CANCEL,
        deeds=_LATE_DEEDS,
        fits=lambda can: can.push,
        needs=f"{_LATE_NEEDS}, and is told",
    ),
    Story(
        "CANCEL-ASKED",
        "pays; the money comes when the link is cancelled, and a manager asks",
        partial(_money_comes_after_the_cancel, asks=True),
        _AFTER_CANCEL,
        deeds=_LATE_DEEDS,
        fits=lambda can: not can.push,
        needs=f"{_LATE_NEEDS}, and is not told",
    ),
    Story(
        "DEBIT",
        "pays by debit, which succeeds when the link is over",
        _a_debit_ends_after_the_link,
        deeds=frozenset({"begin", "settle"}),
        needs="debits that count from their beginning",
    ),
    Story(
        "CANCEL-TOLD",
        "pays; the event comes when the link is cancelled",
        _confirmation_comes_after_the_cancel,
        _AFTER_CANCEL,
        deeds=_TELL_AGAIN,
        needs=_STAFF,
    ),
    Story("TOLD-AGAIN", "the event is lost, and sent again", _confirmation_is_lost, deeds=_TELL_AGAIN, needs=_STAFF),
    Story(
        "TOLD-TWICE",
        "the event comes twice",
        _event_comes_twice,
        deeds=frozenset({"double"}),
        needs="a simulator that doubles events",
    ),
    Story(
        "NOT-AGREED",
        "pays by a cancelled link, and we say no",
        _pays_by_a_cancelled_link,
        _CANCELLED,
        fits=lambda can: can.precheck,
        needs=_PRECHECK,
    ),
    Story("PAYS", "pays, and comes back", _pays),
    Story("PAYS-TOO", "pays, and comes back", _pays),
    Story(
        "CLOSES-TAB",
        "pays, and closes the tab; an event tells",
        _pays_and_closes_the_tab,
        fits=lambda can: can.push,
        needs="events",
    ),
    Story("DECLINED", "is declined, then pays", _is_declined_then_pays),
    Story("TWO-TABS", "opens two tabs, and pays in one", _pays_in_two_tabs),
    Story("GOES-AWAY", "looks, and goes away; the link ends", _goes_away, Ending("expired", tasks=frozenset())),
    Story("NEVER", "never opens it", _nothing, _UNTOUCHED),
    Story("CANCELLED", "the CRM cancels the invoice", _invoice_is_cancelled, _CANCELLED),
    Story(
        "BACK",
        "a manager gives all of it back",
        _all_is_given_back,
        Ending("refunded", tasks=frozenset()),
        fits=lambda can: can.refund,
        needs=_REFUNDS,
    ),
    Story(
        "PART-BACK",
        "a manager gives a part back",
        _a_part_is_given_back,
        _REFUNDED_PART,
        fits=lambda can: can.refund,
        needs=_REFUNDS,
    ),
    Story(
        "NOT-BACK",
        "a manager asks for a refund, which is refused",
        _a_refund_is_refused,
        fits=lambda can: not can.refund,
        needs=_NO_REFUNDS,
    ),
    Story(
        "BACK-THERE",
        "people at the provider give it back, and a manager asks",
        _is_given_back_there,
        Ending("refunded", tasks=frozenset()),
        deeds=frozenset({"refund"}),
        fits=lambda can: can.lookup,
        needs=_LOOKS,
    ),
    Story(
        "FORGED",
        "a forged event is refused at the door",
        partial(_a_liar_says_paid, is_signed=True),
        _UNTOUCHED,
        fits=lambda can: can.signed_events,
        needs=_SIGNED,
    ),
    Story(
        "FORGED-HINT",
        "somebody else sends an event, which changes nothing",
        _a_liar_says_paid,
        _UNTOUCHED,
        fits=lambda can: not can.signed_events,
        needs="events that nobody signs",
    ),
)
