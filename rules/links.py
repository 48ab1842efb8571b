"""What a link is allowed to do. Pure: the caller says what time it is.

A sent link's amount and currency are no setting; another amount means another version and another link.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from contracts.statuses import AttemptState, LinkState

# Moves that a guarded UPDATE may make, state by state. An end that money can still change has a way to SETTLED.
LINK_MOVES: dict[LinkState, frozenset[LinkState]] = {
    LinkState.ACTIVE: frozenset({LinkState.SETTLED, LinkState.SUPERSEDED, LinkState.CANCELLED, LinkState.EXPIRED}),
    LinkState.EXPIRED: frozenset({LinkState.SETTLED, LinkState.CANCELLED}),
    LinkState.SUPERSEDED: frozenset({LinkState.SETTLED}),
    LinkState.CANCELLED: frozenset({LinkState.SETTLED}),
    LinkState.SETTLED: frozenset(),
}

ATTEMPT_MOVES: dict[AttemptState, frozenset[AttemptState]] = {
    AttemptState.RESERVED: frozenset(
        {AttemptState.UNKNOWN, AttemptState.OPEN, AttemptState.PROCESSING, AttemptState.PAID}
        | {AttemptState.FAILED, AttemptState.EXPIRED, AttemptState.CLOSED}
    ),
    AttemptState.UNKNOWN: frozenset(
        {AttemptState.OPEN, AttemptState.PROCESSING, AttemptState.PAID}
        | {AttemptState.FAILED, AttemptState.EXPIRED, AttemptState.CLOSED}
    ),
    AttemptState.OPEN: frozenset(
        {AttemptState.PROCESSING, AttemptState.PAID, AttemptState.FAILED, AttemptState.EXPIRED, AttemptState.CLOSED}
    ),
    AttemptState.PROCESSING: frozenset(
        {AttemptState.OPEN, AttemptState.PAID, AttemptState.FAILED, AttemptState.EXPIRED, AttemptState.CLOSED}
    ),
    # Money may arrive after every end but its own: a late decline never undoes it.
    AttemptState.FAILED: frozenset({AttemptState.PAID}),
    AttemptState.EXPIRED: frozenset({AttemptState.PAID}),
    AttemptState.CLOSED: frozenset({AttemptState.PAID}),
    AttemptState.PAID: frozenset(),
}


_State = TypeVar("_State", LinkState, AttemptState)


def may_leave(moves: Mapping[_State, frozenset[_State]], to: _State) -> tuple[str, ...]:
    """Return the states from which a move to `to` is allowed, for the guard of an UPDATE."""
    return tuple(sorted(state.value for state, targets in moves.items() if to in targets))


# After an attempt opened, it is asked about at these ages, then every six hours until its end.
_CHECK_AGES = (15, 60, 180, 600, 1800, 3600, 7200, 14_400)
_LAST_STEP_SECONDS = 21_600.0


def next_check_seconds(age_seconds: float) -> float:
    """Return the pause until the next question about an attempt that is still open at this age."""
    for age in _CHECK_AGES:
        if age > age_seconds + 1:
            return age - age_seconds
    return _LAST_STEP_SECONDS


# After an attempt ended without money, it is looked at again at these times after its end: providers close an order
# and have its money all the same.
_WATCH_AGES = (3600, 21_600, 86_400)


def next_watch_seconds(seconds_since_end: float) -> float | None:
    """Return the pause until the next look at an attempt that ended without money; None: its watch is over."""
    for age in _WATCH_AGES:
        if age > seconds_since_end + 1:
            return age - seconds_since_end
    return None


@dataclass(frozen=True, slots=True)
class PayDecision:
    """What pressing Pay leads to: `new`, `resume` (the open attempt's page), `wait`, or `refused` with the reason."""

    action: str
    reason: str = ""


def may_pay(
    *,
    link: LinkState,
    expires_at: datetime,
    now: datetime,
    open_attempt: AttemptState | None,
    attempt_expires_at: datetime | None,
    attempts_left: bool = True,
) -> PayDecision:
    """Decide what Pay does on a link, given its one open attempt if there is one."""
    if link is not LinkState.ACTIVE:
        return PayDecision("refused", link.value)
    if open_attempt is None:
        if now >= expires_at:
            return PayDecision("refused", "expired")
        return PayDecision("new") if attempts_left else PayDecision("refused", "exhausted")
    if open_attempt is AttemptState.OPEN:
        lapsed = attempt_expires_at is not None and now >= attempt_expires_at
        return PayDecision("wait") if lapsed else PayDecision("resume")
    return PayDecision("wait")


def session_life(link_expires_at: datetime, now: datetime, provider_life: timedelta) -> timedelta:
    """Return how long a new provider session may live: never longer than the link, never under a minute."""
    return max(min(provider_life, link_expires_at - now), timedelta(minutes=1))
