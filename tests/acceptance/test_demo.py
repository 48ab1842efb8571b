"""The whole demonstration, in processes of its own: it meets every page and every rule, and nothing is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from rules.verdict_table import CASES, every_rule


@pytest.mark.timeout(300)
def test_the_demo_meets_every_page_and_every_rule_and_breaks_no_promise(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "cli.main", "demo"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr + ran.stdout
    rules = next(line for line in ran.stdout.splitlines() if " rules seen: " in line)
    assert rules.startswith(f"{len(every_rule())} of {len(every_rule())} rules seen: ")
    assert rules.endswith("never seen: nothing")
    assert all(f"ROW-{number:02}" in ran.stdout for number in range(1, len(CASES) + 1))
    assert "BROKEN" not in ran.stdout
    assert not any(Path(tmp_path, "var").iterdir()), "logs are kept only when something is wrong"
