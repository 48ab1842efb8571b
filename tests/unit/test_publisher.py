"""The publisher: a burst leaves at once, the rest is owed as one delivery, and an absent broker holds nobody up."""

from collections.abc import Iterator
from typing import Any

import pytest
from dramatiq import Message
from pydantic import SecretStr

from contracts.delivery import Delivery
from runtime.settings import LinkKey, Settings
from tests.services.processes import wait_until
from tests.support import DATA_KEY
from workers.publisher import BURST, WAITING_LIMIT, Publisher


class Broker:
    """Takes deliveries, or does not."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.is_away = False
        self.refused = 0

    def enqueue(self, message: Message[Any]) -> None:
        if self.is_away:
            self.refused += 1
            raise ConnectionError("away")
        self.taken.append(message.args[0]["id"])


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def publisher(broker: Broker) -> Iterator[Publisher]:
    settings = Settings(
        database_url="sqlite:///nowhere",
        data_keys=(SecretStr(DATA_KEY),),
        link_keys=(LinkKey(id="k1", secret=SecretStr("s" * 32)),),
        routing={},
    )
    made = Publisher(broker, settings, pause_seconds=0.01)  # type: ignore[arg-type]  # all that it calls of a broker is there
    made.start()
    yield made
    made.stop()


def deliveries(count: int, kind: str = "crm.update.v1") -> list[tuple[str, Delivery]]:
    return [
        ("crm-update", Delivery(id=f"{kind}-{number}", type=kind, key="k", subject="s", request_id="r"))
        for number in range(count)
    ]


def test_of_many_at_once_a_burst_leaves_and_the_newest_follows(broker: Broker, publisher: Publisher) -> None:
    publisher.publish(deliveries(40))

    assert wait_until(lambda: "crm.update.v1-39" in broker.taken, timeout_seconds=5)
    assert broker.taken[: int(BURST)] == [f"crm.update.v1-{number}" for number in range(int(BURST))]
    assert len(broker.taken) < 40, "what workers find by themselves needs no delivery of its own"


def test_kinds_do_not_wait_for_each_other(broker: Broker, publisher: Publisher) -> None:
    publisher.publish(deliveries(40) + deliveries(1, "crm.check.v1"))

    assert wait_until(lambda: "crm.check.v1-0" in broker.taken, timeout_seconds=5)


def test_a_broker_that_is_away_holds_nobody_up_and_is_used_again(broker: Broker, publisher: Publisher) -> None:
    broker.is_away = True
    for _ in range(WAITING_LIMIT * 2):
        publisher.publish(deliveries(3))
    assert publisher._waiting.qsize() <= WAITING_LIMIT
    assert wait_until(lambda: broker.refused > 3, timeout_seconds=5)

    broker.is_away = False

    def heard() -> bool:
        publisher.publish(deliveries(1, "crm.check.v1"))
        return "crm.check.v1-0" in broker.taken

    assert wait_until(heard, timeout_seconds=20)
