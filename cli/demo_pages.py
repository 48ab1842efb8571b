"""What the demo shows beside the verdict table: pages that exist only on the way, or where something is wrong."""

from typing import Any

from cli.demo_cases import Case, Ending, Scene
from cli.stack import ACCOUNTS, CRMS
from contracts.evidence import OrderState
from rules.verdict_table import Case as Row
from rules.verdict_table import decide
from sandbox.control import ProviderControl

# A provider that lets the customer wait longer than Pay does, and takes a currency that no other account takes.
SLOW, SLOW_CURRENCY = "slow", "GEL"
SLOW_SECONDS = 9.6
FAMILIES = {**ACCOUNTS, SLOW: ("idempotent", "at_pay", SLOW_CURRENCY)}
ACCOUNT, CURRENCY = "bank", "AMD"
GUESSES = 70  # however two minutes share them, more than are allowed in one

# Pages that no deed of a demonstration leads to, and why.
UNREACHABLE = {
    "trouble": "only while the database is away",
    "handover": "only where the provider takes a form: make demo PROVIDER=idram",
}


def slow_down(provider: ProviderControl) -> None:
    """Let the slow provider make its first order at once, and answer late."""
    provider.fault("slow_after", account=SLOW, operation="create", times=1, seconds=SLOW_SECONDS)


def cases() -> list[Case]:
    """Return the cases; what takes longest comes first."""
    paid = Ending("paid", tasks=frozenset())
    failed = decide(Row("", order=OrderState.DECLINED))
    return [
        _case("SLOW", "the provider is slow", _waits, paid, account=SLOW, currency=SLOW_CURRENCY),
        _case("ASKS", "asks for a new link, and pays by it", _asks_for_a_link, paid),
        _case("ONCE", "declined, and may not try again", _tries_once, Ending(failed.status), policy={"attempts": 1}),
        _case("HELD", "the money is held, then captured", _held_then_captured, paid),
        _case("REST", "pays in two parts", _pays_the_rest, paid, policy={"partial": "collect"}),
        _case("BACK", "a manager gives the money back", _is_given_back, Ending("refunded", tasks=frozenset())),
        _case("LOOK", "a manager looks first", _is_looked_at, paid),
        _case("WILD", "guesses at links, and a foreign form", _strangers, Ending("pending", tasks=frozenset())),
        _case("GONE", "names an account that is closed", _nobody_takes_it, _UNROUTED, wanted="closed"),
    ]


_UNROUTED = Ending("pending", tasks=frozenset({"provider_refused"}))


def _case(
    number: str,
    what: str,
    act: Any,
    ending: Ending,
    *,
    account: str = ACCOUNT,
    currency: str = CURRENCY,
    policy: dict[str, Any] | None = None,
    wanted: str | None = None,
) -> Case:
    data: dict[str, Any] = {
        "crm": CRMS[0],
        "invoice_id": f"PAGE-{number}",
        "version": 1,
        "amount_minor": 1_250_000,
        "currency": currency,
        "purpose": what,
        "customer": {"name": "Ani", "email": "ani@example.am", "locale": "en"},
        "manager": {"id": "17", "name": "Karen Hakobyan"},
        "policy": policy or {},
    }
    return Case(data | ({"account": wanted} if wanted else {}), what, account, act, ending)


def _waits(scene: Scene) -> None:
    """Press Pay, wait on another page, and pay."""
    scene.customer.press_pay()
    scene.customer.saw("preparing")
    scene.customer.at_provider("pay")
    scene.customer.come_back()


def _asks_for_a_link(scene: Scene) -> None:
    """Come too late, ask the seller, get a new link and pay by that; the old page knows."""
    scene.end_link()
    scene.customer.wait_for("expired")
    scene.customer.press("ask")
    scene.office.wait_for_task("link_wanted")
    scene.office.command("link.reissue")
    old, scene.customer.link_url = scene.customer.link_url, scene.office.link_url()
    scene.customer.press_pay()
    scene.customer.at_provider("pay")
    scene.customer.wait_for("paid")
    scene.customer.link_url = old
    scene.customer.wait_for("paid_elsewhere")


def _tries_once(scene: Scene) -> None:
    scene.customer.press_pay()
    scene.customer.at_provider("decline", final=True)
    scene.customer.wait_for("exhausted")


def _held_then_captured(scene: Scene) -> None:
    scene.customer.press_pay()
    scene.customer.at_provider("hold")
    scene.customer.wait_for("review")
    scene.customer.at_provider("pay")
    scene.customer.wait_for("paid")


def _pays_the_rest(scene: Scene) -> None:
    """Pay a part, and the rest by the same link with another order."""
    scene.customer.press_pay()
    scene.customer.at_provider("pay", amount_minor=scene.customer.amount_minor // 2)
    scene.customer.wait_for("rest")
    scene.customer.press_pay()
    scene.customer.at_provider("pay")
    scene.customer.wait_for("paid")


def _is_given_back(scene: Scene) -> None:
    scene.customer.press_pay()
    scene.customer.at_provider("pay")
    scene.customer.wait_for("paid")
    scene.office.command("payment.refund")
    scene.customer.wait_for("refunded")


def _is_looked_at(scene: Scene) -> None:
    """Nobody pays while a person looks."""
    scene.office.command("invoice.review")
    scene.customer.wait_for("review")
    scene.office.command("invoice.resolve", case="marked_for_review")
    scene.customer.wait_for("ready")
    scene.customer.press_pay()
    scene.customer.at_provider("pay")
    scene.customer.come_back()


def _strangers(scene: Scene) -> None:
    """Guess at links until one is told to wait, open the true one all the same, and press Pay from another site.

    And come back from a provider without having left for it.
    """
    scene.customer.wait_for("not_found", path="x")
    for _ in range(GUESSES):
        scene.customer.look(path="x")
    scene.customer.press("pay", site="cross-site")
    scene.customer.come_back_as_a_stranger(ACCOUNT)
    scene.customer.saw("not_found", "too_many", "ready", "refused", "come_back")


def _nobody_takes_it(scene: Scene) -> None:
    """Press Pay where no account takes the money."""
    scene.customer.press("pay")
    scene.customer.saw("unavailable")
