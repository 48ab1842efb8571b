"""Settings: frozen, read in one place, from `paylinks.toml` and the environment.

Order, the first wins: environment (PAYLINKS_..., `__` for nesting), a secrets folder (PAYLINKS_SECRETS_DIR, one file
per setting), the file named by PAYLINKS_CONFIG (or ./paylinks.toml). No secret has a default, and no error shows one.
"""

import math
import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    JsonConfigSettingsSource,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from contracts.base import Slug
from contracts.envelope import contract_error
from contracts.messages import Policy
from contracts.money import CURRENCIES
from rules.policy import LinkPolicy


class SettingsError(Exception):
    """The configuration is not usable; the text names each setting, never its value."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class NumberRange(_Part):
    """Numbers from `first` to `last`, both included."""

    first: Annotated[int, Field(gt=0)] = 1
    last: Annotated[int, Field(gt=0)] = 2_147_483_647

    @model_validator(mode="after")
    def _rises(self) -> "NumberRange":
        if self.first > self.last:
            raise ValueError("first must not be greater than last")
        return self


class AccountSettings(_Part):
    """One account at one payment provider."""

    adapter: str
    base_url: str
    api_key: SecretStr
    # Several while a secret is being changed; each may sign.
    webhook_secrets: tuple[SecretStr, ...] = ()
    # ask: an event only hastens a question to the provider; trust_signed: a signed event with complete facts decides.
    verification: Literal["ask", "trust_signed"] = "ask"
    # Of money that is held first: at_once while the invoice wants it, else it is let go; or by a person's command.
    capture: Literal["at_once", "by_command"] = "at_once"
    # For all workers together; none: what the adapter declares.
    calls_per_second: Annotated[float, Field(gt=0)] | None = None
    # Of orders, where the provider takes nothing but numbers: the bank names the range. Raise `first` after a restore.
    order_numbers: NumberRange = NumberRange()
    options: dict[str, Any] = Field(default_factory=dict)


class PolicySettings(Policy):
    """What links may do, where the invoice says nothing of its own."""

    model_config = ConfigDict(extra="forbid")


def _sane_item(value: str) -> str:
    try:
        value.format(invoice_id="", purpose="")
    except (KeyError, IndexError, ValueError, AttributeError):
        raise ValueError("use {invoice_id} and {purpose} alone; write other braces twice") from None
    return value


class MerchantSettings(_Part):
    """Whom the customer pays, as the pages say it."""

    name: Annotated[str, Field(max_length=120)] = ""
    contact: Annotated[str, Field(max_length=200)] = ""  # a telephone number or an address, as people write it


def _sane_routing(value: "Routing") -> "Routing":
    unknown = sorted(set(value) - {*CURRENCIES, "*"})
    if unknown:
        raise ValueError(f"unknown currencies {', '.join(unknown)}; use ISO 4217 codes or *")
    for currency, entry in value.items():
        limits = [math.inf if route.up_to_minor is None else route.up_to_minor for route in _routes(entry)]
        if not limits or limits != sorted(set(limits)):
            raise ValueError(f"{currency}: order its routes by up_to_minor, rising; the one without it comes last")
    return value


class Route(_Part):
    """Where invoices up to an amount go."""

    account: Slug
    up_to_minor: Annotated[int, Field(gt=0)] | None = None  # none: any amount


# Currency -> account, or routes tried in their order; "*" is for the rest.
Routing = dict[str, str | tuple[Route, ...]]


class RefundSettings(_Part):
    """Who may give money back. Currency -> minor units; a refund above it needs a second person."""

    second_person_above: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)


def _at_least_a_day(value: timedelta) -> timedelta:
    if value < timedelta(days=1):
        raise ValueError("too short; use an ISO 8601 duration of a day or more, such as P90D")
    return value


Retention = Annotated[timedelta, AfterValidator(_at_least_a_day)]


class RetentionSettings(_Part):
    """How long raw bytes from outside are kept, encrypted, after their work has ended. None: for ever."""

    raw_events: Retention | None = None  # query, headers and body of providers' events
    rejected_bodies: Retention | None = None  # bodies that could not be read, once a person replayed or discarded them


class FiscalSettings(_Part):
    """One fiscal device, or one account at a service that stands for one."""

    adapter: str
    base_url: str
    api_key: SecretStr
    # What a receipt says was sold: {invoice_id} and {purpose} are the invoice's. A purpose may hold a name: only use it
    # where your CRM writes none there.
    item: Annotated[str, Field(min_length=1, max_length=120), AfterValidator(_sane_item)] = "{invoice_id}"
    # The number that was used last, for a device that does not tell: when we first meet it, and later when it is out of
    # step because somebody used numbers past us. What lies behind is never gone back to.
    last_seq: Annotated[int, Field(ge=0)] = 0
    options: dict[str, Any] = Field(default_factory=dict)


class CrmSettings(_Part):
    """One CRM that sends invoices and gets results."""

    adapter: str
    base_url: str
    token: SecretStr
    amqp_users: tuple[str, ...] = ()  # AMQP user ids that may speak for it; empty: any
    policy: PolicySettings = PolicySettings()
    merchant: MerchantSettings | None = None  # none: the deployment's
    refunds: RefundSettings | None = None  # none: the deployment's
    routing: Annotated[Routing, AfterValidator(_sane_routing)] = Field(default_factory=dict)  # before the deployment's
    fiscal: Slug | Literal[""] | None = None  # the device that prints its receipts; none: the deployment's; "": none


class LinkKey(_Part):
    """A key that makes link tokens. Old ones stay as long as their links are out."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9]{1,16}$")]
    secret: SecretStr = Field(min_length=32)


