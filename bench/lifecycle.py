"""The whole paid lifecycle: an invoice is published by the CRM, its customer pays, the CRM knows that it is paid.

Over real processes: sandbox CRM and provider, RabbitMQ, intake, one worker process per queue, relay, web. Customers
take no time of their own: each presses Pay as soon as his link is in the CRM.
"""

from collections.abc import Sequence

from bench.installation import Customers, Life, production
from bench.report import Line, percentile, say
from bench.room import Room
from cli.stack import Stack

LATENCIES_MS = (0, 300)
MANY = 32
FEW = 2
WARM = 8


def measure(room: Room, *, quick: bool) -> list[Line]:
    """Measure with a provider that answers at once, and with a slow one."""
    lines: list[Line] = []
    many, few = (60, 10) if quick else (500, 100)
    for latency in LATENCIES_MS:
        with production(room, provider_latency_ms=latency) as stack:
            customers = Customers(stack)
            customers.live(WARM, at_once=FEW)
            busy = customers.live(many, at_once=MANY)
            quiet = customers.live(few, at_once=FEW)
            _verify(stack, customers.crm, WARM + many + few)
        lines += _lines(latency, busy, quiet)
    return lines


def _lines(latency: int, busy: Sequence[Life], quiet: Sequence[Life]) -> list[Line]:
    name = f"paid lifecycle, provider takes {latency} ms"
    per_second = len(busy) / (max(life.known for life in busy) - min(life.published for life in busy))
    say(f"{name}: {per_second:.1f}/s")
    return [
        Line(name, f"{MANY} customers at once", "invoices/s", (per_second,)),
        *_percentiles(name, f"{MANY} at once, end to end", [life.whole_ms for life in busy]),
        *_percentiles(name, f"{FEW} at once, end to end", [life.whole_ms for life in quiet]),
        Line(name, f"{FEW} at once, Pay to the provider's page, p50", "ms", (percentile(_checkouts(quiet), 50),)),
        Line(name, f"{FEW} at once, payment to the CRM, p50", "ms", (percentile(_settlings(quiet), 50),)),
    ]


def _percentiles(name: str, what: str, values: Sequence[float]) -> list[Line]:
    return [Line(name, f"{what}, p{percent}", "ms", (percentile(values, percent),)) for percent in (50, 95, 99)]


def _checkouts(lives: Sequence[Life]) -> list[float]:
    return [life.checkout_ms for life in lives]


def _settlings(lives: Sequence[Life]) -> list[float]:
    return [life.settling_ms for life in lives]


def _verify(stack: Stack, crm: str, count: int) -> None:
    """Ask the CRM itself: every invoice is there and paid."""
    records = stack.crms[crm].control.records()
    paid = [record for record in records if record["payment"] and record["payment"]["status"] == "paid"]
    if not len(records) == len(paid) == count:
        raise RuntimeError(f"the CRM holds {len(records)} invoices, {len(paid)} of them paid, not {count}")
