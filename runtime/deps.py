"""What the code may use, built in one place and passed in.

`deps.running(claimed)` gives a stage its own copy, bound to the message that it holds; `deps.concluding(message)` is
the one transaction in which that message ends.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

from contracts.base import Message
from db import message_store
from db.database import Database
from db.message_store import Claimed, Ending
from db.tx import Cause, Tx
from gateways.crms.base import Crm
from gateways.fiscal.base import FiscalDevice
from gateways.providers.base import Provider
from runtime import points
from runtime.gates import Gate
from runtime.settings import Settings
from runtime.tokens import LinkTokens


class EventPublisher(Protocol):
    """Puts one event on the outbound exchange and returns when the broker has confirmed it."""

    def publish(self, routing_key: str, body: bytes, *, message_id: str) -> None:
        """Raise Unavailable when the broker is not there or does not confirm."""


class RunsAlone(Exception):
    """This run calls the outside: it must not hold a transaction that others share."""


@dataclass(frozen=True, slots=True)
class Together:
    """One transaction in which several messages end: their stages work on our own database alone."""

    tx: Tx
    endings: list[Ending] = field(default_factory=list)


@dataclass(slots=True)
class Conclusion:
    """How a message ends."""

    outcome: str = "done"
    detail: str | None = None
    provider_request_id: str | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class Deps:
    """The dependencies of stages and doors."""

    settings: Settings
    database: Database
    tokens: LinkTokens
    providers: Mapping[str, Provider]
    crms: Mapping[str, Crm]
    events: EventPublisher | None = None
    fiscal: Mapping[str, FiscalDevice] = field(default_factory=dict)
    gates: Mapping[str, Gate] = field(default_factory=dict)
    claimed: Claimed | None = None
    ended: list[str] = field(default_factory=list)  # the outcome, once `concluding` is through
    together: Together | None = None

    def running(self, claimed: Claimed, together: Together | None = None) -> "Deps":
        """Bind to the message that a worker holds, and to the transaction that it shares with others, if any."""
        return dataclasses.replace(self, claimed=claimed, ended=[], together=together)

    @property
    def claim(self) -> Claimed:
        """The message being worked on; only inside a stage."""
        if self.claimed is None:
            raise RuntimeError("no message is claimed here: stages only")
        return self.claimed

    def begin(self) -> AbstractContextManager[Tx]:
        """Open a transaction whose messages name the current one as their cause; or go on with the shared one."""
        if self.claimed is None:
            return self.database.begin()
        cause = _cause_of(self.claimed)
        if self.together is None:
            return self.database.begin(cause)
        self.together.tx.cause = cause
        return nullcontext(self.together.tx)

    def read(self) -> AbstractContextManager[Tx]:
        """Open a transaction that only looks, and waits for no writer; or go on with the shared one."""
        return self.database.read() if self.together is None else nullcontext(self.together.tx)

    def alone(self) -> None:
        """Say, in a quick stage, that what follows needs a transaction of its own. Raises RunsAlone among others."""
        if self.together is not None:
            raise RunsAlone

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

        Raises ClaimLost, and rolls everything back, when somebody else holds the message by now. Where messages share
        a transaction, all this happens at its end.
        """
        with self.deciding(message) as (tx, conclusion):
            yield tx
            conclusion.outcome, conclusion.detail = outcome, detail
            conclusion.provider_request_id, conclusion.subject = provider_request_id, subject

    @contextmanager
    def deciding(self, message: Message) -> Iterator[tuple[Tx, "Conclusion"]]:
        """Open the last transaction of a message whose outcome is known only inside: it is written into the second."""
        conclusion = Conclusion()
        with self.begin() as tx:
            yield tx, conclusion
            self.end(
                tx,
                Ending(
                    self.claim,
                    conclusion.outcome,
                    conclusion.detail,
                    conclusion.provider_request_id,
                    conclusion.subject,
                ),
            )
        self.ended.append(conclusion.outcome)
        if self.together is None:
            points.reach(f"{self.claim.queue}.{points.CONCLUDED}")

    def end(self, tx: Tx, ending: Ending) -> None:
        """End the message in this transaction, or note how it ends with the shared one."""
        if self.together is not None:
            self.together.endings.append(ending)
        else:
            message_store.finish(tx, ending)
            points.reach(f"{ending.claimed.queue}.{points.CONCLUDING}")


def _cause_of(claimed: Claimed) -> Cause:
    return Cause(
        request_id=claimed.request_id,
        correlation=claimed.correlation,
        causation=claimed.id,
        traceparent=claimed.traceparent,
    )
