"""`paylinks privacy`: tell a person what is held about him, erase it, and change the key that it is encrypted with."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import exits
from cli.output import put, put_json, say
from cli.workplace import Actor, Json, Reason, actor_or_user, open_deps, required_reason

if TYPE_CHECKING:
    from db.privacy import Held, InFlight
    from runtime.deps import Deps

app = typer.Typer(help="A person's data: export it, erase it, encrypt it anew.", no_args_is_help=True)

Customer = Annotated[
    str,
    typer.Argument(
        metavar="CUSTOMER",
        help="An e-mail address, a telephone number with its country's code, or an invoice as `invoice show` takes it: "
        "then its customer, with all that his address and number lead to.",
    ),
]

# What no command here can erase, and where it goes instead.
STAYS = (
    "the purpose of an invoice, and reasons that people wrote: nothing personal belongs there",
    "masked recipients (a***@e***.am) in the audit trail, which nobody changes",
    "digests of what came, by which a repeat is known",
    "the CRM's own record and its tasks: erase there",
    "the provider's records of the payment: ask the provider",
    "backups and replicas of the database, until they are replaced",
    "what still lies in RabbitMQ: not yet taken by intake, or dead-lettered there",
)
COMES_BACK = "a later version of the invoice, or a later event of the provider, brings data again: erase there first"
NOT_HERE = (*STAYS[3:], "logs: nothing personal is written there")


@app.command()
def export(customer: Customer, actor: Actor = None, reason: Reason = "") -> None:
    """Write everything that is held about a person as JSON to stdout; that it was asked for is written down.

    Personal fields are encrypted, and no index leads to them: every one is opened, so the time grows with the database.
    """
    from db import privacy

    with open_deps() as deps:
        held, why = _found(deps, customer, reason)
        secrets = [
            secret.get_secret_value()
            for account in deps.settings.accounts.values()
            for secret in (account.api_key, *account.webhook_secrets)
        ]
        told = privacy.tell(deps.database, held, actor=actor_or_user(actor), reason=why, secrets=secrets)
    put_json({"asked_for": customer} | told | {"not_held_here": NOT_HERE, "unopened": held.unopened})
    raise typer.Exit(_code(held))


@app.command()
def erase(
    customer: Customer,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    actor: Actor = None,
    reason: Reason = "",
    json_: Json = False,
) -> None:
    """Erase a person's fields for good; amounts, payments, statuses and the audit trail stay, and links still work.

    Refused while a message that needs the data is on its way. A second time nothing is found: exit code 1. Personal
    fields are encrypted, and no index leads to them: every one is opened, so the time grows with the database.
    """
    from db import privacy

    with open_deps() as deps:
        held, why = _found(deps, customer, reason)
        if not held.is_personal:
            say(f"nothing personal of {customer} is left")
            raise typer.Exit(exits.FAILED)
        _announce(held)
        if not yes and not typer.confirm("Erase this for good?", err=True):
            say("nothing was erased")
            raise typer.Exit(exits.FAILED)
        try:
            erased = privacy.erase(deps.database, held, actor=actor_or_user(actor), reason=why)
        except privacy.InFlight as error:
            _refuse(error)
            raise typer.Exit(exits.FAILED) from None
    _tell(held, erased, json_=json_)
    if erased["invoices"] < held.counts()["invoices"]:
        say("some invoices got a new version meanwhile, which is kept: look, and erase again")
        raise typer.Exit(exits.FAILED)
    raise typer.Exit(_code(held))


@app.command()
def reseal(json_: Json = False) -> None:
    """Encrypt everything again under the newest data key; afterwards the older ones may be taken out of `data_keys`.

    First put the new key in front of `data_keys` and restart every process. May be stopped and begun again at any time.
    """
    from db import resealing

    with open_deps() as deps:
        done = resealing.reseal(deps.database)
    if json_:
        put_json({"resealed": dict(done.counts), "unopened": done.unopened})
    else:
        put(f"{done.counts.total()} values are sealed under the newest key now")
    if done.unopened:
        say(f"{done.unopened} values open with no configured key: put the key that sealed them back into data_keys")
    raise typer.Exit(exits.FINDINGS if done.unopened else exits.OK)


def _found(deps: "Deps", customer: str, reason: str) -> tuple["Held", str]:
    """Find what is held; end the command where that is nothing."""
    from db import privacy

    why = required_reason(reason)
    try:
        held = privacy.find(deps.database, customer)
    except privacy.Unclear as error:
        say(f"{customer} {error}")
        raise typer.Exit(exits.FAILED) from None
    if held.person.is_in(why):
        raise typer.BadParameter("it stays in the audit trail: leave the address out", param_hint="--reason")
    if not held.invoices and not held.is_personal:
        say(f"nothing is held about {customer}")
        _code(held)
        raise typer.Exit(exits.FAILED)
    return held, why


def _code(held: "Held") -> int:
    if held.unopened:
        say(f"{held.unopened} sealed parts open with no configured key: whose they are nobody can tell; see data_keys")
    return exits.FINDINGS if held.unopened else exits.OK


def _announce(held: "Held") -> None:
    names = sorted(held.names.values())
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    counts = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in held.counts().items())
    say(f"personal fields of {counts}")
    if names:
        say(f"invoices: {shown}")
    waiting = [row.id for row in held.rejected if row.state == "open"]
    if waiting:
        say(f"kept bodies that nobody replayed yet, and that are discarded with this: {', '.join(waiting)}")


def _refuse(error: "InFlight") -> None:
    say("nothing was erased: work that still needs the data is on its way")
    for row in error.live:
        remedy = (
            f"`paylinks dead retry {row.id}` or `paylinks dead discard {row.id}`, with --reason, then erase again"
            if row.state == "dead"
            else "wait until it is done (seconds, minutes after failures), then erase again"
        )
        say(f"  {row.type} {row.id} is {row.state}: {remedy}")


def _tell(held: "Held", erased: dict[str, int], *, json_: bool) -> None:
    if json_:
        told: dict[str, Any] = {"erased": erased, "invoices": sorted(held.invoices), "unopened": held.unopened}
        put_json(told | {"stays": STAYS, "comes_back": COMES_BACK})
        return
    put("erased: " + ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in erased.items()))
    put("not erased:")
    for one in STAYS:
        put(f"  {one}")
    put(COMES_BACK)
