"""The composition root: settings in, dependencies out."""

import inspect
from functools import cache
from importlib.metadata import EntryPoints, entry_points
from typing import Any

from pydantic import ValidationError

from db.database import Database
from db.sealing import Sealer
from gateways.crms.base import Crm
from gateways.fiscal.base import FiscalDevice
from gateways.providers.base import Provider
from runtime.deps import Deps, EventPublisher
from runtime.gated import GatedProvider
from runtime.gates import make_gates
from runtime.settings import AccountSettings, CrmSettings, FiscalSettings, Settings, SettingsError
from runtime.tokens import LinkTokens

PROVIDERS_GROUP = "paylinks.providers"
CRMS_GROUP = "paylinks.crms"
FISCAL_GROUP = "paylinks.fiscal"


def build(settings: Settings, *, events: EventPublisher | None = None) -> Deps:
    """Build everything a process uses; nothing connects before first use."""
    database = Database(
        settings.database_url,
        Sealer([key.get_secret_value() for key in settings.data_keys]),
        pool_size=settings.pool_size,
    )
    tokens = LinkTokens(
        [(key.id, key.secret.get_secret_value()) for key in settings.link_keys], settings.public_base_url
    )
    bare = {name: make_provider(name, account) for name, account in settings.accounts.items()}
    gates = make_gates(settings, bare)
    return Deps(
        settings=settings,
        database=database,
        tokens=tokens,
        providers={name: GatedProvider(provider, gates[name]) for name, provider in bare.items()},
        crms={name: _crm(name, crm) for name, crm in settings.crms.items()},
        fiscal={name: _fiscal(name, device) for name, device in settings.fiscal.items()},
        events=events,
        gates=gates,
    )


def close(deps: Deps) -> None:
    """Release every connection."""
    for provider in deps.providers.values():
        provider.close()
    for crm in deps.crms.values():
        crm.close()
    for device in deps.fiscal.values():
        device.close()
    for gate in deps.gates.values():
        gate.close()
    deps.database.dispose()


def installed(group: str) -> list[str]:
    """Return the names of the adapters that are installed, ours and others'."""
    return sorted(_points(group).names)


@cache
def _points(group: str) -> EntryPoints:
    """Read what is installed, once: each look opens the files of every package. A new adapter comes with a restart."""
    return entry_points(group=group)


def make_provider(name: str, account: AccountSettings) -> Provider:
    """Build the adapter of one account, bare of its gate."""
    provider: Provider = _made(
        PROVIDERS_GROUP,
        account.adapter,
        f"accounts.{name}",
        name=name,
        base_url=account.base_url,
        api_key=account.api_key.get_secret_value(),
        webhook_secrets=tuple(secret.get_secret_value() for secret in account.webhook_secrets),
        **account.options,
    )
    return provider


def _crm(name: str, crm: CrmSettings) -> Crm:
    adapter: Crm = _made(
        CRMS_GROUP, crm.adapter, f"crms.{name}", name=name, base_url=crm.base_url, token=crm.token.get_secret_value()
    )
    return adapter


def _fiscal(name: str, device: FiscalSettings) -> FiscalDevice:
    adapter: FiscalDevice = _made(
        FISCAL_GROUP,
        device.adapter,
        f"fiscal.{name}",
        name=name,
        base_url=device.base_url,
        api_key=device.api_key.get_secret_value(),
        **device.options,
    )
    return adapter


def _made(group: str, adapter: str, setting: str, **given: Any) -> Any:
    """Make an adapter. SettingsError names the setting and, where that is sure to show no value, what it says of it."""
    found = _points(group)
    if adapter not in found.names:
        known = ", ".join(installed(group)) or "none"
        raise SettingsError(f"{setting}.adapter: no adapter of that name is installed; known are {known}")
    factory = found[adapter].load()
    try:
        inspect.signature(factory).bind(**given)
    except TypeError as error:  # "got an unexpected keyword argument 'user_nam'"
        raise SettingsError(f"{setting}.options: the adapter {adapter} {error}") from None
    try:
        return factory(**given)
    except ValidationError as error:  # its own text would quote the input
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise SettingsError(f"{setting}.options: {first['msg']}") from None
    except ValueError as error:
        # What an adapter writes itself begins so; anything else, as an enum's error, may quote what it was given.
        mine, said = f"provider {given['name']}: ", str(error)
        if not said.startswith((mine, f"base_url of {given['name']}: ")):
            said = "the adapter does not take these options; compare with its description"
        raise SettingsError(f"{setting}: {said.removeprefix(mine)}") from None
