"""The demo at the simulator of a real provider: its stories are played, and its books are laid beside ours."""

import time
from collections.abc import Sequence

from rich.console import Console

from cli import demo_stories
from cli.demo_actors import Actors
from cli.demo_cases import Case
from cli.demo_compare import compare
from cli.demo_stories import Story
from cli.demo_table import print_table, wait_for_ends
from cli.output import put
from cli.simulated import Simulation
from cli.stack import Stack
from sandbox.customers import Customer
from sandbox.visitors import Visitor

# Seen by any customer of any provider, and where the ways back are all the same.
_PAGES = frozenset({"ready", "paid", "expired", "cancelled", "come_back"})

progress = Console(stderr=True)


def play_there(stack: Stack, simulation: Simulation) -> list[str]:
    """Let everybody act, wait for the end, and compare; return what is wrong, in sentences."""
    order_bad_luck(stack)
    began = time.monotonic()
    told, left_out = demo_stories.told_and_left_out(simulation, stack.deps.providers["shop"].capabilities)
    cases = demo_stories.cases(simulation, told)
    for case in cases:
        stack.crms[case.data["crm"]].control.create([case.data])
    progress.print(f"{len(cases)} invoices published; customers are on their way")

    def enter(case: Case, url: str) -> Customer:
        merchant = simulation.merchant(case.account)
        return Visitor(url, simulation.control, merchant, case.data["amount_minor"], simulation.simulator.deeds)

    actors = Actors(stack, enter)
    actors.act(cases)
    wrong = wait_for_ends(stack, cases)
    actors.look(cases)
    wrong += compare(stack, simulation, cases) + simulation.spared()
    progress.print(f"all acted; settled after {time.monotonic() - began:.1f} s")
    print_table(stack, cases)
    for line in left_out_lines(left_out):
        put(line)
    return wrong + say_which_pages(simulation, cases)


def order_bad_luck(stack: Stack) -> None:
    """Let the CRMs fail now and then, with and without the effect. The providers' bad luck is in the stories."""
    for crm in stack.crms.values():
        for fault in ("timeout_after", "error_500_before", "error_500_after"):
            crm.control.fault(fault, operation="write", rate=0.05)
        crm.control.fault("timeout_after", operation="task", times=1)


def say_which_pages(simulation: Simulation, cases: Sequence[Case]) -> list[str]:
    """Print which pages were seen; return which are missing that a customer of this provider sees."""
    seen = frozenset().union(*(case.pages for case in cases)) - {""}
    put(f"pages seen: {' '.join(sorted(seen))}")
    return [f"page {page} was never seen" for page in sorted((_PAGES | simulation.simulator.pages) - seen)]


def left_out_lines(stories: Sequence[Story]) -> list[str]:
    """Say which stories are not told, by what they need."""
    needs = dict.fromkeys(story.needs for story in stories)
    numbers = {need: " ".join(story.number for story in stories if story.needs == need) for need in needs}
    return [f"not told here, for want of {need}: {numbers[need]}" for need in needs]
