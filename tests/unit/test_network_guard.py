"""Tests talk to this machine only."""

import socket

import httpx
import pytest

from tests.services.guard import NetworkBlocked

# TEST-NET-1, which RFC 5737 reserves for documentation: nobody is there even if the guard fails.
ELSEWHERE = "192.0.2.1"


def test_a_connection_to_another_machine_is_refused_before_it_is_made():
    with socket.socket() as connection, pytest.raises(NetworkBlocked, match=ELSEWHERE):
        connection.connect((ELSEWHERE, 80))


def test_a_look_up_of_another_machine_is_refused():
    with pytest.raises(NetworkBlocked, match=r"shop\.example"):
        socket.getaddrinfo("shop.example", 443)


def test_an_http_client_does_not_take_the_refusal_for_an_outage():
    with pytest.raises(NetworkBlocked):
        httpx.get(f"http://{ELSEWHERE}/", timeout=1)


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "::1"])
def test_this_machine_is_open(address):
    assert socket.getaddrinfo(address, 80)
