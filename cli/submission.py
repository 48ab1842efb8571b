"""Read a file of events and hand them to intake."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contracts.ids import new_id
from contracts.messages import InvoiceCreated
from runtime.deps import Deps
from runtime.inbound import Incoming
from runtime.intake import Taken, take

BATCH = 200


def submitted(deps: Deps, file: str, actor: str) -> list[Taken]:
    """Take every event of a file ("-": stdin), in its order."""
    raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    incoming = [Incoming(body=body, channel="operator", sender=actor) for body in bodies(raw, actor)]
    taken: list[Taken] = []
    for start in range(0, len(incoming), BATCH):
        taken += take(deps, incoming[start : start + BATCH])
    return taken


def bodies(raw: bytes, actor: str) -> Iterator[bytes]:
    """Cut a file into events; bare `data` gets an envelope, and what is no JSON goes on as it is, to be refused."""
    try:
        whole = json.loads(raw)
    except (ValueError, RecursionError):
        for line in raw.splitlines():
            if line.strip():
                yield _wrapped_line(line, actor)
        return
    for value in whole if isinstance(whole, list) else [whole]:
        yield _wrapped(value, actor)


def _wrapped_line(line: bytes, actor: str) -> bytes:
    try:
        return _wrapped(json.loads(line), actor)
    except (ValueError, RecursionError):
        return line


def _wrapped(value: Any, actor: str) -> bytes:
    if isinstance(value, dict) and "specversion" not in value:
        value = {
            "specversion": "1.0",
            "id": new_id(),
            "source": f"/cli/{actor}",
            "type": InvoiceCreated.TYPE,
            "data": value,
        }
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
