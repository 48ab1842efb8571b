"""What people do in the demo's stories at a real provider's simulator: customers, managers, and a liar."""

import time
from dataclasses import dataclass
from http import HTTPStatus

from cli.demo_cases import Scene
from cli.simulated import Simulation, Till
from sandbox.office import OfficeError
from sandbox.visitors import Visitor, knock

AMOUNT_MINOR, PART_MINOR = 1_250_000, 250_000
CURRENCY = "AMD"
# Providers tell times in whole seconds: what is to have come later must be later by more.
WHOLE_SECOND = 1.1


@dataclass(frozen=True, slots=True)
class Telling:
    """A scene at a provider's simulator."""

    scene: Scene
    customer: Visitor
    simulation: Simulation
    till: Till


# --- what customers do ------------------------------------------------------------------------------------------------


def pays(told: Telling) -> None:
    """Pay, and come back."""
    told.customer.begin()
    told.customer.pay()
    told.customer.wait_for("paid")


def pays_and_closes_the_tab(told: Telling) -> None:
    """Pay, and never come back."""
    told.customer.begin()
    told.customer.press_there("pay")


def is_declined_then_pays(told: Telling) -> None:
    """Have a try fail, and pay with the next one: in the same order, or in another."""
    told.customer.begin()
    told.customer.be_declined()
    told.customer.begin()
    told.customer.pay()
    told.customer.wait_for("paid")


def pays_in_two_tabs(told: Telling) -> None:
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


def goes_away(told: Telling) -> None:
    """Look at the provider's page, and never come back, until the link ends."""
    told.customer.begin()
    told.scene.end_link()
    told.customer.wait_for("expired")


def nothing(told: Telling) -> None:
    """Never open the link. Somebody else opens the way back, and is led nowhere."""
    told.customer.come_back_as_a_stranger(told.till.name)


def comes_after_the_session(told: Telling) -> None:
    """Find the order over, and pay by another."""
    told.customer.begin()
    old = told.customer.reference
    told.customer.deed("expire")
    told.customer.come_back()
    told.customer.begin()
    if told.customer.reference == old:
        raise AssertionError("the order that was over took money")
    told.customer.pay()
    told.customer.wait_for("paid")


def money_comes_late(told: Telling, *, asks: bool = False) -> None:
    """Have a payment succeed when the link is over."""
    told.customer.begin()
    told.scene.end_link()
    told.customer.wait_for("expired")
    _settles_late(told, asks=asks)


def money_comes_after_the_cancel(told: Telling, *, asks: bool = False) -> None:
    """Have a payment succeed when a manager has cancelled the link."""
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


def a_debit_ends_after_the_link(told: Telling) -> None:
    """Begin a debit in time, which succeeds when the link is over."""
    told.customer.begin()
    told.customer.deed("begin")
    told.customer.come_back()
    told.customer.wait_for("processing")
    told.scene.end_link()
    told.customer.wait_for("expired", "processing")
    time.sleep(WHOLE_SECOND)
    told.customer.deed("settle")
    told.customer.wait_for("paid")


def confirmation_comes_after_the_cancel(told: Telling) -> None:
    """Pay in time, while we hear of it only when the link is cancelled."""
    told.customer.begin()
    told.customer.deed("lose")
    told.customer.pay()
    told.scene.office.command("link.cancel")
    told.customer.wait_for("cancelled")
    time.sleep(WHOLE_SECOND)
    told.customer.deed("tell_again")


def confirmation_is_lost(told: Telling) -> None:
    """Pay, while we hear of it only when people at the provider tell us again."""
    told.customer.begin()
    told.customer.deed("lose")
    told.customer.pay()
    told.customer.deed("tell_again")
    told.customer.wait_for("paid")


def event_comes_twice(told: Telling) -> None:
    """Pay, while we hear of it twice."""
    told.customer.begin()
    told.customer.deed("double")
    told.customer.pay()
    told.customer.wait_for("paid")


def pays_by_a_cancelled_link(told: Telling) -> None:
    """Press Pay at the provider when the link is cancelled: it asks us, and hears no."""
    told.customer.begin()
    told.scene.office.command("link.cancel")
    told.customer.wait_for("cancelled")
    told.customer.pay()


# --- what managers and strangers do -----------------------------------------------------------------------------------


def invoice_is_cancelled(told: Telling) -> None:
    """Have the CRM cancel the invoice while the customer is at the provider."""
    told.customer.begin()
    told.scene.office.cancel_in_crm()
    told.customer.wait_for("cancelled")


def all_is_given_back(told: Telling) -> None:
    """Pay, and get all of it back from a manager."""
    pays(told)
    told.scene.office.command("payment.refund")
    told.customer.wait_for("refunded")


def a_part_is_given_back(told: Telling) -> None:
    """Pay, and get a part back from a manager."""
    pays(told)
    told.scene.office.command("payment.refund", amount_minor=PART_MINOR, currency=CURRENCY)


def a_refund_is_refused(told: Telling) -> None:
    """Pay, and have a manager ask for what this provider does not do: he must hear so."""
    pays(told)
    try:
        told.scene.office.command("payment.refund")
    except OfficeError:
        return
    raise AssertionError("a refund was promised that this provider does not make")


def is_given_back_there(told: Telling) -> None:
    """Pay, and get all of it back from people at the provider; a manager has it asked about."""
    pays(told)
    told.customer.deed("refund")
    told.scene.office.command("payment.verify")
    told.customer.wait_for("refunded")


def is_captured(told: Telling) -> None:
    """Pay where money is held first; a manager takes it."""
    _is_held(told)
    told.scene.office.command("payment.capture")
    told.customer.wait_for("paid")


def is_let_go(told: Telling) -> None:
    """Pay where money is held first; a manager lets it go."""
    _is_held(told)
    told.scene.office.command("payment.release")


def _is_held(told: Telling) -> None:
    told.customer.begin()
    told.customer.pay()
    told.scene.office.wait_for_task("held_not_captured")


def a_liar_says_paid(told: Telling, *, is_signed: bool = False) -> None:
    """Send an event to our own door that nobody there sent."""
    told.customer.begin()
    merchant = told.simulation.merchant(told.till.name)
    order = told.simulation.orders(told.till.name)[told.customer.reference]
    request = told.simulation.simulator.forge(merchant, order)
    status = knock(f"{told.customer.site}/webhooks/{told.till.name}", **request)
    if is_signed and status < HTTPStatus.BAD_REQUEST:
        raise AssertionError(f"the forged event was answered {status}")
