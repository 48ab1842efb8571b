"""A simulated Ameriabank vPOS 3.1: `python -m sandbox.ameriabank --help`.

Written from the bank's "AmeriaBank vPOS 3.1 API Protocol Description" [doc] and from what others observed at its test
host [obs n: section n of https://github.com/davit-vardanyan/ameriabank-vpos-php/blob/main/CONVENTIONS.md, August 2026;
fields of requests and answers: docs/api-reference/reference.md there], and not from our adapter. It is not the bank's
gateway: nobody compared it with that.

POST /VPOS/api/VPOS/{InitPayment,GetPaymentDetails,ConfirmPayment,CancelPayment,RefundPayment,GetPaymentId,
                     GetPendingTransactions}                          JSON
GET  /VPOS/Payments/Pay?id=&lang=                                     the page where the customer pays
POST /Admin/webservice/TransactionsInformationService.svc             SOAP 1.1: GetTransactionList

PUT  /control/{username}                          open a merchant or change his settings (`Merchant`)
POST /control/{username}/orders/{OrderID}/act     do what a customer, his bank or the time does (`ACTIONS`)
GET  /control/{username}/orders | stats           dump and exact counts
POST /control/{username}/faults, GET, DELETE      faults on demand (sandbox.faults)

The bank tells nobody of a payment: there is no webhook, only the browser's unsigned return. Not here: bindings,
SSNCheck, XML instead of JSON, the payment page's `type`, GetProblemTransactions, the WSDL.

ASSUMED, as neither the document nor the observations tell:
    codes of refusals, but for 20, 07, 550 and 560, which were seen: 04 a parameter is missing, 03 a currency, 50 an
        amount, 510 an OrderID out of range, 06 nothing is known, 520 too late, 513 and 514 not allowed, 0125 nothing to
        refund; InitPayment writes them as numbers, so 08204 is 8204
    an unknown PaymentID is 550 to GetPaymentDetails, like a wrong password, and 06 elsewhere; a wrong password is 20
        to Confirm-, Cancel- and RefundPayment
    an OrderID is a 32-bit number; what the platform cannot read is HTTP 500 {"Message": ...}, another media type 415
    a Timeout that the document forbids counts as 1200; a repeated InitPayment begins a new session while nobody tried
        to pay, and changes nothing afterwards
    a session that ended untried is 0-2007 with status 6 (`expired` says otherwise); a declined try is status 6 with its
        code and may be followed by others, three in all (`tries_allowed`); a try under way is 0-9000 with status 5
    each failed try sends the browser back; nobody who only closes the page is sent anywhere
    ConfirmPayment may deposit less, once, and lets the rest go; ApprovedAmount stays after it and after a reversal
    all times are those of Yerevan; texts that are not Latin come back as U+00BF, as Armenian ones do
    PrimaryRC and ActionCode are the two halves of a code of Table 1; Opaque comes back unchanged
    GetPendingTransactions and GetTransactionList list by the time of the last try; see sandbox.ameriabank_reports; a
        wrong password is a SOAP fault there
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from sandbox import ameriabank_calls as calls
from sandbox import ameriabank_payments as payments
from sandbox import ameriabank_reports as reports
from sandbox.ameriabank_acts import ACTIONS
from sandbox.ameriabank_merchants import (
    CHOICES,
    CLIENT_ID,
    OPERATIONS,
    REPORT,
    Books,
    Merchant,
    ServerFault,
    text,
)
from sandbox.ameriabank_page import back_url, page
from sandbox.ameriabank_payments import Payment, Refused
from sandbox.program import options_of, run, secret
from sandbox.server import (
    Refusal,
    answer_faults,
    json_body,
    raw_body,
    refused,
    reply,
    require_key,
)


class AmeriabankGateway:
    """The gateway's HTTP interface."""

    def __init__(self, *, control_key: str, public_url: str) -> None:
        """`public_url` is where customers reach the page."""
        self._control_key = control_key
        self._public_url = public_url
        self._books: dict[str, Books] = {}

    def app(self) -> Starlette:
        """Return the ASGI application."""
        control = "/control/{username}"
        routes = [
            Route("/VPOS/api/VPOS/{operation}", self.call, methods=["POST"]),
            Route("/VPOS/Payments/Pay", self.show_page, methods=["GET"]),
            Route("/VPOS/Payments/Pay", self.press_button, methods=["POST"]),
            Route("/Admin/webservice/TransactionsInformationService.svc", self.report, methods=["POST"]),
            Route(control, self.configure, methods=["PUT"]),
            Route(control + "/orders/{number}/act", self.act, methods=["POST"]),
            Route(control + "/orders", self.dump, methods=["GET"]),
            Route(control + "/stats", self.stats, methods=["GET"]),
            Route(control + "/faults", self.faults, methods=["GET", "POST", "DELETE"]),
        ]
        return Starlette(routes=routes, exception_handlers={Refusal: refused})

    def open(self, merchant: Merchant) -> None:
        """Open a merchant, or change his settings."""
        known = self._books.get(merchant.username)
        if known is None:
            self._books[merchant.username] = Books(merchant)
        else:
            known.merchant = merchant
            known.gate.latency_seconds = merchant.latency_ms / 1000

    async def call(self, request: Request) -> Response:
        """Carry out one call of a merchant. HTTP 200 whatever comes of it [obs 4.1], but for the fault page [4.2]."""
        operation = request.path_params["operation"]
        if operation not in OPERATIONS:
            return reply(404, {"Message": "No HTTP resource was found that matches the request URI."})
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return reply(415, {"Message": "The request entity's media type is not supported for this resource."})
        try:
            told = json.loads(await raw_body(request))
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict):
            return _fault_page()
        books, payment = self._meant(operation, told)
        if books is None:
            return reply(200, calls.not_let_in(operation))
        number = told.get("OrderID") if payment is None else payment.order_id

        def work() -> Response:
            try:
                return reply(200, calls.carry_out(operation, books, payment, told))
            except ServerFault:
                return _fault_page()
            except Refused as error:
                return reply(200, calls.refusal(operation, error, payment))

        answer = await books.gate.pass_through(request, operation, None if number is None else str(number), work)
        return _fault_page() if answer.status_code == 500 and books.merchant.every_500_alike else answer

    def _meant(self, operation: str, told: Mapping[str, Any]) -> tuple[Books | None, Payment | None]:
        """Return whose call this is: by the PaymentID, or else by the Username."""
        if operation not in calls.BY_CLIENT:
            for books in self._books.values():
                payment = books.find(text(told.get("PaymentID")))
                if payment is not None:
                    return books, payment
        return self._books.get(text(told.get("Username"))), None

    async def report(self, request: Request) -> Response:
        """Answer GetTransactionList [doc; obs 4.11]."""
        if request.headers.get("content-type", "").partition(";")[0].strip() != "text/xml":
            return Response(status_code=415)  # SOAP 1.1 only
        if request.headers.get("soapaction", "").strip('"') != reports.ACTION:
            return reports.soap_fault("a:ActionNotSupported", "The message cannot be processed at the receiver.")
        try:
            told = reports.read_request(await raw_body(request))
        except ValueError:
            return Response(status_code=400)
        books = self._books.get(told.get("Username", ""))
        if books is None:
            return reports.soap_fault("s:Client", calls.WRONG_PASSWORD)

        def work() -> Response:
            if not books.knows(told, client=True):
                return reports.soap_fault("s:Client", calls.WRONG_PASSWORD)
            try:
                return reports.listed(books.payments.values(), told)
            except ServerFault:
                return reports.soap_fault("a:InternalServiceFault", "String was not recognized as a valid DateTime.")

        return await books.gate.pass_through(request, REPORT, None, work)

    async def show_page(self, request: Request) -> Response:
        """Show the page; looking changes nothing."""
        books, payment = self._customers(request)
        if books.merchant.page_broken and payment.back_url:
            return RedirectResponse(back_url(payment, broken=True), 302, {"cache-control": "no-store"})
        return page(payment, request.query_params.get("lang", "en"))

    async def press_button(self, request: Request) -> Response:
        """Do what the customer pressed, then send him back to the merchant."""
        _, payment = self._customers(request)
        form = parse_qs((await raw_body(request)).decode("ascii", "replace"))
        action = form.get("action", [""])[0]
        if action not in {"pay", "decline"} or not payment.is_payable:
            return page(payment, request.query_params.get("lang", "en"))
        ACTIONS[action](payment, {"code": form["code"][0]} if "code" in form else {})
        if not payment.back_url:  # it is not required [doc InitPayment]
            return page(payment, request.query_params.get("lang", "en"))
        return RedirectResponse(back_url(payment), 303, {"cache-control": "no-store"})

    def _customers(self, request: Request) -> tuple[Books, Payment]:
        for books in self._books.values():
            payment = books.find(request.query_params.get("id", ""))
            if payment is not None:
                return books, payment
        raise Refusal(404, "not_found")

    async def configure(self, request: Request) -> Response:
        """Open a merchant, or change some of his settings."""
        require_key(request, self._control_key)
        username, body = request.path_params["username"], await json_body(request)
        for name, value in body.items():
            if name not in {one.name for one in fields(Merchant)}:
                return reply(400, {"error": "invalid_request", "detail": f"{name}: no such setting"})
            if value not in CHOICES.get(name, [value]):
                return reply(400, {"error": "invalid_request", "detail": f"{name}: {', '.join(sorted(CHOICES[name]))}"})
        known = self._books.get(username)
        self.open(replace(known.merchant, **body) if known else Merchant(**{**body, "username": username}))
        return reply(200, {"username": username, "client_id": self._books[username].merchant.client_id})

    async def act(self, request: Request) -> Response:
        """Do one of `ACTIONS` without a browser."""
        books, body = self._controlled(request), await json_body(request)
        number, action = request.path_params["number"], str(body.get("action"))
        payment = books.payments.get(int(number) if number.isdecimal() else -1)
        if payment is None:
            return reply(409, {"error": "06", "detail": "no such OrderID"})
        if action not in ACTIONS:
            return reply(409, {"error": "unknown", "detail": f"action is one of {', '.join(sorted(ACTIONS))}"})
        payments.lapse(payment)
        try:
            ACTIONS[action](payment, body)
        except Refused as error:
            return reply(409, {"error": error.code, "detail": error.message})
        return reply(200, self._dumped(payment))

    def _dumped(self, payment: Payment) -> dict[str, Any]:
        url = f"{self._public_url}/VPOS/Payments/Pay?id={payment.id.upper()}&lang=en"
        return asdict(payment) | {"reference": str(payment.order_id), "pay_url": url}

    async def dump(self, request: Request) -> Response:
        """Return every payment with its page and all that is known of it."""
        books = self._controlled(request)
        return reply(200, {"orders": [self._dumped(one) for one in books.payments.values()]})

    async def stats(self, request: Request) -> Response:
        """Return exact counts: calls by operation, faults that struck."""
        books = self._controlled(request)
        return reply(200, {"calls": dict(books.gate.calls), "struck": dict(books.faults.struck)})

    async def faults(self, request: Request) -> Response:
        """Add a fault, list those that may still strike, or drop all."""
        return await answer_faults(request, self._controlled(request).faults)

    def _controlled(self, request: Request) -> Books:
        require_key(request, self._control_key)
        books = self._books.get(request.path_params["username"])
        if books is None:
            raise Refusal(404, "unknown_username")
        return books


def _fault_page() -> Response:
    return reply(500, {"Message": "An error has occurred."})  # [obs 4.2]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the gateway until a signal comes."""
    options = _options().parse_args(argv)

    def make(public_url: str) -> ASGIApp:
        gateway = AmeriabankGateway(control_key=options.control_key, public_url=public_url)
        if options.password:
            gateway.open(
                Merchant(
                    username=options.username,
                    password=options.password,
                    client_id=options.client_id,
                    two_phase=options.two_phase,
                )
            )
        return gateway.app()

    return run("ameriabank", options, make)


def _options() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = options_of("ameriabank", "A simulated Ameriabank vPOS 3.1.", port=8804)
    add = parser.add_argument
    add("--username", default="shop", help="the merchant's")
    add("--client-id", default=CLIENT_ID, help="the merchant's")
    add("--password", default=secret("API_KEY"), help="or SANDBOX_API_KEY")
    add("--two-phase", action="store_true", help="payments are held first, and confirmed by a call")
    return parser


if __name__ == "__main__":
    sys.exit(main())
