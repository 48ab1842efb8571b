"""A simulated Idram wallet for merchants: `python -m sandbox.idram --help`.

Written from "Idram Payment System merchant interface description" (edition of 16 October 2025, which Idram hands to
merchants; older editions are public, as https://www.slideshare.net/slideshow/228443396) and not from our adapter.
Nobody compared it with Idram.

POST /Payment/GetPayment                      the form that a customer's browser posts [2]
GET  /Payment/Pay/{key}, POST                 the page where he pays or gives up
then POST to the merchant's RESULT_URL        precheck [5 (a)], confirmation [5 (b)]; GET of SUCCESS_URL or FAIL_URL

PUT  /control/{account}                       open a merchant or change his settings (`Merchant`), the secret too
POST /control/{account}/orders/{bill}/act     submit, pay, decline, abandon, repeat, refund; {"fields": {...}} of a form
GET  /control/{account}/orders | stats        dump and exact counts
POST /control/{account}/faults, GET, DELETE   faults on demand (sandbox.faults)

There is no call to create, to look up, to cancel or to refund: none is documented. Not simulated: the iframe for bank
cards [4] and the mobile wallet [3], which end in the same two requests.

ASSUMED, as the document leaves it open:
    a form that is wrong is answered with a page and HTTP 400; a field with EDP_ that is not documented is wrong
    the same bill can be paid any number of times: only the merchant's precheck stops it
    the precheck repeats EDP_AMOUNT as the form had it; the confirmation's has two decimals (documented)
    one confirmation, never repeated; no answer counts like one that is not 2xx: the money stays
    a customer who gives up, and one whose payment was cancelled, goes to FAIL_URL
    the merchant's own fields come back in the query of SUCCESS_URL and FAIL_URL; nothing else does
    the transaction's date is that of Yerevan; the checksum is upper-case
    a refund at Idram's own desk is told to nobody
"""

import argparse
import contextlib
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from sandbox.idram_bills import Books, FormError, Merchant, Submission, Transaction, single
from sandbox.idram_calls import Caller
from sandbox.idram_page import back_url, error_page, page
from sandbox.program import options_of, run, secret
from sandbox.server import Refusal, json_body, raw_body, refused, reply, require_key

_ACTIONS = ("submit", "pay", "decline", "abandon", "repeat", "refund")
_WRONG_CENTS = 10_000  # what the fault wrong_amount adds
_NO_SUCH_FAULTS = frozenset({"wrong_currency", "reordered", "stale", "hint_only"})  # AMD alone; no time stamps


