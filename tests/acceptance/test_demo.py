"""The whole demonstration, in processes of its own: it meets every page and every rule, and nothing is wrong.

And at each real provider's simulator: there its stories end right, and its books agree with ours and the CRM's. One of
those runs by default, the one that asks before money moves; `make storm` runs them all.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from rules.verdict_table import CASES, every_rule

storm = pytest.mark.storm


def demo(folder: Path, *arguments: str) -> str:
    """Run it in a folder; return what it said on stdout."""
    ran = subprocess.run(
        [sys.executable, "-m", "cli.main", "demo", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr + ran.stdout
    assert "BROKEN" not in ran.stdout
    assert not any(Path(folder, "var").iterdir()), "logs are kept only when something is wrong"
    return ran.stdout


@pytest.mark.timeout(300)
def test_the_demo_meets_every_page_and_every_rule_and_breaks_no_promise(tmp_path: Path) -> None:
    said = demo(tmp_path)
    rules = next(line for line in said.splitlines() if " rules seen: " in line)
    assert rules.startswith(f"{len(every_rule())} of {len(every_rule())} rules seen: ")
    assert rules.endswith("never seen: nothing")
    assert all(f"ROW-{number:02}" in said for number in range(1, len(CASES) + 1))


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("provider", "stories", "left_out"),
    [
        pytest.param(
            "arca",
            "LOST-ANSWER NOBODY-TELLS CAPTURED LET-GO AFTER-CANCEL PART-BACK FORGED",
            "NOT-AGREED DEBIT",
            marks=storm,
        ),
        ("idram", "CANCEL-TOLD TOLD-AGAIN NOT-AGREED NOT-BACK TWO-TABS FORGED", "LOST-ANSWER BACK CAPTURED"),
        pytest.param("ameriabank", "CAPTURED NOBODY-TELLS LATE-ASKED FORGED-HINT", "CLOSES-TAB FORGED", marks=storm),
        pytest.param("stripe", "LOST-ANSWER CAPTURED LET-GO DEBIT PART-BACK FORGED", "LATE NOT-BACK", marks=storm),
        pytest.param("vpos", "LOST-ANSWER NOBODY-TELLS LATE NOT-BACK FORGED", "CAPTURED BACK", marks=storm),
    ],
    ids=["arca", "idram", "ameriabank", "stripe", "vpos"],
)
def test_at_a_simulated_provider_every_story_ends_right(
    tmp_path: Path, provider: str, stories: str, left_out: str
) -> None:
    said = demo(tmp_path, "--provider", provider)
    rows = {line.split()[1] for line in said.splitlines() if line.startswith("│")}
    assert set(stories.split()) <= rows
    missing = " ".join(line for line in said.splitlines() if line.startswith("not told here, for want of "))
    assert set(left_out.split()) <= set(missing.split())
    pages = next(line for line in said.splitlines() if line.startswith("pages seen: ")).split()
    assert "come_back" in pages
    assert ("handover" in pages) == (provider == "idram")
