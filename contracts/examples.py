"""One example of every message type: shown in the schemas, the AsyncAPI document and the reference page.

The people and addresses are invented. Tests hold each example against its model and its schema.
"""

from copy import deepcopy
from typing import Any

from contracts.base import Message
from contracts.catalog import INBOUND, SET_BY_INTAKE

_INVOICE = "01kb3r8v5m2x9d4c7f6h1j0kqt"
_LINK = "01kb3r8v6a7m4p2s9w3y5z8bce"
_ATTEMPT = "01kb3rh2x4q8t6v1n9m5k3j7gd"
_CASE = "01kb3sm4c9e2g7j5n1q8t6v3xz"
_MESSAGE = "01kb3r8v4t6y8z1b3d5f7h9jkm"
_REJECTION = "01kb3t5n7q2s4v6x8z1b3d5f7h"
_REFUND = "01kb3v2k9w4r6t8y1b3d5f7h9j"
_RECEIPT = "01kb3v4m1x6s8v2z4c6e8g2j4k"
_UNMATCHED = "01kb3w7m3p5q8s2v4x6z9b1d3f"
_REQUEST = "7c9e6679f2a14b0f"

_BY_USER_17 = {"crm": "acme-bitrix24", "invoice_id": "INV-1001", "type": "invoice", "actor": "17"}

