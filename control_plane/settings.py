"""The whole configuration of the control plane: nested, frozen, read once; an unknown key is an error.

Order, strongest first: options of the command line, environment (`LONGSHORE_...`, nested by `__`), the TOML file named
by `--config`. Every default is safe on a laptop: loopback, SQLite, a directory, memory. No secret has a default;
secrets are made at first start under `data` or come from files.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from common.errors import Invalid


class SettingsInvalid(Invalid):
    code = "settings_invalid"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Listeners(_Part):
    """`host:port`; port 0 picks a free one, which `ready.json` then names."""

    http: str = "127.0.0.1:8080"
    enrolment: str = "127.0.0.1:8443"
    attach: str = "127.0.0.1:8444"

    @field_validator("http", "enrolment", "attach")
    @classmethod
    def _is_address(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"{value!r} is not host:port")
        return value


class Public(_Part):
    """How others reach this control plane when it stands behind a proxy or listens on every address."""

    url: str | None = None  # base URL of the API and /v2; default: the http listener
    host: str | None = None  # name in the gRPC server certificate; default: the listeners' hosts
    names: tuple[str, ...] = ()  # further names in that certificate


class DatabaseSettings(_Part):
    url: SecretStr | None = None  # default: SQLite in `data`
    pool_size: int = Field(default=10, ge=1, le=200)


class RedisSettings(_Part):
    """One Redis for cache, queue and events; absent: memory, which is right for a single process."""

    url: SecretStr | None = None


class EtcdSettings(_Part):
    endpoints: tuple[str, ...] = ()
    username: str | None = None
    password: SecretStr | None = None
    ca_file: Path | None = None


class BlobSettings(_Part):
    """Replicas share one directory (a network file system with rename and fsync)."""

    directory: Path | None = None  # default: `registry` in `data`


class JobSettings(_Part):
    """`embedded` false: this server runs no jobs; `longshore-server worker` beside it does, and both need Redis."""

    embedded: bool = True


class RegistrySettings(_Part):
    service: str = "longshore-registry"
    upload_expiry_hours: float = Field(default=24, gt=0)
    x_accel_prefix: str | None = None  # internal location of nginx that maps to the blob directory


class FleetSettings(_Part):
    heartbeat_seconds: float = Field(default=10, ge=0.2, le=300)
    certificate_hours: float = Field(default=24, gt=0.01)


class SwarmSettings(_Part):
    smallest_bytes: int = Field(default=1 << 20, ge=1)
    egress_flush_seconds: float = Field(default=1.0, gt=0, le=60)
    metainfo_patience_seconds: float = Field(default=2.0, ge=0, le=8)


class LoggingSettings(_Part):
    level: Literal["debug", "info", "warning", "error"] = "info"
    style: Literal["console", "json"] = "console"


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="LONGSHORE_",
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        nested_model_default_partial_update=True,
    )

    data: Path = Path("longshore-data")
    secrets_directory: Path | None = None  # of the master keys, shared by replicas; default: `secrets` in `data`
    listeners: Listeners = Listeners()
    public: Public = Public()
    database: DatabaseSettings = DatabaseSettings()
    redis: RedisSettings = RedisSettings()
    etcd: EtcdSettings = EtcdSettings()
    blobs: BlobSettings = BlobSettings()
    jobs: JobSettings = JobSettings()
    registry: RegistrySettings = RegistrySettings()
    fleet: FleetSettings = FleetSettings()
    swarm: SwarmSettings = SwarmSettings()
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
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SettingsInvalid(f"{config} cannot be read: {error}", action="mend the file") from error
    try:
        environment = Settings().model_dump(exclude_unset=True)
        settings = Settings(**_merged(_merged(from_file, environment), options))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SettingsInvalid(
            f"setting {where}: {first['msg']}", action="see docs/operations/configuration.md"
        ) from error
    if not settings.jobs.embedded and settings.redis.url is None:
        raise SettingsInvalid(
            "setting jobs.embedded: without Redis a separate worker hears of no job",
            action="set redis.url, or leave jobs.embedded on",
        )
    return settings


def _merged(weak: Mapping[str, Any], strong: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(weak)
    for key, value in strong.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged
