"""What the shared suite cannot know of Acme Pay: its options, and answers of its own that must not be believed."""

from datetime import timedelta
from typing import Any

import httpx
import pytest
from acme_pay import AcmePayProvider

from contracts.ids import new_id
from gateways.errors import Unavailable, Unknown
from gateways.providers.base import OrderRequest

ORDER = {"id": "o-1", "status": "open", "page_url": "https://acme.example/pay/o-1", "movements": []}
TIMES = {"expires_at": "2026-11-26T10:00:00Z"}


def adapter(answer: dict[str, Any]) -> AcmePayProvider:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=answer))
    return AcmePayProvider("acme", "https://acme.example", "key", ("secret",), transport=transport)


@pytest.mark.parametrize("secrets", [(), ("",), ("secret", "")])
def test_an_account_needs_a_secret_and_no_empty_one(secrets: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="webhook secret"):
        AcmePayProvider("acme", "https://acme.example", "key", secrets)


def test_an_order_that_asks_for_other_money_is_not_ours() -> None:
    request = OrderRequest(new_id(), 1000, "AMD", "17", "https://pay.example", timedelta(minutes=10))
    other = {**ORDER, **TIMES, "merchant_reference": request.reference, "amount": 100_000, "currency": "AMD"}
    with pytest.raises(Unknown) as caught:
        adapter(other).create_order(request)
    assert caught.value.code == "other_amount"


def test_a_movement_of_a_kind_that_nobody_documented_is_no_answer() -> None:
    moved = {"id": "m-1", "kind": "bonus", "amount": 1000, "currency": "AMD", "at": "2026-11-26T10:00:00Z"}
    answer = {**ORDER, **TIMES, "merchant_reference": "r", "amount": 1000, "currency": "AMD", "movements": [moved]}
    with pytest.raises(Unavailable):
        adapter(answer).fetch_evidence("r", "o-1")
