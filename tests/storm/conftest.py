"""The storms use the installations of the fault tests."""

from tests.faults.conftest import embedded, production

__all__ = ["embedded", "production"]
