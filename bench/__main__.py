"""python -m bench [NAME...] [--quick] [--json FILE]"""

import argparse
import signal
import sys
import traceback
from pathlib import Path

from bench import adapters, chain, checks, history, idle, lifecycle, links, memory, overtaking, receiver
from bench.machine import header, load
from bench.report import Report, say
from bench.room import Room, open_room

MEASURES = {
    "chain": chain.measure,
    "lifecycle": lifecycle.measure,
    "overtaking": overtaking.measure,
    "checks": checks.measure,
    "receiver": receiver.measure,
    "links": links.measure,
    "history": history.measure,
    "idle": idle.measure,
    "memory": memory.measure,
    "adapters": adapters.measure,
}


def main() -> int:
    """Measure, print the table, and return 1 when something could not be measured."""
    arguments = _parser().parse_args()
    unknown = sorted(set(arguments.names) - set(MEASURES))
    if unknown:
        print(f"bench: there is no {', '.join(unknown)}; choose from {', '.join(MEASURES)}", file=sys.stderr)
        return 2
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with open_room() as room:
        report = Report(header(room))
        failed = [name for name in arguments.names or MEASURES if not _measure(name, room, report, arguments.quick)]
        report.header["load after"] = load()
    print(report.text())
    if arguments.json:
        report.write_json(arguments.json)
    if failed:
        say(f"not measured: {', '.join(failed)}; the reasons stand above, the programs' logs in var/bench/logs")
    return 1 if failed else 0


def _measure(name: str, room: Room, report: Report, quick: bool) -> bool:
    """Measure one thing; what fails does not take the others' numbers along."""
    say(name)
    try:
        report.lines.extend(MEASURES[name](room, quick=quick))
    except Exception:
        traceback.print_exc()
        return False
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure side by side and print one table.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(MEASURES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds, for a first look")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the same as JSON, single values included")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("bench: interrupted; everything that it started has ended")
