"""python -m bench [NAME...] [--quick] [--json FILE]"""

import argparse
import signal
import sys
from pathlib import Path

from bench import chain, history, idle, lifecycle, memory
from bench.machine import header, load
from bench.report import Report
from bench.room import open_room

MEASURES = {
    "chain": chain.measure,
    "lifecycle": lifecycle.measure,
    "history": history.measure,
    "idle": idle.measure,
    "memory": memory.measure,
}


def main() -> int:
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with open_room() as room:
        report = Report(header(room))
        for name in arguments.names or list(MEASURES):
            report.lines.extend(MEASURES[name](room, quick=arguments.quick))
        report.header["load after"] = load()
    print(report.text())
    if arguments.json:
        report.write_json(arguments.json)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure side by side and print one table.")
    parser.add_argument(
        "names", nargs="*", choices=[*MEASURES, []], metavar="NAME", help=f"{', '.join(MEASURES)} (default: all)"
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds, for a first look")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the same as JSON")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("bench: interrupted")
