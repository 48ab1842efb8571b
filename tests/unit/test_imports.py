"""Importing a module does nothing: no settings read, no connection, no file written, no thread."""

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ["contracts", "rules", "db", "gateways", "runtime", "workers", "web", "cli", "sandbox"]

PROGRAM = """
import importlib, sys, threading

deeds = {"socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen", "os.mkdir", "sqlite3.connect"}

def refuse(event, arguments):
    if event in deeds:
        raise AssertionError(f"importing {name} did {event} {arguments}")
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        raise AssertionError(f"importing {name} wrote {arguments[0]}")

sys.dont_write_bytecode = True
sys.addaudithook(refuse)
for name in sys.argv[1:]:
    importlib.import_module(name)
assert threading.active_count() == 1, threading.enumerate()
"""


def modules_of(package):
    path = ROOT / package
    found = [module.name for module in pkgutil.walk_packages([str(path)], prefix=f"{package}.")]
    return [package, *(name for name in found if not is_program(name))]


def is_program(name):
    """Alembic's scripts read their context when they are loaded; a __main__ is made to be run."""
    return name.startswith("db.migrations.") or name.endswith(".__main__")


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_does_nothing(package, tmp_path):
    command = [sys.executable, "-W", "error", "-c", PROGRAM, *modules_of(package)]

    done = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}
    )

    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
