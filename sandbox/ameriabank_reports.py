"""What the simulated Ameriabank vPOS tells of many payments: GetPendingTransactions, and SOAP's GetTransactionList.

[doc] and [obs n] are explained in sandbox.ameriabank_payments.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from starlette.responses import Response

from sandbox.ameriabank_merchants import REPORT, ServerFault
from sandbox.ameriabank_payments import (
    AUTOAUTHORIZED,
    DECLINED,
    MESSAGES,
    OK,
    PLANTED,
    YEREVAN,
    Payment,
    major,
    stored,
    written,
)

_SERVICE = "http://payments.ameriabank.am/ITransactionsInformationService"
ACTION = f"{_SERVICE}/ITransactionsInformationService/{REPORT}"
_CLIENT = "{payments.ameriabank.am/TransactionClient}"
_FIELDS = "payments.ameriabank.am/TransactionFields"  # no scheme [obs 4.11]
_NAMES = ("ClientID", "EndDate", "Password", "StartDate", "Username")


def pending(payments: Iterable[Payment], told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return GetPendingTransactions' rows, without an envelope [obs 13: declared, and never called by anybody].

    ASSUMED: tries that failed or are under way, by the time of the try; ISO 8601 in both directions.
    """
    since, until = _iso(told.get("StartDate")), _iso(told.get("EndDate"))
    return [
        {
            "OrderId": one.order_id,
            "ClientName": PLANTED["ClientName"],
            "CardNumber": PLANTED["CardNumber"],
            "Amount": major(one.amount),
            "PaymentDate": written(one.tried_at, "%Y-%m-%dT%H:%M:%S"),
            "ErrorMessage": MESSAGES.get(one.code, ""),
        }
        for one in payments
        if one.attempted and one.status in {DECLINED, AUTOAUTHORIZED} and since <= one.tried_at < until
    ]


def _iso(value: Any) -> float:
    try:
        return datetime.fromisoformat(str(value)).replace(tzinfo=YEREVAN).timestamp()
    except ValueError:
        raise ServerFault from None


def read_request(body: bytes) -> dict[str, str]:
    """Read GetTransactionList's `transclient`; ValueError: this is none, or has the header that the host refuses.

    ASSUMED, as such a host's serialiser does: members out of alphabetical order are passed over.
    """
    if b"<!DOCTYPE" in body:
        raise ValueError("a document type")
    try:
        root = ElementTree.fromstring(body)  # noqa: S314  # without a document type there is nothing to expand
    except ElementTree.ParseError:
        raise ValueError("not XML") from None
    if next(root.iter("{http://schemas.microsoft.com/ws/2005/05/addressing/none}Action"), None) is not None:
        raise ValueError("Action must not be understood")  # [obs 4.11]: the document's own header is refused
    client = next(root.iter(f"{{{_SERVICE}}}transclient"), None)
    if client is None:
        raise ValueError("no transclient")
    told: dict[str, str] = {}
    for member in client:
        name = member.tag.removeprefix(_CLIENT)
        if name in _NAMES and all(name > earlier for earlier in told):
            told[name] = member.text or ""
    return told


def listed(payments: Iterable[Payment], told: Mapping[str, str]) -> Response:
    """Answer with the payments whose try lies in [StartDate, EndDate], to the minute.

    ASSUMED: a payment is listed by the time of its last try alone, so that a refund of another day is not found there.
    """
    since, until = _minute(told.get("StartDate", "")), _minute(told.get("EndDate", ""))
    found = [one for one in payments if one.attempted and since <= one.tried_at // 60 * 60 <= until]
    fields = "".join(_fields(one) for one in found)
    return _envelope(
        200,
        f'<{REPORT}Response xmlns="{_SERVICE}"><{REPORT}Result xmlns:a="{_FIELDS}" '
        f'xmlns:i="http://www.w3.org/2001/XMLSchema-instance">{fields}</{REPORT}Result></{REPORT}Response>',
    )


def soap_fault(code: str, words: str) -> Response:
    """Return a SOAP 1.1 fault, HTTP 500."""
    return _envelope(500, f'<s:Fault><faultcode>{code}</faultcode><faultstring xml:lang="en-US">{words}</faultstring>')


def _envelope(status: int, inside: str) -> Response:
    closed = inside + ("</s:Fault>" if inside.startswith("<s:Fault>") else "")
    text = f'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>{closed}</s:Body></s:Envelope>'
    return Response(text, status, media_type="text/xml; charset=utf-8")


def _minute(text: str) -> float:
    if not re.fullmatch(r"\d{4}/\d\d/\d\d \d\d:\d\d", text):
        raise ServerFault
    try:
        return datetime.strptime(text, "%Y/%m/%d %H:%M").replace(tzinfo=YEREVAN).timestamp()
    except ValueError:
        raise ServerFault from None


def _fields(payment: Payment) -> str:
    """Return one PaymentFields, as the document's sample has it [doc GetTransactionList]."""
    approved = payment.code == OK
    told: dict[str, str | None] = {
        "Amount": f"{major(payment.amount):.2f}",
        "ApproveAmount": f"{major(payment.approved):.2f}",
        "AuthCode": PLANTED["ApprovalCode"] if approved else "",
        "CardNumber": PLANTED["CardNumber"],
        "ClientName": PLANTED["ClientName"],
        "Currency": payment.currency,
        "DepositAmount": f"{major(payment.deposited):.2f}",
        "Descr": None,
        "ErrorMessage": None if approved else MESSAGES.get(payment.code, "Decline."),
        "Opaque": payment.opaque,
        "OperDate": written(payment.tried_at, "%a %b %d %H:%M:%S AMT %Y")[:25],  # cut as in the sample: no year
        "OrderID": str(payment.order_id),
        "PaymentID": payment.id,
        "PaymentState": str(payment.status),
        "PaymentType": "5",
        "RRN": payment.md_order_id,
        "RespCode": "00 : Payment Successfully Completed"
        if approved
        else f"{payment.code} : {MESSAGES.get(payment.code, 'Decline.')}",
        "Stan": "",
        "TrxnDetails": stored(payment.description),
    }
    inside = "".join(
        f'<a:{name} i:nil="true"/>' if value is None else f"<a:{name}>{escape(value)}</a:{name}>"
        for name, value in told.items()
    )
    return f"<a:PaymentFields>{inside}</a:PaymentFields>"
