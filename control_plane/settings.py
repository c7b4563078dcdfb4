"""The whole configuration of the control plane: nested, frozen, read once; an unknown key is an error.

Order, strongest first: options of the command line, environment (`LONGSHORE_...`, nested by `__`), the TOML file named
by `--config`. Every default is safe on a laptop: loopback, SQLite, a directory, memory. No secret has a default;
secrets are made at first start under `data` or come from files.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from common.bittorrent import SMALLEST_SWARM_BYTES
from common.errors import Invalid
from control_plane.storage_settings import BlobSettings, Part, PlacementSettings, StoreSettings

_PREFIX = "LONGSHORE_"
# The other programs' names, which may be set on the same machine.
_PREFIXES_OF_OTHERS = ("AGENT_", "REGIONAL_")
_NAMES_OF_OTHERS = frozenset({"SERVER", "TOKEN", "CREDENTIALS", "REQUIRE_ENGINES"})


class SettingsInvalid(Invalid):
    code = "settings_invalid"


class Listeners(Part):
    """`host:port`; port 0 picks a free one, which `ready.json` then names."""

    http: str = Field(default="127.0.0.1:8080", description="API, registry and contents")
    enrolment: str = Field(default="127.0.0.1:8443", description="gRPC with server TLS, where machines join")
    attach: str = Field(
        default="127.0.0.1:8444", description="gRPC with mutual TLS, where agents and regionals stay attached"
    )

    @field_validator("http", "enrolment", "attach")
    @classmethod
    def _is_address(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"{value!r} is not host:port")
        return value


class Public(Part):
    """How others reach this control plane when it stands behind a proxy or listens on every address."""

    url: str | None = Field(default=None, description="base URL of the API and /v2; default: the http listener")
    host: str | None = Field(
        default=None,
        description="name or address that agents dial, in the gRPC server certificate; default: the listeners' hosts",
    )
    names: tuple[str, ...] = Field(default=(), description="further names in that certificate")


class DatabaseSettings(Part):
    url: SecretStr | None = Field(
        default=None, description="postgresql://user:password@host/database; default: SQLite in `data`"
    )
    pool_size: int = Field(default=10, ge=1, le=200, description="most connections to PostgreSQL")


class RedisSettings(Part):
    """One Redis for cache, queue and events; absent: memory, which is right for a single process."""

    url: SecretStr | None = Field(
        default=None, description="redis://host:port/database; the database is this installation's alone"
    )


class EtcdSettings(Part):
    """The directory of who is attached, shared by replicas; absent: memory, which is right for a single process."""

    endpoints: tuple[str, ...] = Field(default=(), description="each host:port")
    username: str | None = Field(default=None, description="with it, a password is needed")
    password: SecretStr | None = Field(default=None, description="of that user")
    ca_file: Path | None = Field(default=None, description="certificate authority of etcd; default: no TLS")


class JobSettings(Part):
    """`embedded` false: this server runs no jobs; `longshore-server worker` beside it does, and both need Redis."""

    embedded: bool = Field(default=True, description="run background jobs in this process")


class RegistrySettings(Part):
    service: str = Field(
        default="longshore-registry", description="`service` of registry tokens; the same on all replicas"
    )
    login_days: float = Field(
        default=90,
        ge=0,
        le=3650,
        description="how long `docker login` lasts without the password being kept; 0: clients keep the password",
    )
    upload_expiry_hours: float = Field(
        default=24, gt=0, description="how long an upload that nobody goes on with is kept"
    )
    incomplete_manifests: Literal["none", "indexes", "all"] = Field(
        default="indexes",
        description="which manifests may be pushed without all that they refer to: none, indexes without some of their"
        " images, all",
    )
    x_accel_prefix: str | None = Field(
        default=None,
        description="internal location of nginx that maps to the blob directory; default: bytes are sent here",
    )


class QuotaSettings(Part):
    """Limits of those who were given none of their own; absent is no limit. An image is a repository."""

    tenant_max_storage_bytes: int | None = Field(default=None, ge=0, description="bytes that a tenant may store")
    tenant_max_image_count: int | None = Field(default=None, ge=0, description="images that a tenant may have")
    tenant_max_image_size_bytes: int | None = Field(default=None, ge=0, description="bytes of one image of a tenant")
    user_max_storage_bytes: int | None = Field(
        default=None, ge=0, description="bytes that a user may store, over all tenants"
    )
    user_max_image_count: int | None = Field(
        default=None, ge=0, description="images that a user may make, over all tenants"
    )
    user_max_image_size_bytes: int | None = Field(default=None, ge=0, description="bytes of one image of a user")


class CollectionSettings(Part):
    """Garbage collection: what nobody needs goes after a grace, while everybody pushes and pulls."""

    grace_hours: float = Field(
        default=24, gt=0, description="from when a thing is not needed until it goes; deletions can be undone so long"
    )
    settle_hours: float = Field(
        default=1, gt=0, description="from the last link's end until the bytes go; at least one hour"
    )
    sweep_days: float = Field(
        default=7, gt=0, description="how often the store is compared with the records, to find what crashes left"
    )
    records_days: float = Field(default=90, gt=0, description="how long runs and removed blobs are remembered")


class OutboundSettings(Part):
    """Where this server connects to when a user names the target: registries to mirror or copy to, webhooks."""

    allow: tuple[str, ...] = Field(
        default=(), description="networks (10.1.0.0/16) permitted beside the public internet; plain http only to these"
    )

    @field_validator("allow")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            ip_network(text, strict=False)  # a ValueError, which says what is wrong
        return value


class FleetSettings(Part):
    heartbeat_seconds: float = Field(
        default=10, ge=0.2, le=300, description="how often agents and regionals say that they live"
    )
    certificate_hours: float = Field(
        default=720,
        gt=0.01,
        description="life of a machine's certificate, which it renews at 50 to 80 % of it: it may be cut off for a "
        "fifth of that before it must enrol again",
    )


class ChannelSettings(Part):
    """Logs, commands and consoles of instances, proxied to their hosts. Limits count the channels of all replicas."""

    address: str | None = Field(
        default=None,
        description="host:port where hosts reach the attach listener of this very replica; default: `public.host`, else"
        " the listener's own host. To be set where several replicas share one name",
    )
    per_host: int = Field(
        default=64, ge=1, le=128, description="most channels of one host; one tenant has at most half of them"
    )
    per_tenant: int = Field(default=128, ge=1, description="most channels of one tenant's instances")
    per_user: int = Field(default=32, ge=1, description="most channels of one user")
    open_seconds: float = Field(default=10, gt=0, le=60, description="how long a host may take to open a channel")
    idle_seconds: float = Field(default=3600, gt=0, description="a channel in which nothing moves is closed then")
    longest_seconds: float = Field(default=86_400, gt=0, description="a channel is closed then in any case")

    @field_validator("address")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        host, _, port = (value or "x:1").rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) <= 65535:
            raise ValueError(f"{value!r} is not host:port")
        return value


class SwarmSettings(Part):
    smallest_bytes: int = Field(default=SMALLEST_SWARM_BYTES, ge=1, description="smaller contents go by HTTP alone")
    egress_flush_seconds: float = Field(
        default=1.0, gt=0, le=60, description="how often counted bytes are written to the database"
    )
    metainfo_patience_seconds: float = Field(
        default=2.0, ge=0, le=8, description="how long who asks for metainfo waits until it is made"
    )
    describe_ahead: bool = Field(
        default=True, description="hash large contents for spreading when they are pushed, for tenants that spread any"
    )
    tls: bool = Field(default=True, description="peers meet with certificates; agents and regionals must say the same")
    certificate_hours: float = Field(default=12, gt=0.001, le=12, description="longest life of a peer's certificate")


class AuditSettings(Part):
    """What is recorded with a change commits with it. Pulls, denials and failed logins are buffered in memory."""

    strict: bool = Field(
        default=False, description="write denials and failed logins before they are answered, not in batches"
    )
    buffer_entries: int = Field(
        default=50_000, ge=100, description="most entries that wait in memory; what comes beyond is counted and logged"
    )
    flush_seconds: float = Field(default=1.0, gt=0, le=60, description="how often the buffer is written")
    keep_days: float = Field(default=90, ge=0, description="younger entries cannot be pruned, by nobody")


class WebhookSettings(Part):
    """Events told to addresses that tenants and operators name; where to is bounded by `outbound.allow`."""

    source: str | None = Field(
        default=None,
        min_length=1,
        description="`source` of every event, a URI; default: `public.url`, else urn:longshore",
    )
    timeout_seconds: float = Field(default=10, gt=0, le=60, description="how long an address may take to answer")
    retry_hours: float = Field(default=24, gt=0, le=168, description="how long a delivery that fails is tried again")
    disable_days: float = Field(default=5, gt=0, description="a webhook that fails for so long is disabled")
    keep_days: float = Field(default=7, gt=0, description="how long ended deliveries can be looked at")
    at_once: int = Field(default=32, ge=1, le=500, description="most deliveries under way in one process")
    at_once_per_webhook: int = Field(default=4, ge=1, le=50, description="most of them to one webhook")


class ReplicationSettings(Part):
    """Copying images to and from other registries by rules; where to is bounded by `outbound.allow`."""

    at_once: int = Field(default=8, ge=1, le=200, description="most images being copied in one process")
    at_once_per_endpoint: int = Field(default=3, ge=1, le=50, description="most of one registry, over all processes")
    lease_seconds: float = Field(
        default=30, ge=1, le=600, description="when a process that died is followed by another one"
    )
    settle_seconds: float = Field(
        default=1, ge=0, le=60, description="about how long a push waits, so that a burst is copied once"
    )
    keep_days: float = Field(default=30, gt=0, description="how long ended executions can be looked at")


class LoggingSettings(Part):
    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="least weight of a line")
    style: Literal["console", "json"] = Field(default="console", description="for people, or one JSON object a line")


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        nested_model_default_partial_update=True,
    )

    data: Path = Field(default=Path("longshore-data"), description="directory of everything that is embedded")
    secrets_directory: Path | None = Field(
        default=None, description="of the master keys, shared by replicas; default: `secrets` in `data`"
    )
    listeners: Listeners = Listeners()
    public: Public = Public()
    database: DatabaseSettings = DatabaseSettings()
    redis: RedisSettings = RedisSettings()
    etcd: EtcdSettings = EtcdSettings()
    blobs: BlobSettings = BlobSettings()
    stores: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")], StoreSettings] = Field(
        default={}, description="further stores by name; see docs/operations/stores.md"
    )
    placement: PlacementSettings = PlacementSettings()
    jobs: JobSettings = JobSettings()
    registry: RegistrySettings = RegistrySettings()
    quota: QuotaSettings = QuotaSettings()
    collection: CollectionSettings = CollectionSettings()
    outbound: OutboundSettings = OutboundSettings()
    fleet: FleetSettings = FleetSettings()
    channels: ChannelSettings = ChannelSettings()
    swarm: SwarmSettings = SwarmSettings()
    audit: AuditSettings = AuditSettings()
    webhooks: WebhookSettings = WebhookSettings()
    replication: ReplicationSettings = ReplicationSettings()
    logging: LoggingSettings = LoggingSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings

    @property
    def database_url(self) -> str:
        if self.database.url is not None:
            return self.database.url.get_secret_value()
        return f"sqlite:///{self.data.absolute() / 'longshore.db'}"

    @property
    def key_directory(self) -> Path:
        return (self.secrets_directory or self.data / "secrets").absolute()

    @property
    def blob_directory(self) -> Path:
        """Contents lie beneath `blobs` in it; that is what nginx's internal location maps to."""
        return (self.blobs.directory or self.data / "registry").absolute()


