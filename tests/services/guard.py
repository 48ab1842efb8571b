"""No test talks to another machine.

An audit hook sees each connection and look-up that Python code makes, whatever library asks for it; nothing is
patched. It cannot see those of C libraries (libpq, libuv), whose addresses come from our fixtures.
"""

import functools
import ipaddress
import os
import socket
import sys
from urllib.parse import urlsplit

_VARIABLES = ("PAYLINKS_TEST_DATABASE_URL", "PAYLINKS_TEST_AMQP_URL", "PAYLINKS_TEST_REDIS_URL")


class NetworkBlocked(RuntimeError):
    """A test reached for another machine. No OSError: code under test must not take it for an outage."""


@functools.cache
def allow_only_loopback() -> None:
    """From here to the end of this process, refuse connections that leave this machine."""
    given = _given_hosts()

    def look(event: str, arguments: tuple[object, ...]) -> None:
        host = _host_of(event, arguments)
        if host is not None and host not in given and not _is_loopback(host):
            raise NetworkBlocked(f"a test reached for {host}; tests talk to this machine only")

    sys.addaudithook(look)


def _host_of(event: str, arguments: tuple[object, ...]) -> str | None:
    if event == "socket.getaddrinfo":
        host = arguments[0]
        return host.decode() if isinstance(host, bytes) else host if isinstance(host, str) else None
    if event in {"socket.connect", "socket.sendto"}:
        address = arguments[1]
        return str(address[0]) if isinstance(address, tuple) else None
    return None


def _is_loopback(host: str) -> bool:
    if host in {"localhost", ""}:
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _given_hosts() -> set[str]:
    """Servers that were given by address may be elsewhere: their names, and what these stand for."""
    names = {urlsplit(os.environ.get(variable, "")).hostname for variable in _VARIABLES}
    hosts = {name for name in names if name}
    for name in list(hosts):
        hosts.update(str(found[4][0]) for found in _resolve(name))
    return hosts


def _resolve(name: str) -> list[tuple[object, object, object, object, tuple[object, ...]]]:
    try:
        return list(socket.getaddrinfo(name, None))
    except OSError:
        return []
