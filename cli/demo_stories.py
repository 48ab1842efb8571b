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

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from cli import demo_plots as plots
from cli.demo_cases import Act, Case, Ending, Scene
from cli.demo_plots import Telling
from cli.simulated import HOLDS, SHOP, SILENT, UNLUCKY, Simulation, Till
from cli.stack import CRMS
from gateways.providers.base import Capabilities
from rules.verdict_table import CASES, decide
from sandbox.visitors import Visitor

_PAID = Ending("paid", tasks=frozenset())
_UNTOUCHED = Ending("pending", tasks=frozenset())
_CANCELLED = Ending("cancelled", tasks=frozenset())


@dataclass(frozen=True, slots=True)
class Story:
    """One invoice. `needs` says in words what `till`, `deeds` and `fits` ask for."""

    number: str
    what: str
    act: Callable[[Telling], None]
    ending: Ending = _PAID
    till: Till = SHOP
    deeds: frozenset[str] = frozenset()
    fits: Callable[[Capabilities], bool] = lambda _: True
    needs: str = ""


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
            "amount_minor": plots.AMOUNT_MINOR,
            "currency": plots.CURRENCY,
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


_REFUNDED_PART = Ending("paid", ("partially_refunded",), tasks=frozenset())
_LATE = _by_the_table("the exact amount after the link expired")
_AFTER_CANCEL = _by_the_table("the exact amount by a cancelled link")
_REFUNDS = "refunds by a call"
_NO_REFUNDS = "a provider that refuses refunds"
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
    Story("LOST-ANSWER", "the answer to the order is lost", plots.pays, till=UNLUCKY, needs="orders made by a call"),
    Story(
        "NOBODY-TELLS",
        "pays, and nobody tells; a scheduled check finds it",
        plots.pays_and_closes_the_tab,
        till=SILENT,
        needs=_LOOKS,
    ),
    Story("CAPTURED", "is held, then captured", plots.is_captured, till=HOLDS, needs=_HOLDS),
    Story("LET-GO", "is held, then let go", plots.is_let_go, _UNTOUCHED, till=HOLDS, needs=_HOLDS),
    Story(
        "SESSION-OVER",
        "the order ends; pays by another",
        plots.comes_after_the_session,
        deeds=frozenset({"expire"}),
        needs="orders that end by themselves",
    ),
    Story(
        "LATE",
        "pays; the money comes when the link is over",
        plots.money_comes_late,
        _LATE,
        deeds=_LATE_DEEDS,
        fits=lambda can: can.push,
        needs=f"{_LATE_NEEDS}, and is told",
    ),
    Story(
        "LATE-ASKED",
        "pays; the money comes when the link is over, and a manager asks",
        partial(plots.money_comes_late, asks=True),
        _LATE,
        deeds=_LATE_DEEDS,
        fits=lambda can: not can.push,
        needs=f"{_LATE_NEEDS}, and is not told",
    ),
    Story(
        "AFTER-CANCEL",
        "pays; the money comes when the link is cancelled",
        plots.money_comes_after_the_cancel,
        _AFTER_CANCEL,
        deeds=_LATE_DEEDS,
        fits=lambda can: can.push,
        needs=f"{_LATE_NEEDS}, and is told",
    ),
    Story(
        "CANCEL-ASKED",
        "pays; the money comes when the link is cancelled, and a manager asks",
        partial(plots.money_comes_after_the_cancel, asks=True),
        _AFTER_CANCEL,
        deeds=_LATE_DEEDS,
        fits=lambda can: not can.push,
        needs=f"{_LATE_NEEDS}, and is not told",
    ),
    Story(
        "DEBIT",
        "pays by debit, which succeeds when the link is over",
        plots.a_debit_ends_after_the_link,
        deeds=frozenset({"begin", "settle"}),
        needs="debits that count from their beginning",
    ),
    Story(
        "CANCEL-TOLD",
        "pays; the event comes when the link is cancelled",
        plots.confirmation_comes_after_the_cancel,
        _AFTER_CANCEL,
        deeds=_TELL_AGAIN,
        needs=_STAFF,
    ),
    Story(
        "TOLD-AGAIN", "the event is lost, and sent again", plots.confirmation_is_lost, deeds=_TELL_AGAIN, needs=_STAFF
    ),
    Story(
        "TOLD-TWICE",
        "the event comes twice",
        plots.event_comes_twice,
        deeds=frozenset({"double"}),
        needs="events that are doubled on demand",
    ),
    Story(
        "NOT-AGREED",
        "pays by a cancelled link, and we say no",
        plots.pays_by_a_cancelled_link,
        _CANCELLED,
        fits=lambda can: can.precheck,
        needs=_PRECHECK,
    ),
    Story("PAYS", "pays, and comes back", plots.pays),
    Story("PAYS-TOO", "pays, and comes back", plots.pays),
    Story(
        "CLOSES-TAB",
        "pays, and closes the tab; an event tells",
        plots.pays_and_closes_the_tab,
        fits=lambda can: can.push,
        needs="events",
    ),
    Story("DECLINED", "is declined, then pays", plots.is_declined_then_pays),
    Story("TWO-TABS", "opens two tabs, and pays in one", plots.pays_in_two_tabs),
    Story("GOES-AWAY", "looks, and goes away; the link ends", plots.goes_away, Ending("expired", tasks=frozenset())),
    Story("NEVER", "never opens it", plots.nothing, _UNTOUCHED),
    Story("CANCELLED", "the CRM cancels the invoice", plots.invoice_is_cancelled, _CANCELLED),
    Story(
        "BACK",
        "a manager gives all of it back",
        plots.all_is_given_back,
        Ending("refunded", tasks=frozenset()),
        fits=lambda can: can.refund,
        needs=_REFUNDS,
    ),
    Story(
        "PART-BACK",
        "a manager gives a part back",
        plots.a_part_is_given_back,
        _REFUNDED_PART,
        fits=lambda can: can.refund,
        needs=_REFUNDS,
    ),
    Story(
        "NOT-BACK",
        "a manager asks for a refund, which is refused",
        plots.a_refund_is_refused,
        fits=lambda can: not can.refund,
        needs=_NO_REFUNDS,
    ),
    Story(
        "BACK-THERE",
        "people at the provider give it back, and a manager asks",
        plots.is_given_back_there,
        Ending("refunded", tasks=frozenset()),
        deeds=frozenset({"refund"}),
        fits=lambda can: can.lookup,
        needs=_LOOKS,
    ),
    Story(
        "FORGED",
        "a forged event is refused at the door",
        partial(plots.a_liar_says_paid, is_signed=True),
        _UNTOUCHED,
        fits=lambda can: can.signed_events,
        needs=_SIGNED,
    ),
    Story(
        "FORGED-HINT",
        "somebody else sends an event, which changes nothing",
        plots.a_liar_says_paid,
        _UNTOUCHED,
        fits=lambda can: not can.signed_events,
        needs="unsigned events",
    ),
)