class Settings(BaseSettings):
    """Everything that a process needs to know."""

    model_config = SettingsConfigDict(
        env_prefix="PAYLINKS_", env_nested_delimiter="__", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    database_url: str
    broker_url: str = "memory://"
    redis_url: str | None = None
    # Where our own exchanges live; none: no AMQP intake and no outbound events.
    amqp_url: str | None = None
    public_base_url: str = "http://127.0.0.1:8080"
    data_keys: tuple[SecretStr, ...] = Field(min_length=1)  # newest first; each url-safe base64 of 32 bytes
    link_keys: tuple[LinkKey, ...] = Field(min_length=1)  # newest first
    accounts: dict[Slug, AccountSettings] = Field(default_factory=dict)
    crms: dict[Slug, CrmSettings] = Field(default_factory=dict)
    fiscal: dict[Slug, FiscalSettings] = Field(default_factory=dict)
    fiscal_device: Slug | None = None  # prints for every CRM that names none; none: no receipts of ours
    policy: PolicySettings = PolicySettings()
    merchant: MerchantSettings = MerchantSettings()
    refunds: RefundSettings = RefundSettings()
    retention: RetentionSettings = RetentionSettings()
    routing: Annotated[Routing, AfterValidator(_sane_routing)] = Field(default_factory=dict)
    queue_prefix: Annotated[str, Field(pattern=r"^[a-z0-9._-]{0,40}$")] = "paylinks."
    delivery_queue_type: Literal["quorum", "classic"] = "quorum"
    pool_size: int = 10
    # An upper bound on leases; shorter ones find a dead worker sooner and claim fewer at once.
    lease_cap: timedelta = timedelta(minutes=2)
    poll_interval: timedelta = timedelta(seconds=2)  # a worker that heard nothing for so long asks the store
    relay_interval: timedelta = timedelta(milliseconds=250)
    webhook_max_bytes: int = 64 * 1024
    webhook_waiting_limit: int = 2000
    # So many unknown links an address may ask for in a minute; 0: any number. Real links open in any case.
    guess_limit: Annotated[int, Field(ge=0)] = 30
    log_level: str = "INFO"
    # A multiplier on retry pauses and check ages, for rehearsals; 1 in production.
    time_scale: Annotated[float, Field(gt=0, le=1)] = 1.0
    halt_at: str | None = None  # for fault tests: stop the process dead at this named point

    @model_validator(mode="after")
    def _routes_lead_to_accounts(self) -> "Settings":
        routings = {"routing": self.routing, **{f"crms.{name}.routing": crm.routing for name, crm in self.crms.items()}}
        for place, routing in routings.items():
            named = {route.account for entry in routing.values() for route in _routes(entry)}
            missing = sorted(named - set(self.accounts))
            if missing:
                raise ValueError(f"{place} names accounts that are not configured: {', '.join(missing)}")
        return self

    @model_validator(mode="after")
    def _fiscal_devices_are_there(self) -> "Settings":
        of_crms = {f"crms.{name}.fiscal": crm.fiscal for name, crm in self.crms.items()}
        for place, device in {"fiscal_device": self.fiscal_device, **of_crms}.items():
            if device and device not in self.fiscal:
                raise ValueError(f"{place} names a fiscal device that is not configured: {device}")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Add the secrets folder and the TOML file behind the environment."""
        sources: list[PydanticBaseSettingsSource] = [init_settings, env_settings]
        folder = os.environ.get("PAYLINKS_SECRETS_DIR") or os.environ.get("CREDENTIALS_DIRECTORY")
        if folder:
            sources.append(SecretsSettingsSource(settings_cls, secrets_dir=folder))
        path = config_file()
        if path.suffix == ".json":
            sources.append(JsonConfigSettingsSource(settings_cls, json_file=path))
        else:
            sources.append(TomlConfigSettingsSource(settings_cls, toml_file=path))
        return tuple(sources)

    def policy_for(self, crm: str, said: Policy) -> LinkPolicy:
        """Return the policy of a link: the invoice's own words, over its CRM's, over the deployment's."""
        known = self.crms.get(crm)
        return LinkPolicy.in_force(self.policy, *([known.policy] if known else []), said)

    def refund_limit(self, crm: str | None, currency: str) -> int | None:
        """Return the amount above which a refund needs a second person, in minor units; None: no amount does."""
        known = self.crms.get(crm or "")
        return (known.refunds if known and known.refunds else self.refunds).second_person_above.get(currency)

    def merchant_of(self, crm: str) -> MerchantSettings:
        """Return whom the customer of an invoice pays."""
        known = self.crms.get(crm)
        return known.merchant if known is not None and known.merchant is not None else self.merchant

    def fiscal_for(self, crm: str) -> str | None:
        """Return the device that prints the receipts of a CRM's invoices; None: none of ours does."""
        known = self.crms.get(crm)
        named = known.fiscal if known is not None else None
        return (self.fiscal_device if named is None else named) or None

    def account_for(self, crm: str, currency: str, amount_minor: int, wanted: str | None) -> str | None:
        """Return the account that takes an invoice: the one it names, else the route of its CRM, else of all."""
        if wanted is not None:
            return wanted if wanted in self.accounts else None
        known = self.crms.get(crm)
        for routing in (known.routing if known else {}, self.routing):
            for route in _routes(routing.get(currency) or routing.get("*") or ()):
                if route.up_to_minor is None or amount_minor <= route.up_to_minor:
                    return route.account
        return None


def _routes(entry: "str | tuple[Route, ...]") -> tuple[Route, ...]:
    return (Route(account=entry),) if isinstance(entry, str) else entry


def config_file() -> Path:
    """Return the path of the settings file."""
    return Path(os.environ.get("PAYLINKS_CONFIG", "paylinks.toml"))


def load_settings(**overrides: Any) -> Settings:
    """Read the settings; raise SettingsError that names what is wrong."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise SettingsError(str(contract_error(error))) from None
