"""What the code may use, built in one place and passed in.

`deps.running(claimed)` gives a stage its own copy, bound to the message that it holds; `deps.concluding(message)` is
the one transaction in which that message ends.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from contracts.base import Message
from db import message_store
from db.database import Database
from db.message_store import Claimed
from db.tx import Cause, Tx
from gateways.crms.base import Crm
from gateways.providers.base import Provider
from runtime import points
from runtime.settings import Settings
from runtime.tokens import LinkTokens


class EventPublisher(Protocol):
    """Puts one event on the outbound exchange and returns when the broker has confirmed it."""

    def publish(self, routing_key: str, body: bytes, *, message_id: str) -> None:
        """Raise Unavailable when the broker is not there or does not confirm."""


@dataclass(frozen=True, slots=True)
class Deps:
    """The dependencies of stages and doors."""

    settings: Settings
    database: Database
    tokens: LinkTokens
    providers: Mapping[str, Provider]
    crms: Mapping[str, Crm]
    events: EventPublisher | None = None
    claimed: Claimed | None = None
    ended: list[str] = field(default_factory=list)  # the outcome, once `concluding` has committed it

    def running(self, claimed: Claimed) -> "Deps":
        """Bind to the message that a worker holds."""
        return dataclasses.replace(self, claimed=claimed, ended=[])

    @property
    def claim(self) -> Claimed:
        """The message being worked on; only inside a stage."""
        if self.claimed is None:
            raise RuntimeError("no message is claimed here: stages only")
        return self.claimed

    def begin(self) -> AbstractContextManager[Tx]:
        """Open a transaction whose messages name the current one as their cause."""
        if self.claimed is None:
            return self.database.begin()
        return self.database.begin(_cause_of(self.claimed))

    @contextmanager
    def concluding(
        self,
        message: Message,
        *,
        outcome: str = "done",
        detail: str | None = None,
        provider_request_id: str | None = None,
        subject: str | None = None,
    ) -> Iterator[Tx]:
        """Open the last transaction of a message: effects, follow-ups, history and attempt commit together.

        Raises ClaimLost, and rolls everything back, when somebody else holds the message by now.
        """
        with self.database.begin(_cause_of(self.claim)) as tx:
            yield tx
            message_store.finish(
                tx, self.claim, outcome, detail=detail, provider_request_id=provider_request_id, subject=subject
            )
            points.reach(f"{self.claim.queue}.{points.CONCLUDING}")
        self.ended.append(outcome)
        points.reach(f"{self.claim.queue}.{points.CONCLUDED}")


def _cause_of(claimed: Claimed) -> Cause:
    return Cause(
        request_id=claimed.request_id,
        correlation=claimed.correlation,
        causation=claimed.id,
        traceparent=claimed.traceparent,
    )