class Idram:
    """Idram's HTTP interface."""

    def __init__(self, *, control_key: str, public_url: str) -> None:
        """`public_url` is where customers reach the form and the page."""
        self._control_key = control_key
        self._public_url = public_url
        self._books: dict[str, Books] = {}
        self._caller: Caller | None = None

    def app(self) -> Starlette:
        """Return the ASGI application."""
        control = "/control/{account}"
        routes = [
            Route("/Payment/GetPayment", self.take_form, methods=["POST"]),
            Route("/Payment/Pay/{key}", self.show_page, methods=["GET"]),
            Route("/Payment/Pay/{key}", self.press_button, methods=["POST"]),
            Route(control, self.configure, methods=["PUT"]),
            Route(control + "/orders/{bill}/act", self.act, methods=["POST"]),
            Route(control + "/orders", self.dump, methods=["GET"]),
            Route(control + "/stats", self.stats, methods=["GET"]),
            Route(control + "/faults", self.faults, methods=["GET", "POST", "DELETE"]),
        ]
        return Starlette(routes=routes, exception_handlers={Refusal: refused}, lifespan=self._lifespan)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._caller = Caller()
        yield
        await self._caller.close()

    def open(self, merchant: Merchant) -> None:
        """Open a merchant, or change his settings."""
        known = self._books.setdefault(merchant.account, Books(merchant))
        known.merchant = merchant
        known.gate.latency_seconds = merchant.latency_ms / 1000

    async def take_form(self, request: Request) -> Response:
        """Take the form and send the browser to the page [2]."""
        if request.headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
            return error_page("not a form")
        try:
            text = (await raw_body(request)).decode("ascii")
            posted = single(parse_qsl(text, keep_blank_values=True, errors="strict"))  # [2]: utf-8
            books = self._receiver(posted)
        except UnicodeError:
            return error_page("not utf-8")
        except FormError as error:
            return error_page(str(error))

        def work() -> Response:
            try:
                return RedirectResponse(self._pay_url(books.submit(posted)), 303)
            except FormError as error:
                return error_page(str(error))

        return await books.gate.pass_through(request, "form", posted.get("EDP_BILL_NO"), work)

    def _receiver(self, posted: Mapping[str, str]) -> Books:
        books = self._books.get(posted.get("EDP_REC_ACCOUNT", ""))
        if books is None:
            raise FormError("EDP_REC_ACCOUNT: no such merchant")
        return books

    def _pay_url(self, submission: Submission) -> str:
        return f"{self._public_url}/Payment/Pay/{submission.key}"

    async def show_page(self, request: Request) -> Response:
        """Show the page; looking changes nothing."""
        return page(self._customers(request)[1])

    async def press_button(self, request: Request) -> Response:
        """Do what the customer pressed, then send him back to the merchant."""
        books, submission = self._customers(request)
        pressed = dict(parse_qsl((await raw_body(request)).decode("ascii", "replace"))).get("action", "")
        if submission.state == "open" and pressed == "pay":
            await self._pay(books, submission)
        elif submission.state == "open" and pressed in {"decline", "abandon"}:
            self._end(books, submission, "abandoned")
        if submission.back_url:
            return RedirectResponse(submission.back_url, 303, {"cache-control": "no-store"})
        return page(submission)

    def _customers(self, request: Request) -> tuple[Books, Submission]:
        for books in self._books.values():
            for one in books.submissions:
                if one.key == request.path_params["key"]:
                    return books, one
        raise Refusal(404, "not_found")

    async def _pay(self, books: Books, submission: Submission) -> None:
        """Ask, move the money, tell [5]. The page is left at once, so that one form is paid once."""
        if self._caller is None or submission.state != "open":
            raise FormError("this page was left")
        submission.state = "paying"
        if not await self._caller.precheck(books, submission):
            self._end(books, submission, "refused")
            return
        fault = books.faults.pick("confirm", submission.bill)
        wrong = (fault.name if fault else books.merchant.confirm) == "wrong_amount"
        made = Transaction(submission.bill, submission.cents + (_WRONG_CENTS if wrong else 0))
        books.transactions.append(made)
        await self._caller.confirm(books, made, fault)
        self._end(books, submission, "cancelled" if made.state == "cancelled" else "paid")

    def _end(self, books: Books, submission: Submission, state: str) -> None:
        submission.state = state
        base = books.merchant.success_url if state == "paid" else books.merchant.fail_url
        submission.back_url = back_url(base, submission) if base else ""

    async def configure(self, request: Request) -> Response:
        """Open a merchant, or change some of his settings."""
        require_key(request, self._control_key)
        account, body = request.path_params["account"], await json_body(request)
        unknown = set(body) - {one.name for one in fields(Merchant)}
        known = self._books.get(account)
        try:
            if unknown:
                raise FormError(f"{min(unknown)}: no such setting")
            self.open(replace(known.merchant, **body) if known else Merchant(**{**body, "account": account}))
        except (FormError, TypeError) as error:
            return reply(400, {"error": "invalid_request", "detail": str(error)})
        return reply(200, {"account": account})

    async def act(self, request: Request) -> Response:
        """Do one of `_ACTIONS` without a browser, and return all that is known of the bill."""
        books, body = self._controlled(request), await json_body(request)
        bill = request.path_params["bill"]
        try:
            await self._act(books, bill, str(body.get("action")), body)
        except FormError as error:
            return reply(409, {"error": "refused", "detail": str(error)})
        return reply(200, self._told(books, bill))

    async def _act(self, books: Books, bill: str, action: str, told: Mapping[str, Any]) -> None:
        if action not in _ACTIONS:
            raise FormError(f"action is one of {', '.join(_ACTIONS)}")
        if action == "repeat" and self._caller:  # by a person at Idram, after an outage of the merchant's
            await self._caller.confirm(books, books.completed(bill))
            return
        if action == "refund":  # in the merchant's cabinet
            made = books.completed(bill)
            made.refunded_cents += int(told.get("cents", made.cents - made.refunded_cents))
            return
        submission = self._form(books, bill, told)
        if action == "pay":
            await self._pay(books, submission)
        elif action != "submit":
            self._end(books, submission, "abandoned")

    def _form(self, books: Books, bill: str, told: Mapping[str, Any]) -> Submission:
        """Return the form that is acted on: a new one where `fields` are told, else the bill's newest."""
        given = told.get("fields")
        if given is None:
            return books.last(bill)
        posted = {str(name): str(value) for name, value in dict(given).items()}
        if posted.get("EDP_BILL_NO") != bill or posted.get("EDP_REC_ACCOUNT") != books.merchant.account:
            raise FormError("the form is of another bill or merchant")
        return books.submit(posted)

    def _told(self, books: Books, bill: str) -> dict[str, Any]:
        return books.bill(bill) | {"pay_url": self._pay_url(books.last(bill))}

    async def dump(self, request: Request) -> Response:
        """Return every bill with its newest page and all that is known of it."""
        books = self._controlled(request)
        return reply(200, {"orders": [self._told(books, bill) for bill in books.bills()], "alerts": books.alerts})

    async def stats(self, request: Request) -> Response:
        """Return exact counts: forms, prechecks, confirmations and forgeries of this merchant, faults that struck."""
        books = self._controlled(request)
        cancelled = sum(one.state == "cancelled" for one in books.transactions)
        return reply(
            200,
            {
                "calls": dict(books.gate.calls),
                "alerts": len(books.alerts),
                "transactions": len(books.transactions),
                "cancelled": cancelled,
                "struck": dict(books.faults.struck),
            },
        )

    async def faults(self, request: Request) -> Response:
        """Add a fault, list those that may still strike, or drop all."""
        books = self._controlled(request)
        if request.method == "DELETE":
            books.faults.clear()
        elif request.method == "POST":
            rule = await json_body(request)
            try:
                if rule.get("fault") in _NO_SUCH_FAULTS:
                    raise ValueError(f"fault: {rule['fault']} cannot be of Idram")
                books.faults.add(rule)
            except ValueError as error:
                return reply(400, {"error": "invalid_request", "detail": str(error)})
        return reply(200, {"faults": books.faults.rules()})

    def _controlled(self, request: Request) -> Books:
        require_key(request, self._control_key)
        books = self._books.get(request.path_params["account"])
        if books is None:
            raise Refusal(404, "unknown_account")
        return books


def main(argv: Sequence[str] | None = None) -> int:
    """Run Idram until a signal comes."""
    options = _options().parse_args(argv)

    def make(public_url: str) -> ASGIApp:
        idram = Idram(control_key=options.control_key, public_url=public_url)
        if options.secret:
            idram.open(
                Merchant(
                    account=options.account,
                    secret=options.secret,
                    result_url=options.result_url,
                    success_url=options.success_url,
                    fail_url=options.fail_url,
                )
            )
        return idram.app()

    return run("idram", options, make)


def _options() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = options_of("idram", "A simulated Idram wallet for merchants.", port=8805)
    add = parser.add_argument
    add("--account", default="100000114", help="the merchant's IdramID, EDP_REC_ACCOUNT")
    add("--secret", default=secret("API_KEY"), help="or SANDBOX_API_KEY: the merchant's SECRET_KEY")
    add("--result-url", default="", help="RESULT_URL: precheck and confirmation")
    add("--success-url", default="")
    add("--fail-url", default="")
    return parser


if __name__ == "__main__":
    sys.exit(main())
