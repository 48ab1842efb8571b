"""`paylinks demo`: the main job, whole, on this machine, with bad luck ordered in advance, and a table at the end.

At the sandbox's own provider everything happens that the rules know of; with `--provider arca`, and others, what can
happen at that provider, at a simulator of it (cli.demo_there).

The CRM publishes invoices; customers open their links and pay, decline, come late or stay away; managers cancel,
reissue and settle; the provider and the CRM time out, answer 500, lose and double events. Then every invoice must stand
where it belongs, every page and every rule of the verdict table must have been met, and `prove` must find nothing.
"""

import contextlib
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from cli import demo_examples, demo_pages, demo_rows, demo_stranger
from cli.demo_actors import Actors
from cli.demo_cases import Case
from cli.demo_table import print_table, wait_for_ends
from cli.demo_there import play_there
from cli.output import put
from cli.prove import print_report
from cli.reached import Reached, rules_reached
from cli.simulated import simulator
from cli.stack import Plan, Stack
from db import api_keys, links
from runtime.settings import SettingsError
from web.texts import PAGES

SANDBOX = "sandbox"

progress = Console(stderr=True)


def run_demo(*, profile: str, provider: str = SANDBOX, stay: bool = False, port: int = 0) -> int:
    """Run it; return 0 when every invoice ended right and nothing was lost, doubled or unproven.

    `provider`: the sandbox's own, or the simulator of a real one (cli/simulated_<name>.py). With `stay` it prints the
    addresses then, and stays until Ctrl-C.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a supervisor's stop also stops the processes
    folder = Path(tempfile.mkdtemp(prefix=f"demo-{profile}-", dir=_var()))
    what = "provider" if provider == SANDBOX else f"provider ({provider})"
    progress.print(f"paylinks demo ({profile}); {what} and CRM are simulated; logs in {folder}", soft_wrap=True)
    code = 1
    try:
        with Stack(_plan(folder, profile, provider, port)) as stack:
            code = play(stack)
            if stay:
                _stay(stack)
    finally:
        if code == 0:  # else the logs are needed
            shutil.rmtree(folder, ignore_errors=True)
    return code


def _var() -> Path:
    folder = Path("var")
    folder.mkdir(exist_ok=True)
    return folder


def _plan(folder: Path, profile: str, provider: str, port: int) -> Plan:
    # A tenth of the real pauses, so that a lost event is found in seconds; leases of seconds for the same reason.
    plan = Plan(
        folder=folder.resolve(),
        profile=profile,
        families=demo_pages.FAMILIES,
        simulator=None if provider == SANDBOX else simulator(provider),
        time_scale=0.1,
        lease_seconds=30,
        threads=8,
        port=port,
    )
    if profile == "production":
        plan.database_url = _service("PAYLINKS_DATABASE_URL")
        plan.broker_url = plan.amqp_url = _service("PAYLINKS_AMQP_URL")
        plan.redis_url = _service("PAYLINKS_REDIS_URL")
        plan.queue_prefix = f"{folder.name.lower()}."
    return plan


def _service(name: str) -> str:
    url = os.environ.get(name)
    if not url:
        raise SettingsError(f"{name}: not set; `make demo PROFILE=production` brings the services and sets it")
    return url


def _stay(stack: Stack) -> None:
    """Print where everything is, and wait for Ctrl-C."""
    with stack.deps.database.begin() as tx:
        _, key = api_keys.create(tx, "you", list(stack.plan.crms), actor="demo", reason="to try the API with")
        open_links = links.some_active(tx, limit=3)
    say = Console(soft_wrap=True).print
    say(f"web, pages, API   {stack.base_url}")
    say(f"your API key      {key}   (CRMs {', '.join(stack.plan.crms)})")
    for link in open_links:
        say(f"a link to pay     {stack.deps.tokens.url(link.id, link.generation, link.key_id)}")
    say(f"provider          {stack.provider_url}   (simulated)")
    for name, crm in stack.crms.items():
        say(f"CRM               {crm.base_url}   (simulated, {name})")
    settings = stack.plan.folder / "settings.json"
    say(f"settings          {settings}   (PAYLINKS_CONFIG={settings} .venv/bin/paylinks invoice show INV-1001)")
    say("Ctrl-C stops everything.")
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


def play(stack: Stack) -> int:
    """Let everything happen, wait for the end, and judge; 0 when nothing is wrong."""
    wrong = play_here(stack) if stack.simulation is None else play_there(stack, stack.simulation)
    for sentence in wrong:
        progress.print(f"[red]wrong[/red] {sentence}", soft_wrap=True)
    breaches = print_report(stack.deps)
    return 1 if wrong or breaches else 0


def play_here(stack: Stack) -> list[str]:
    """Publish, let everybody act at the sandbox's provider, and wait for the end; return what is wrong."""
    order_bad_luck(stack)
    began = time.monotonic()
    examples, rows, pages = demo_examples.cases(), demo_rows.cases(), demo_pages.cases()
    cases = [*examples, *rows, *pages]
    for data in [*demo_examples.published(), *(case.data for case in (*pages, *rows))]:
        stack.crms[data["crm"]].control.create([data])
    progress.print(f"{len(cases)} invoices published; customers are on their way")
    demo_stranger.pays(stack)
    actors = Actors(stack)
    # First what takes longest; then the examples, some of whose orders were made with the link and age.
    actors.act([*pages, *examples, *rows])
    wrong = wait_for_ends(stack, cases) + demo_stranger.is_given_back(stack)
    actors.look(cases)
    progress.print(f"all acted; settled after {time.monotonic() - began:.1f} s")
    print_table(stack, cases)
    put(demo_stranger.line())
    return wrong + say_what_was_reached(stack, cases)


def say_what_was_reached(stack: Stack, cases: Sequence[Case]) -> list[str]:
    """Print which pages and rules were met and which were not; return what is wrong about that."""
    pages = frozenset().union(*(case.pages for case in cases)) - {""}
    with stack.deps.database.read() as tx:
        reached = (Reached("page", PAGES, pages, demo_pages.UNREACHABLE), rules_reached(tx))
    for one in reached:
        put(one.line())
    return [sentence for one in reached for sentence in one.wrong]


def order_bad_luck(stack: Stack) -> None:
    """Let calls fail now and then: with and without the effect, at the provider and at the CRMs."""
    demo_pages.slow_down(stack.provider.control)
    for account, (family, _, _) in stack.plan.families.items():
        rates = {"error_500_before": 0.05, "rate_limited_429": 0.03, "slow": 0.05}
        if family != "no_lookup":  # there a lost answer is a person's case, which the fault tests show
            rates |= {"timeout_after": 0.06, "error_500_after": 0.04}
        for fault, rate in rates.items():
            operations = ("create", "lookup") if family != "no_lookup" else ("create",)
            if family == "no_lookup" and fault == "error_500_before":
                continue
            for operation in operations:
                stack.provider.control.fault(fault, account=account, operation=operation, rate=rate)
    for crm in stack.crms.values():
        for fault in ("timeout_after", "error_500_before", "error_500_after"):
            crm.control.fault(fault, operation="write", rate=0.05)
        crm.control.fault("timeout_after", operation="task", times=1)
