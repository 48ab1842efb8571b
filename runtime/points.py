"""Named points where a rehearsal may stop the process dead, to prove that nothing is lost there.

`PAYLINKS_HALT_AT=QUEUE.POINT@FILE`: the first process that reaches the point with FILE absent makes the file and kills
itself with SIGKILL; the next one passes. Without the setting a point costs one comparison.
"""

import os
import signal
from pathlib import Path

CLAIMED = "claimed"
INTENT = "intent"
CALLED = "called"
CONCLUDING = "concluding"
CONCLUDED = "concluded"
POINTS = (CLAIMED, INTENT, CALLED, CONCLUDING, CONCLUDED)

_armed: tuple[str, Path] | None = None


def arm(halt_at: str | None) -> None:
    """Choose the point for this process; None: none."""
    global _armed
    if halt_at is None:
        _armed = None
        return
    name, _, marker = halt_at.partition("@")
    _armed = (name, Path(marker))


def reach(name: str) -> None:
    """Stop dead if this is the armed point and nobody stopped here before."""
    if _armed is None or _armed[0] != name:
        return
    try:
        _armed[1].touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
