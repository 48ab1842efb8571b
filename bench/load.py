"""A load generator: over kept connections, signed events of 800 bytes for the receiver, or a page again and again.

    BENCH_SECRET=... python -m bench.load PORT CONNECTIONS SECONDS SERVER_PID    events, each with an id of its own
    BENCH_PAGE=/l/... python -m bench.load PORT CONNECTIONS SECONDS SERVER_PID   GET of this path

A process of its own that does as little as it can: requests are made before the clock starts, one loop sends the next
one on whatever connection has been answered. Prints what it saw as JSON, with the processor time of both sides.
"""

import hashlib
import hmac
import json
import os
import secrets
import selectors
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import cycle

from bench.processes import cpu_seconds

BODY_BYTES = 800
WARM_SECONDS = 1.0
# More than the receiver answers. The empty handler may get some twice; the receiver may not, which its rows prove.
PER_SECOND = 10_000
_NO_ID = b"evt_00000000000000000000"
PATH = "/webhooks/main"
SIGNATURE_HEADER = "Sandbox-Signature"


def event() -> bytes:
    """Make an event of a paid order, as long as real ones are; its id is still to be filled in."""
    order = {
        "id": f"ord_{secrets.token_hex(10)}",
        "reference": "01kbench000000000000000000",
        "status": "paid",
        "amount_minor": 1_500_000,
        "currency": "AMD",
        "expires_at": "2030-01-01T00:00:00.000000Z",
        "transactions": [
            {
                "id": f"txn_{secrets.token_hex(10)}",
                "kind": "capture",
                "amount_minor": 1_500_000,
                "currency": "AMD",
                "occurred_at": "2030-01-01T00:00:00.000000Z",
            }
        ],
    }
    document = {
        "id": _NO_ID.decode(),
        "type": "payment.captured",
        "created": "2030-01-01T00:00:00.000000Z",
        "account": "main",
        "data": {"order": order},
        "note": "",
    }
    document["note"] = "n" * (BODY_BYTES - len(json.dumps(document)))
    return json.dumps(document).encode()


def request(secret: bytes, template: bytes) -> bytes:
    """Make a whole request with an id of its own, signed as the sandbox's provider signs."""
    body = template.replace(_NO_ID, b"evt_%s" % secrets.token_hex(10).encode())
    signed_at = int(time.time())
    digest = hmac.new(secret, f"{signed_at}.".encode() + body, hashlib.sha256).hexdigest()
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"User-Agent: bench\r\n{SIGNATURE_HEADER}: t={signed_at},v1={digest}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def run(port: int, connections: int, seconds: float, server_pid: int) -> dict[str, object]:
    """Send for a while; answers of the first second count nothing."""
    page = os.environ.get("BENCH_PAGE")
    if page is not None:
        requests = [f"GET {page} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: bench\r\n\r\n".encode()]
    else:
        secret = os.environ["BENCH_SECRET"].encode()
        template = event()
        requests = [request(secret, template) for _ in range(int(PER_SECOND * (seconds + WARM_SECONDS)))]
    unsent = cycle(requests)
    with selectors.DefaultSelector() as selector:
        for _ in range(connections):
            connection = socket.create_connection(("127.0.0.1", port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(connection, selectors.EVENT_READ)
        warm = _exchange(selector, unsent, WARM_SECONDS)
        before = (time.process_time(), cpu_seconds(server_pid))
        began = time.monotonic()
        seen = _exchange(selector, unsent, seconds)
        elapsed = time.monotonic() - began
        used = (time.process_time() - before[0], cpu_seconds(server_pid) - before[1])
    latencies = sorted(seen.latencies)
    return {
        "answers": dict(seen.answers + warm.answers),
        "per_second": seen.answers["200"] / elapsed,
        "p50_ms": latencies[len(latencies) // 2] * 1000,
        "p99_ms": latencies[int(len(latencies) * 0.99)] * 1000,
        "client_share": used[0] / elapsed,
        "server_share": used[1] / elapsed,
    }


class _Seen:
    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        self.latencies: list[float] = []


def _exchange(selector: selectors.BaseSelector, unsent: Iterator[bytes], seconds: float) -> _Seen:
    """Keep every connection busy until the time is over, then hear the last answers."""
    seen = _Seen()
    clock = time.perf_counter
    until = clock() + seconds
    sent = {}
    parts: dict[object, bytes] = {}
    for key in selector.get_map().values():
        sent[key.fileobj] = clock()
        key.fileobj.sendall(next(unsent))  # type: ignore[union-attr]  # sockets, all of them
    while sent:
        for key, _ in selector.select(timeout=10):
            connection = key.fileobj
            answer = parts.pop(connection, b"") + connection.recv(4096)  # type: ignore[union-attr]  # a socket
            if not _is_whole(answer):
                parts[connection] = answer
                continue
            now = clock()
            seen.latencies.append(now - sent.pop(connection))
            seen.answers[answer[9:12].decode()] += 1
            if now < until:
                sent[connection] = now
                connection.sendall(next(unsent))  # type: ignore[union-attr]  # a socket
    return seen


def _is_whole(answer: bytes) -> bool:
    """Tell whether head and body are there: a short JSON body, or a page, some in a second packet."""
    if not answer:
        raise ConnectionError("the server closed a connection")
    return answer.endswith((b"}", b"</html>")) and b"\r\n\r\n" in answer


if __name__ == "__main__":
    print(json.dumps(run(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))))
