"""The simulators of real providers as the outside of a demo: which there are, and how one is opened and driven.

`cli/simulated_<name>.py` says what differs, as one `Simulator`. Each program was written from the provider's
documentation; none is the provider, and nobody compared them.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from sandbox.control import ProviderControl
from sandbox.launch import SimulatorProcess
from sandbox.visitors import Deed

CALLS_PER_SECOND = 50.0  # a demonstration has no night in which its scheduled checks could catch up


@dataclass(frozen=True, slots=True)
class Till:
    """One account of ours at the provider."""

    name: str
    number: str  # what it is called where only numbers are names
    silent: bool = False  # nobody tells us of anything
    holds: bool = False  # money is held first, and taken or let go by a person's command
    unlucky: bool = False  # the answer to its first order never comes


SHOP = Till("shop", "100000101")
SILENT = Till("silent", "100000102", silent=True)
HOLDS = Till("holds", "100000103", holds=True)
UNLUCKY = Till("unlucky", "100000104", unlucky=True)


@dataclass(frozen=True, slots=True)
class Place:
    """What is known when an account is opened there. `site`: the address of our own doors."""

    till: Till
    merchant: str  # what the simulator calls it
    secret: str  # the password or the key
    signing: str  # the secret of events
    site: str

    @property
    def door(self) -> str:
        """Where events of this account go; empty: nowhere."""
        return "" if self.till.silent else f"{self.site}/webhooks/{self.till.name}"


@dataclass(frozen=True, slots=True)
class Money:
    """What the provider says of an order's money, in minor units."""

    taken: int = 0
    given_back: int = 0
    held: int = 0


@dataclass(frozen=True, slots=True)
class Simulator:
    """What differs between the providers."""

    program: str  # sandbox.<program>; the adapter has the same name
    tills: tuple[Till, ...]
    opening: Callable[[Place], dict[str, Any]]  # the merchant's settings there
    account: Callable[[Place], dict[str, Any]]  # accounts.<till> of our settings: api_key, webhook_secrets, options
    money: Callable[[Mapping[str, Any]], Money]  # of an order in the simulator's dump
    forge: Callable[[str, Mapping[str, Any]], dict[str, Any]]  # arguments of a request that a liar sends to our door
    deeds: Mapping[str, Deed]  # what happens there without a browser; the words are those of cli/demo_stories.py
    path: str = ""  # of the base URL that the adapter takes
    create: str = ""  # the call that makes an order, in the words of its faults
    arguments: tuple[str, ...] = ()
    numbered: bool = False  # merchants are called by numbers
    pages: frozenset[str] = field(default_factory=frozenset)  # of ours, which only its customers see


def simulator(name: str) -> Simulator:
    """Return the one of `cli/simulated_<name>.py`."""
    found: Simulator = import_module(f"cli.simulated_{name}").SIMULATOR
    return found


class Simulation:
    """A simulator that runs, with our accounts opened at it."""

    def __init__(self, simulator: Simulator) -> None:
        """Describe it; `start` runs it."""
        self.simulator = simulator
        self.process = SimulatorProcess(simulator.program, arguments=simulator.arguments)
        self._places: dict[str, Place] = {}

    @property
    def control(self) -> ProviderControl:
        """The control client of the running simulator."""
        return self.process.control

    def start(self, site: str) -> None:
        """Run it and open the accounts; `site` is where our doors are going to be."""
        self.process.start()
        for till in self.simulator.tills:
            merchant = till.number if self.simulator.numbered else till.name
            secret, signing = f"sk_test_{secrets.token_hex(16)}", secrets.token_hex(16)
            place = self._places[till.name] = Place(till, merchant, secret, signing, site)
            self.control.configure(merchant, **self.simulator.opening(place))
            if till.unlucky:
                self.control.fault("timeout_after", account=merchant, operation=self.simulator.create, times=1)

    def stop(self) -> None:
        """End it."""
        self.process.stop()

    def accounts(self) -> dict[str, dict[str, Any]]:
        """Return our accounts there, as settings hold them."""
        common = {
            "adapter": self.simulator.program,
            "base_url": f"{self.process.base_url}{self.simulator.path}",
            "calls_per_second": CALLS_PER_SECOND,
        }
        return {name: common | self.simulator.account(place) for name, place in self._places.items()}

    def spared(self) -> list[str]:
        """Name the accounts whose bad luck never came, in sentences."""
        unlucky = [place for place in self._places.values() if place.till.unlucky]
        struck = {place.till.name: self.control.stats(place.merchant)["struck"] for place in unlucky}
        return [
            f"no answer of {name} was ever lost" for name, faults in struck.items() if "timeout_after" not in faults
        ]

    def merchant(self, till: str) -> str:
        """Return what the simulator calls an account of ours."""
        return self._places[till].merchant

    def orders(self, till: str) -> dict[str, dict[str, Any]]:
        """Return every order of an account by our reference, as the simulator dumps them."""
        return {str(order["reference"]): order for order in self.control.orders(self.merchant(till))}
