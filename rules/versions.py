"""What a version of an invoice means that arrives: pure, the caller holds the invoice's lock."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Arrival = Literal["accepted", "unchanged", "superseded", "cancelled", "conflict"]


@dataclass(frozen=True, slots=True)
class VersionDecision:
    """The version that the content gets, and what becomes of it."""

    version: int
    arrival: Arrival


def decide_version(
    wanted: int | None, content: bytes, known: Mapping[int, bytes], cancelled_through: int, *, came_late: bool = False
) -> VersionDecision:
    """Decide about a version, or about content without one, given the fingerprints of every known version.

    A sender without versions gets the next one when the content differs from the newest, unless it `came_late`: sent
    before the newest. An older version that arrives late changes nothing; the same version with other content is a
    conflict.
    """
    newest = max(known, default=0)
    if wanted is None:
        if known.get(newest) == content:
            return VersionDecision(newest, "unchanged")
        if came_late:
            return VersionDecision(newest, "superseded")
        return VersionDecision(max(newest, cancelled_through) + 1, "accepted")
    if wanted in known:
        return VersionDecision(wanted, "unchanged" if known[wanted] == content else "conflict")
    if wanted < newest:
        return VersionDecision(wanted, "superseded")
    return VersionDecision(wanted, "cancelled" if wanted <= cancelled_through else "accepted")