_DATA: dict[str, dict[str, Any]] = {
    "invoice.created.v1": {
        "crm": "acme-bitrix24",
        "invoice_id": "INV-1001",
        "version": 1,
        "type": "invoice",
        "kind": "prepayment",
        "deal_id": "D-77",
        "amount_minor": 150000000,
        "currency": "AMD",
        "purpose": "Կանխավճար, պայմանագիր 17",
        "customer": {"name": "Անի Սարգսյան", "email": "ani@example.am", "phone": "+37410000000", "locale": "hy"},
        "manager": {"id": "17", "name": "Karen"},
        "created_by": "17",
        "policy": {
            "expires_in": "P7D",
            "partial": "review",
            "attempts": 5,
            "over": "review",
            "late": "accept",
            "old_link": "accept",
            "unsent": "amend",
            **dict.fromkeys(("resend", "cancel", "reissue", "retry", "extend"), True),
        },
    },
    "invoice.cancelled.v1": {
        "crm": "acme-bitrix24",
        "invoice_id": "INV-1001",
        "version": 2,
        "type": "invoice",
        "cancelled_by": "17",
        "reason": "The customer ordered elsewhere",
    },
    "provider.event.v1": {
        "account": "main-bank",
        "receipt": "evt_81f0c2",
        "received_at": "2026-11-22T10:05:31Z",
        "method": "POST",
        "headers": {"content-type": "application/json", "x-signature": "t=1795341931,v1=4f1c0a"},
        "body_base64": "eyJvcmRlciI6ICJvcmRfMTkifQ==",
    },
    "link.resend.v1": {**_BY_USER_17, "reason": "The customer lost the letter"},
    "link.sent.v1": {
        **_BY_USER_17,
        "channel": "email",
        "recipient": "ani@example.am",
        "sent_at": "2026-11-22T10:01:00Z",
    },
    "link.cancel.v1": {**_BY_USER_17, "reason": "Agreed to pay in cash"},
    "link.reissue.v1": {**_BY_USER_17, "reason": "The letter went to a wrong address", "expires_in": "P3D"},
    "link.retry.v1": {**_BY_USER_17, "reason": "The bank's page hangs"},
    "link.extend.v1": {**_BY_USER_17, "reason": "The customer asked for a week", "expires_in": "P7D"},
    "payment.verify.v1": {**_BY_USER_17, "reason": "The customer says that he paid"},
    "payment.capture.v1": {**_BY_USER_17, "reason": "The goods were sent"},
    "payment.release.v1": {**_BY_USER_17, "reason": "The goods are sold out"},
    "payment.refund.v1": {
        **_BY_USER_17,
        "reason": "Half of it was returned",
        "amount_minor": 75000000,
        "currency": "AMD",
    },
    "refund.approve.v1": {**_BY_USER_17, "actor": "18", "reason": "Seen the returned goods", "refund": _REFUND},
    "refund.reject.v1": {**_BY_USER_17, "actor": "18", "reason": "Nothing was returned", "refund": _REFUND},
    "invoice.settled_elsewhere.v1": {
        **_BY_USER_17,
        "reason": "Came by bank transfer",
        "amount_minor": 150000000,
        "currency": "AMD",
        "method": "bank_transfer",
        "reference": "PO 4711",
        "settled_at": "2026-11-23T09:00:00Z",
    },
    "invoice.review.v1": {**_BY_USER_17, "reason": "The customer disputes the amount"},
    "fiscal.status_changed.v1": {
        **_BY_USER_17,
        "actor": "1c-erp",
        "reason": "",
        "status": "issued",
        "receipt_no": "00012345",
    },
    "invoice.resolve.v1": {**_BY_USER_17, "reason": "Agreed by telephone", "case": "marked_for_review"},
    "command.answered.v1": {
        "command": "link.reissue.v1",
        "crm": "acme-bitrix24",
        "type": "invoice",
        "invoice_id": "INV-1001",
        "actor": "17",
        "outcome": "done",
        "detail": "a new link was made",
        "link": _LINK,
        "link_url": "https://pay.example.am/l/2wq7n5c1",
        "request_id": _REQUEST,
        "causation": _MESSAGE,
    },
    "link.create.v1": {"invoice": _INVOICE, "link": _LINK, "attempt": _ATTEMPT},
    "link.wanted.v1": {"invoice": _INVOICE, "link": _LINK, "day": "2026-11-30"},
    "link.expire.v1": {"invoice": _INVOICE, "link": _LINK},
    "checkout.start.v1": {"invoice": _INVOICE, "link": _LINK, "attempt": _ATTEMPT},
    "attempt.check.v1": {"invoice": _INVOICE, "attempt": _ATTEMPT, "check_no": 2},
    "attempt.close.v1": {"invoice": _INVOICE, "attempt": _ATTEMPT, "close_no": 1, "reason": "superseded"},
    "attempt.hold.v1": {"invoice": _INVOICE, "attempt": _ATTEMPT, "hold_no": 1},
    "refund.make.v1": {"refund": _REFUND, "about": _INVOICE},
    "receipt.issue.v1": {"invoice": _INVOICE, "fiscal_receipt": _RECEIPT},
    "money.unmatched.v1": {
        "unmatched": _UNMATCHED,
        "account": "main-bank",
        "provider_order_id": "ord_7",
        "amount_minor": 150000000,
        "currency": "AMD",
        "request_id": _REQUEST,
    },
    "crm.update.v1": {"invoice": _INVOICE, "revision": 3},
    "crm.check.v1": {"invoice": _INVOICE, "check_no": 1},
    "exception.raised.v1": {"invoice": _INVOICE, "exception": _CASE, "reason": "partial_payment", "episode": 1},
    "exception.cleared.v1": {"invoice": _INVOICE, "exception": _CASE, "reason": "partial_payment", "episode": 1},
    "invoice.accepted.v1": {
        "crm": "acme-bitrix24",
        "type": "invoice",
        "invoice_id": "INV-1001",
        "version": 1,
        "sent_version": 1,
        "outcome": "accepted",
        "request_id": _REQUEST,
        "causation": _MESSAGE,
    },
    "intake.rejected.v1": {
        "rejection": _REJECTION,
        "source": "/crm/acme-bitrix24",
        "event_id": "0190f7a2-0c4e-7d11-8a55-1b2c3d4e5f60",
        "event_type": "invoice.created.v1",
        "problems": ["data.currency: unknown currency; use one of AED, AMD, CHF, CNY, EUR, GBP (ISO 4217, upper case)"],
    },
    "payment.status_changed.v1": {
        "invoice": _INVOICE,
        "revision": 3,
        "crm": "acme-bitrix24",
        "type": "invoice",
        "invoice_id": "INV-1001",
        "deal_id": "D-77",
        "result": {
            "revision": 3,
            "status": "paid",
            "flags": [],
            "amount_minor": 150000000,
            "paid_minor": 150000000,
            "refunded_minor": 0,
            "currency": "AMD",
            "provider": "sandbox",
            "provider_reference": "ord_19",
            "paid_at": "2026-11-22T10:05:30Z",
            "proof": "look_up",
            "fiscal_status": "not_required",
            "link_url": "https://pay.example.am/l/2wq7n5c1",
            "request_id": _REQUEST,
        },
    },
}


def data_example(model: type[Message]) -> dict[str, Any]:
    """Return an example of what a message holds."""
    return deepcopy(_DATA[model.TYPE])


def event_example(model: type[Message]) -> dict[str, Any]:
    """Return an example of a whole event: as a CRM sends it, or as we do."""
    data = data_example(model)
    if model in INBOUND:
        sender = _from_others(model, data)
        data = {name: value for name, value in data.items() if name not in SET_BY_INTAKE}
    else:
        sender = _from_us(model, data)
    return {"specversion": "1.0", **sender, "datacontenttype": "application/json", "data": data}


def _from_others(model: type[Message], data: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "0190f7a2-0c4e-7d11-8a55-1b2c3d4e5f60",
        "source": f"/crm/{data['crm']}" if "crm" in data else f"/provider/{data['account']}",
        "type": model.TYPE,
        "subject": data.get("invoice_id") or data["account"],
        "time": "2026-11-22T10:00:00Z",
    }


def _from_us(model: type[Message], data: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "01kb3r90n2q4s6v8x1z3b5d7fh",
        "source": "/paylinks",
        "type": model.TYPE,
        "subject": model.parse(data).subject(),
        "time": "2026-11-22T10:00:02+00:00",
        "requestid": _REQUEST,
    }