def load_settings(config: Path | None, options: Mapping[str, Any]) -> Settings:
    """`options` are those of the command line that were given, nested. Raises `SettingsInvalid` naming the key."""
    try:
        from_file = tomllib.loads(config.read_text()) if config is not None else {}
    except (OSError, ValueError) as error:
        raise SettingsInvalid(f"{config} cannot be read: {error}", action="mend the file") from error
    _check_names(os.environ)  # noqa: TID251  the one place that reads it
    try:
        environment = Settings().model_dump(exclude_unset=True)
        settings = Settings(**_merged(_merged(from_file, environment), options))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SettingsInvalid(
            f"setting {where}: {first['msg']}", action="see docs/operations/configuration.md"
        ) from error
    except SettingsError as error:  # no JSON where a list or a table is due; the text names the setting
        raise SettingsInvalid(f"environment: {error}", action="see docs/operations/configuration.md") from error
    if not settings.jobs.embedded and settings.redis.url is None:
        raise SettingsInvalid(
            "setting jobs.embedded: without Redis a separate worker hears of no job",
            action="set redis.url, or leave jobs.embedded on",
        )
    return settings


def _check_names(names: Iterable[str]) -> None:
    # Pydantic forbids unknown names below a part (LONGSHORE_LISTENERS__X), and overlooks them at the top.
    for name in names:
        rest = name.removeprefix(_PREFIX)
        if rest == name or rest.startswith(_PREFIXES_OF_OTHERS) or rest in _NAMES_OF_OTHERS:
            continue
        if rest.partition("__")[0].lower() not in Settings.model_fields:
            raise SettingsInvalid(
                f"{name} is no setting of the control plane", action="see docs/operations/configuration.md"
            )


def _merged(weak: Mapping[str, Any], strong: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(weak)
    for key, value in strong.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged
