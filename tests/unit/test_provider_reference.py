"""The reference of the payment providers is what the adapters declare, and every installed adapter has its page."""

import inspect
import json
import re
from dataclasses import fields
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from cli.provider_reference import ACCOUNTS, MEANINGS, OPTIONS, TESTED, declared, example_accounts, page
from gateways.providers.base import Capabilities
from gateways.providers.vpos_options import Options as VposOptions
from runtime.build import PROVIDERS_GROUP, installed
from tests.commands import forget_settings, run
from tests.support import DATA_KEY

PAGES = Path(__file__).parents[2] / "docs" / "reference" / "providers"
HEADINGS = ["What it does", "Settings", "Capabilities", "How an answer is read", "Assumed", "Try it"]
OUR_OWN = {"sandbox"}  # where there is nothing to assume of anybody
NO_OPTIONS = {"name", "base_url", "api_key", "webhook_secrets", "transport"}
COLUMNS = {
    "look-up": "lookup",
    "page again": "lookup_gives_page",
    "cancel": "cancel",
    "refund": "refund",
    "refund repeatable": "refund_idempotent",
    "capture": "capture",
    "events": "push",
    "signed": "signed_events",
    "precheck": "precheck",
    "statement": "statement",
}

adapters = pytest.mark.parametrize("adapter", installed(PROVIDERS_GROUP))


def test_the_reference_page_says_what_the_adapters_say() -> None:
    written = (PAGES / "README.md").read_text(encoding="utf-8")
    assert written == page(), "run: .venv/bin/python -m cli.provider_reference > docs/reference/providers/README.md"


def test_every_installed_adapter_has_an_account_a_page_and_its_facts() -> None:
    named = installed(PROVIDERS_GROUP)
    assert sorted(example_accounts()) == named
    assert sorted(TESTED) == named
    assert sorted(path.stem for path in PAGES.glob("*.md") if path.stem != "README") == named


def test_every_capability_is_explained() -> None:
    assert set(MEANINGS) == {one.name for one in fields(Capabilities)}


def test_what_an_option_gives_is_shown_with_its_name() -> None:
    for adapter, options in OPTIONS.items():
        account = example_accounts()[adapter]
        for option, value in options.items():
            assert declared(account, **{option: value}) != declared(account)
            assert f"with `{option}`" in page()


@adapters
def test_a_page_has_the_same_parts_as_every_other(adapter: str) -> None:
    text = (PAGES / f"{adapter}.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert [one for one in headings if one in HEADINGS] == HEADINGS
    assert re.match(rf"# .+ \(`{adapter}`\)\n", text)
    assert f'adapter = "{adapter}"' in text
    assert f"paylinks sandbox {'provider' if adapter in OUR_OWN else adapter} " in text


@adapters
def test_a_page_says_that_nothing_was_tried_for_earnest(adapter: str) -> None:
    opening = (PAGES / f"{adapter}.md").read_text(encoding="utf-8").partition("## What it does")[0]
    if adapter not in OUR_OWN:
        assert "**Tested against a simulator only.**" in opening
        assert re.search(r"[Nn]o (live or test )?account (of|at) ", opening)
        assert "[Assumed](#assumed)" in opening


@adapters
def test_a_page_names_every_option_that_the_adapter_takes(adapter: str) -> None:
    text = (PAGES / f"{adapter}.md").read_text(encoding="utf-8")
    (point,) = entry_points(group=PROVIDERS_GROUP, name=adapter)
    taken = set(inspect.signature(point.load()).parameters) - NO_OPTIONS
    if "options" in taken:  # VPOS.am's are many, and have a model of their own
        taken = set(VposOptions.model_fields)
    assert [one for one in sorted(taken) if not re.search(rf"^#? ?{one} = |`{one}`", text, re.MULTILINE)] == []


@adapters
def test_the_capabilities_on_a_page_are_those_of_the_adapter(adapter: str) -> None:
    account = example_accounts()[adapter]
    declarations = [declared(account), *(declared(account, **{one: v}) for one, v in OPTIONS.get(adapter, {}).items())]
    text = (PAGES / f"{adapter}.md").read_text(encoding="utf-8").partition("## Capabilities")[2]
    heading, _, row = (_cells(line) for line in re.findall(r"^\|.*\|$", text, re.MULTILINE)[:3])
    told = dict(zip(heading, row, strict=True))
    for column, field in COLUMNS.items():
        offered = any(getattr(one, field) for one in declarations)
        assert (told.get(column, "no") != "no") == offered, column
    if adapter not in OUR_OWN:
        assert told["create"] == declarations[0].create
        assert told["unit / code"].startswith(declarations[0].amount_unit)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_examples_settings_are_valid_and_its_secrets_are_invented(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_settings(monkeypatch)
    monkeypatch.setenv("PAYLINKS_CONFIG", str(ACCOUNTS))
    monkeypatch.setenv("PAYLINKS_DATABASE_URL", "sqlite:///never-opened.db")
    monkeypatch.setenv("PAYLINKS_DATA_KEYS", json.dumps([DATA_KEY]))
    monkeypatch.setenv("PAYLINKS_LINK_KEYS", json.dumps([{"id": "k1", "secret": "s" * 32}]))
    found = run("check-config")
    assert found.exit_code == 0, found.output
    accounts = example_accounts().values()
    secrets = [one.api_key for one in accounts] + [secret for one in accounts for secret in one.webhook_secrets]
    told = [one.get_secret_value() for one in secrets]
    assert [one for one in told if not one.startswith("invented-")] == ["none"]  # Idram has none to call with
