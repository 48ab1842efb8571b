"""`paylinks invoice`: send one in by hand, and read the whole story of one."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import exits
from cli.output import moment, put, put_json, put_table, say
from cli.workplace import Actor, Json, Reason, actor_or_user, open_deps, required_reason

if TYPE_CHECKING:
    from db.timeline import Story
    from runtime.intake import Taken

app = typer.Typer(help="Invoices: send them in, and see what became of one.", no_args_is_help=True)


@app.command()
def submit(
    file: Annotated[str, typer.Argument(help="JSON or JSON lines: CloudEvents or bare `data`; - reads stdin.")],
    actor: Actor = None,
    json_: Json = False,
) -> None:
    """Send invoices and cancellations in, as a CRM would; who calls this vouches for the CRM that they name."""
    from cli.submission import submitted

    with open_deps() as deps:
        taken = submitted(deps, file, actor_or_user(actor))
    if json_:
        put_json([_as_json(one) for one in taken])
    else:
        put_table(("OUTCOME", "SUBJECT", "REQUEST ID"), [(one.outcome, _subject(one), one.request_id) for one in taken])
    wrong = [one for one in taken if one.problems]
    for one in wrong:
        say(f"{one.outcome}: " + "; ".join(str(problem) for problem in one.problems))
    raise typer.Exit(exits.FAILED if wrong else exits.OK)


@app.command("give-up-attempt")
def give_up_attempt(
    attempt: Annotated[str, typer.Argument(metavar="ATTEMPT", help="The attempt, as the manager's task names it.")],
    actor: Actor = None,
    reason: Reason = "",
) -> None:
    """Close an attempt that may exist at a provider which nobody can ask, after a look there: Pay is free again."""
    from workers import decisions

    why = required_reason(reason)
    with open_deps() as deps:
        done = decisions.give_up_attempt(deps, attempt, actor=actor_or_user(actor), reason=why)
    if not done:
        say(f"{attempt} is no attempt with an unknown outcome; `paylinks invoice show {attempt}` tells what it is")
    raise typer.Exit(exits.OK if done else exits.FAILED)


@app.command()
def show(
    id_: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="Ours, the CRM's (or crm/id), a link's, attempt's, order's, message's, request's."
        ),
    ],
    json_: Json = False,
) -> None:
    """Tell everything that happened to an invoice, in the order of time. No token and nothing personal is shown."""
    from db import timeline

    with open_deps() as deps, deps.database.read() as tx:
        found = timeline.find(tx, id_)
        stories = [timeline.of(tx, invoice_id) for invoice_id in found]
    if not stories:
        say(f"nothing here is called {id_}")
        raise typer.Exit(exits.FAILED)
    if json_:
        put_json(
            [{"invoice": story.invoice, "entries": [_entry(entry) for entry in story.entries]} for story in stories]
        )
        return
    for story in stories:
        _print(story)


def _as_json(taken: "Taken") -> dict[str, Any]:
    return {
        "outcome": taken.outcome,
        "request_id": taken.request_id,
        "subject": _subject(taken),
        "message_id": taken.message_id,
        "first_state": taken.first_state,
        "problems": [{"field": one.field, "problem": one.problem} for one in taken.problems],
    }


def _subject(taken: "Taken") -> str | None:
    return taken.message.subject() if taken.message else None


def _entry(entry: Any) -> dict[str, Any]:
    return {
        "at": entry.at,
        "what": entry.what,
        "text": entry.text,
        "request_id": entry.request_id,
        "facts": entry.facts,
    }


def _print(story: "Story") -> None:
    from contracts.money import display

    head = story.invoice
    currency = head["currency"]
    flags = f" ({', '.join(head['flags'])})" if head["flags"] else ""
    put(f"{head['external_id']} of {head['crm']}: {head['status']}{flags}")
    put(f"  our id {head['id']}, {head['payable_type']}, version {head['version']}, deal {head['deal_id'] or '-'}")
    money = {name: display(head[f"{name}_minor"], currency) for name in ("amount", "paid", "refunded")}
    put(f"  asked {money['amount']}, paid {money['paid']}, given back {money['refunded']}")
    put(f"  {head['purpose']}; customer {head['customer'] or '-'}; manager {head['manager_id'] or '-'}")
    put(f"  revision {head['revision']}; the CRM has {head['crm_revision']}; request id {head['request_id']}")
    put()
    for entry in story.entries:
        request = f"  [{entry.request_id}]" if entry.request_id else ""
        put(f"{entry.what:10} {entry.text}{request}", mark=f"{moment(entry.at)}  ")
    put()
