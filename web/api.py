"""The CRM's HTTP API.

    POST /v1/invoices                      send an invoice: `data` alone, or the whole CloudEvent
    GET  /v1/invoices/{crm}/{id}?type=     where it stands, its link, the last error
    POST /v1/commands/{name}               link.resend, link.cancel, ...: 200 done, 409 refused, 202 not yet
    GET  /v1/commands/{command_id}         what became of it

An API key (`Authorization: Bearer plk_live_...`) speaks for the CRMs that it is bound to. 202 comes only after the
commit. Every refusal is a problem document (RFC 9457) that names fields and remedies, and the request id for support;
a refused body is not kept, since its sender has the answer. The database is asked in threads, never on the event loop.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote, urlencode

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from contracts.base import Message
from contracts.catalog import routing_key
from contracts.commands import COMMANDS, Command
from contracts.envelope import MAX_BODY_BYTES, Problem
from contracts.messages import InvoiceCancelled, InvoiceCreated
from contracts.statuses import InvoiceStatus
from db import api_keys, command_status, invoice_status, invoices, links
from db.api_keys import ApiKey
from db.command_status import CommandStatus
from db.database import Trouble, trouble_of
from db.invoice_status import InvoiceStatusView
from db.tx import Cause, Record
from runtime.answers import answers, is_asked_for
from runtime.deps import Deps
from runtime.inbound import CONTENT_TYPES, Incoming
from runtime.intake import Taken, take
from web.requests import request_id_of

RETRY_AFTER_SECONDS = 5
_PAYABLE_TYPES = ("invoice", "deal", "order")
_IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,128}")
_COMMANDS: dict[str, type[Message]] = {routing_key(model.TYPE): model for model in COMMANDS}
# How long an answer waits for the worker that carries a command out.
COMMAND_SECONDS, COMMAND_PAUSE_SECONDS = 5.0, 0.1
_CODES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    500: "Internal Server Error",
    503: "Service Unavailable",
}

log = structlog.get_logger()

Handler = Callable[[Deps, Request], Awaitable[Response]]


def routes(deps: Deps) -> list[Route]:
    """Return the routes; they stand behind web.requests.RequestIds."""
    return [
        Route("/v1/invoices", _guarded(deps, _send_invoice), methods=["POST"]),
        # An id may hold slashes, as "2026/17" does.
        Route("/v1/invoices/{crm}/{invoice_id:path}", _guarded(deps, _show_invoice), methods=["GET"]),
        Route("/v1/commands/{name}", _guarded(deps, _send_command), methods=["POST"]),
        Route("/v1/commands/{command_id}", _guarded(deps, _show_command), methods=["GET"]),
    ]


class _Refusal(Exception):
    """An answer that says no."""

    def __init__(self, status: int, *problems: Problem, **headers: str) -> None:
        super().__init__(status)
        self.status = status
        self.problems = problems
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def _guarded(deps: Deps, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            return await handler(deps, request)
        except _Refusal as refusal:
            return _problem(request, refusal)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        except Exception as error:
            if trouble_of(error) not in (Trouble.OUTAGE, Trouble.BUSY):
                raise
            log.warning("api.unavailable", request_id=request_id_of(request.scope), error=type(error).__name__)
            return _problem(request, _away())

    return endpoint


def _away() -> _Refusal:
    problem = Problem("server", "nothing was stored; send the same request again later")
    return _Refusal(503, problem, Retry_After=str(RETRY_AFTER_SECONDS))


def _problem(request: Request, refusal: _Refusal) -> Response:
    document = {
        "type": "about:blank",
        "title": _CODES[refusal.status],
        "status": refusal.status,
        "detail": "; ".join(str(problem) for problem in refusal.problems),
        "errors": [{"field": one.field, "problem": one.problem} for one in refusal.problems],
        "request_id": request_id_of(request.scope),
    }
    return JSONResponse(
        document, status_code=refusal.status, headers=refusal.headers, media_type="application/problem+json"
    )


# --- sending --------------------------------------------------------------------------------------------------------


async def _send_invoice(deps: Deps, request: Request) -> Response:
    key = await _authenticate(deps, request)
    return _answer(await _take(deps, request, key, InvoiceCreated))


async def _take(
    deps: Deps, request: Request, key: ApiKey, bare: type[Message], *, only: type[Message] | None = None
) -> Taken:
    """Hand the body to intake; raise _Refusal for what it does not take."""
    content_type = _content_type(request)
    idempotency_key = _idempotency_key(request)
    incoming = Incoming(
        body=await _body(request),
        channel="http",
        sender=key.id,
        crms=key.crms,
        content_type=content_type,
        request_id=request_id_of(request.scope),
        traceparent=request.headers.get("traceparent"),
        idempotency_key=idempotency_key,
        bare=bare,
        only=only,
    )
    (taken,) = await run_in_threadpool(take, deps, [incoming])
    if taken.outcome == "rejected":
        raise _Refusal(403 if taken.forbidden else 400, *taken.problems)
    if taken.outcome == "conflict":
        raise _Refusal(409, *taken.problems)
    return taken


async def _authenticate(deps: Deps, request: Request) -> ApiKey:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret:
        remedy = "send Authorization: Bearer and an API key of paylinks keys create"
        raise _Refusal(401, Problem("Authorization", f"missing; {remedy}"), WWW_Authenticate="Bearer")
    key = await run_in_threadpool(_find_key, deps, secret.strip())
    if key is None:
        problem = Problem("Authorization", "no key that is valid here; compare it, or ask for a new one")
        raise _Refusal(401, problem, WWW_Authenticate='Bearer error="invalid_token"')
    return key


def _find_key(deps: Deps, secret: str) -> ApiKey | None:
    with deps.database.read() as tx:
        return api_keys.authenticate(tx, secret)


def _content_type(request: Request) -> str:
    given = request.headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() not in CONTENT_TYPES:
        problem = Problem("Content-Type", f"not one that is read here; send {' or '.join(CONTENT_TYPES)}")
        raise _Refusal(415, problem, Accept_Post=", ".join(CONTENT_TYPES))
    return given


def _idempotency_key(request: Request) -> str | None:
    given = request.headers.get("idempotency-key")
    if given is not None and not _IDEMPOTENCY_KEY.fullmatch(given):
        problem = "not 1 to 128 visible ASCII characters; send a UUID, the same for each repeat"
        raise _Refusal(400, Problem("Idempotency-Key", problem))
    return given


async def _body(request: Request) -> bytes:
    """Read the body, and no more of it than is allowed."""
    too_large = Problem("body", f"larger than {MAX_BODY_BYTES} bytes; send ids, not documents")
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > MAX_BODY_BYTES:
        raise _Refusal(413, too_large, Connection="close")
    read = bytearray()
    async for piece in request.stream():
        read += piece
        if len(read) > MAX_BODY_BYTES:
            raise _Refusal(413, too_large, Connection="close")
    return bytes(read)


def _answer(taken: Taken) -> Response:
    message = taken.message
    if not isinstance(message, InvoiceCreated | InvoiceCancelled | Command):
        raise TypeError(f"{type(message).__name__} has no place here")
    answer = {
        "status": taken.outcome,
        "message_id": taken.message_id,
        "request_id": taken.request_id,
        "invoice": _named(message.crm, message.invoice_id, message.type),
        "href": _href(message.crm, message.invoice_id, message.type),
    }
    if taken.first_state is not None:
        answer["first_state"] = taken.first_state
    return JSONResponse(answer, status_code=202)


def _named(crm: str, invoice_id: str, payable_type: str) -> dict[str, str]:
    return {"crm": crm, "id": invoice_id, "type": payable_type}


def _href(crm: str, invoice_id: str, payable_type: str) -> str:
    query = "" if payable_type == "invoice" else f"?{urlencode({'type': payable_type})}"
    return f"/v1/invoices/{crm}/{quote(invoice_id, safe='')}{query}"


# --- commands -------------------------------------------------------------------------------------------------------


async def _send_command(deps: Deps, request: Request) -> Response:
    key = await _authenticate(deps, request)
    model = _COMMANDS.get(request.path_params["name"])
    if model is None:
        raise _Refusal(404, Problem("command", f"unknown; use one of {', '.join(sorted(_COMMANDS))}"))
    taken = await _take(deps, request, key, model, only=model)
    assert taken.message_id is not None  # noqa: S101 - what was taken has an id
    status = await _outcome(deps, taken.message_id)
    return _told(status, await _orders(deps, status))


async def _show_command(deps: Deps, request: Request) -> Response:
    key = await _authenticate(deps, request)
    status = await run_in_threadpool(_command, deps, request.path_params["command_id"])
    if status is None or status.crm not in key.crms:
        raise _Refusal(404, Problem("command_id", "no command of this id was sent with a key of its CRM; compare it"))
    return _told(status, await _orders(deps, status, seconds=0.0))


async def _outcome(deps: Deps, command_id: str) -> CommandStatus:
    """Wait a while for the worker: a person waits for the answer."""
    until = time.monotonic() + COMMAND_SECONDS
    while True:
        status = await run_in_threadpool(_command, deps, command_id)
        if status is None:
            raise LookupError(f"no command {command_id}")
        if status.is_over or time.monotonic() > until:
            return status
        await asyncio.sleep(COMMAND_PAUSE_SECONDS)


async def _orders(deps: Deps, status: CommandStatus, seconds: float = COMMAND_SECONDS) -> dict[str, Any]:
    """Wait a while for what the providers say, where a command asks them; what is known by then stands beside ours."""
    if not is_asked_for(status):
        return {}
    until = time.monotonic() + seconds
    while True:
        orders, is_complete = await run_in_threadpool(answers, deps, status)
        if is_complete or time.monotonic() > until:
            return {"orders": [order.as_json() for order in orders], "is_complete": is_complete}
        await asyncio.sleep(COMMAND_PAUSE_SECONDS)


def _command(deps: Deps, command_id: str) -> CommandStatus | None:
    if "\x00" in command_id:
        return None
    with deps.database.read() as tx:
        return command_status.of(tx, command_id)


def _told(status: CommandStatus, orders: dict[str, Any]) -> Response:
    if status.state == "refused":
        raise _Refusal(409, Problem("command", status.detail or "refused"))
    if status.state not in ("done", "ready", "running"):
        raise _Refusal(500, Problem("command", f"{status.state}: support can try it again; name the request id"))
    answer: dict[str, Any] = {
        "status": "done" if status.state == "done" else "accepted",
        "detail": status.detail if status.state == "done" else "waits for a worker",
        "command": status.command,
        "command_id": status.message_id,
        "request_id": status.request_id,
        "invoice": _named(status.crm, status.invoice_id, status.type),
        "href": f"/v1/commands/{status.message_id}",
        "invoice_href": _href(status.crm, status.invoice_id, status.type),
        **orders,
    }
    return JSONResponse(answer, status_code=200 if status.state == "done" else 202)


# --- asking ---------------------------------------------------------------------------------------------------------


async def _show_invoice(deps: Deps, request: Request) -> Response:
    key = await _authenticate(deps, request)
    crm, invoice_id = request.path_params["crm"], request.path_params["invoice_id"]
    payable_type = request.query_params.get("type", "invoice")
    if payable_type not in _PAYABLE_TYPES:
        raise _Refusal(400, Problem("type", f"unknown; use one of {', '.join(_PAYABLE_TYPES)}"))
    # A stranger's invoice and none at all are the same answer.
    known = None
    if crm in key.crms and "\x00" not in invoice_id:
        known = await run_in_threadpool(_look_up, deps, crm, payable_type, invoice_id)
    if known is None:
        raise _Refusal(
            404, Problem("id", "no invoice of this name was sent with a key of this CRM; compare crm, id and type")
        )
    return JSONResponse({"crm": crm, "invoice_id": invoice_id, "type": payable_type, **known})


def _look_up(deps: Deps, crm: str, payable_type: str, invoice_id: str) -> dict[str, Any] | None:
    with deps.database.read() as tx:
        view = invoice_status.of(tx, crm, payable_type, invoice_id)
    if view is None:
        return None
    _note_sent(deps, view)
    return {
        **_invoice(view.invoice),
        "link": _link(deps, view.link),
        "last_error": _last_error(view),
        "request_id": view.request_id,
    }


def _note_sent(deps: Deps, view: InvoiceStatusView) -> None:
    """Note that the URL leaves us here, if it never did before: from then on the amount is out of our hands."""
    if view.link is not None and view.link.sent_at is None:
        with deps.database.begin(Cause.new(view.request_id)) as tx:
            links.note_sent(tx, view.link.id)


def _invoice(invoice: Record | None) -> dict[str, Any]:
    if invoice is None:
        # Accepted, and still on its way to its first stage.
        return {"status": InvoiceStatus.PENDING, "flags": [], "version": None, "revision": 0, "crm_revision": 0}
    return {
        "status": invoice.status,
        "flags": invoices.flags_of(invoice),
        "version": invoice.version,
        "kind": invoice.kind,
        "deal_id": invoice.deal_id,
        "amount_minor": invoice.amount_minor,
        "paid_minor": invoice.paid_minor,
        "refunded_minor": invoice.refunded_minor,
        "currency": invoice.currency,
        "paid_at": _time(invoice.paid_at),
        "provider": invoice.paid_account,
        "provider_reference": invoice.provider_reference,
        "proof": invoice.paid_proof,
        "fiscal_status": invoice.fiscal_status,
        "revision": invoice.revision,
        "crm_revision": invoice.crm_revision,
        "created_at": _time(invoice.created_at),
    }


def _link(deps: Deps, link: Record | None) -> dict[str, Any] | None:
    if link is None:
        return None
    try:
        url = deps.tokens.url(link.id, link.generation, link.key_id)
    except KeyError:
        url = None  # its key was taken out of the settings: nobody can make this URL any more
    return {"url": url, "state": link.state, "expires_at": _time(link.expires_at)}


def _last_error(view: InvoiceStatusView) -> dict[str, Any] | None:
    error = view.last_error
    if error is None:
        return None
    return {
        "source": error.source,
        "code": error.code,
        "detail": error.detail,
        "at": _time(error.at),
        "is_final": error.is_final,
    }


def _time(at: Any) -> str | None:
    return at.isoformat() if at is not None else None
