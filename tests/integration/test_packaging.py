"""The wheel holds the whole program, and nothing but the program."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ["contracts", "rules", "db", "gateways", "runtime", "workers", "web", "cli", "sandbox"]
MADE_BY_PYTHON = {"__pycache__"}


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory):
    # Built from a copy: setuptools leaves build/ and *.egg-info in the source tree.
    source = tmp_path_factory.mktemp("source")
    for name in [*PACKAGES, "pyproject.toml", "README.md", "LICENSE", "NOTICE"]:
        subprocess.run(["cp", "-R", str(ROOT / name), str(source)], check=True)
    target = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", str(target)]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", *options, str(source)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = target.glob("paylinks-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_every_file_of_the_packages_is_in_the_wheel(wheel_names):
    files = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and not MADE_BY_PYTHON & set(path.parts)
    }
    assert files - wheel_names == set()


def test_nothing_else_is_in_the_wheel(wheel_names):
    tops = {name.split("/")[0] for name in wheel_names if ".dist-info/" not in name}
    assert tops == set(PACKAGES)


def test_the_licence_and_the_notice_travel_along(wheel_names):
    assert {"LICENSE", "NOTICE"} <= {name.rpartition("/")[2] for name in wheel_names}
