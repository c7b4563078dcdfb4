"""The whole configuration of an agent: frozen, read once; an unknown key is an error.

Order, strongest first: options of the command line, environment (`LONGSHORE_AGENT_...`). Nothing listens beyond
loopback unless `listen_host` says so, and the mirror never does; no secret has a default.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from common.errors import Invalid

PREFIX = "LONGSHORE_AGENT_"


class SettingsInvalid(Invalid):
    code = "settings_invalid"


class AgentSettings(BaseSettings):
    """Ports: 0 picks a free one, the same as last time if that is free.

    runtime: `auto` uses Docker and LXD, each from the moment when it first answers, `none` only holds contents,
    `memory` pretends. docker_network: Docker's network mode for every container; empty: the default bridge.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    server: str = Field(description="URL of the control plane")
    data: Path = Field(
        default=Path("/var/lib/longshore-agent"), description="directory of identity, contents and journal"
    )
    name: str = Field(
        default_factory=socket.gethostname, min_length=1, description="of this host; default: its host name"
    )
    join_token: SecretStr | None = Field(
        default=None, description="one-time token for the first start; others can read arguments, so rather a file"
    )
    join_token_file: Path | None = Field(default=None, description="file with the join token")
    runtime: Literal["auto", "docker", "lxd", "docker+lxd", "memory", "none"] = Field(
        default="auto",
        description="auto: Docker and LXD, each once it answers; none: hold contents only; memory: pretend to run",
    )
    docker_host: str = Field(default="unix:///var/run/docker.sock", description="URL of the Docker engine")
    docker_network: str = Field(
        default="", description="Docker's network mode for containers; empty: the default bridge"
    )
    lxd_socket: str = Field(
        default="", description="path of LXD's unix socket; empty: that of its snap or of Debian's package"
    )
    lxd_profile: str = Field(default="default", description="LXD's profile for instances")
    lxd_pool: str = Field(default="", description="LXD's storage pool for instances and volumes; empty: the profile's")
    lxd_network: str = Field(default="", description="LXD's network for instances; empty: the profile's")
    container_networks: str = Field(
        default="",
        description="networks of the engine that containers may ask for beside bridge and none, separated by commas; "
        "`host` is the host's own",
    )
    container_directories: str = Field(
        default="", description="directories of the host that containers may mount from, separated by colons"
    )
    allow_privileged: bool = Field(default=False, description="whether containers may ask for all privileges")
    listen_host: str = Field(default="127.0.0.1", description="address where BitTorrent peers reach this host")
    peer_port: int = Field(default=0, ge=0, le=65535, description="BitTorrent port; 0: a free one")
    move_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="where other hosts read instances that move away from here, while they do; 0: a free one",
    )
    mirror_port: int = Field(
        default=0, ge=0, le=65535, description="port of the registry mirror on loopback, for the engine; 0: a free one"
    )
    metrics_host: str = Field(default="127.0.0.1", description="address of /metrics and /healthz")
    metrics_port: int = Field(default=0, ge=0, le=65535, description="port of /metrics and /healthz; 0: a free one")
    etcd: str = Field(default="", description="etcd endpoints host:port, several separated by commas; empty: none")
    etcd_ca_file: Path | None = Field(default=None, description="certificate authority of etcd; default: no TLS")
    etcd_username: str | None = Field(default=None, description="with it, a password is needed")
    etcd_password: SecretStr | None = Field(default=None, description="of that user")
    cache_limit_bytes: int = Field(
        default=0, ge=0, description="most bytes of contents to hold; 0: as much as the disk takes"
    )
    cache_limit_percent: float = Field(
        default=0.0, ge=0, le=100, description="most of the disk of `data` to hold contents in; 0: no such limit"
    )
    cache_high_percent: float = Field(
        default=90.0, gt=0, le=100, description="of the limit: beyond it what is not assigned begins to leave"
    )
    cache_low_percent: float = Field(
        default=80.0, gt=0, le=100, description="of the limit: what is not assigned leaves until no more is held"
    )
    disk_reserve_bytes: int = Field(default=256 << 20, ge=0, description="stays free on the disk of `data`")
    swarm_tls: bool = Field(
        default=True, description="take swarms that use TLS, and no others; as `swarm.tls` of the control plane says"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least weight of a line"
    )
    log_style: Literal["console", "json"] = Field(
        default="console", description="for people, or one JSON object a line"
    )

    @field_validator("server")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if not re.match(r"https?://[^/\s]+", value):
            raise ValueError(f"{value[:80]!r} is not an http:// or https:// URL")
        return value.rstrip("/")

    @field_validator("container_directories")
    @classmethod
    def _are_absolute(cls, value: str) -> str:
        if any(not part.startswith("/") for part in filter(None, value.split(":"))):
            raise ValueError(f"{value[:200]!r} are not absolute paths")
        return value

    @field_validator("listen_host", "metrics_host")
    @classmethod
    def _is_address(cls, value: str) -> str:
        return str(ipaddress.ip_address(value))

    def peer_address(self, port: int) -> str:
        return f"[{self.listen_host}]:{port}" if ":" in self.listen_host else f"{self.listen_host}:{port}"

    @property
    def etcd_endpoints(self) -> tuple[str, ...]:
        return tuple(endpoint.strip() for endpoint in self.etcd.split(",") if endpoint.strip())

    @property
    def identity_dir(self) -> Path:
        return self.data / "identity"

    def read_join_token(self) -> str | None:
        """Raises `SettingsInvalid` if the file cannot be read."""
        if self.join_token is not None:
            return self.join_token.get_secret_value()
        if self.join_token_file is None:
            return None
        try:
            return self.join_token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsInvalid(
                f"the join token file {self.join_token_file} cannot be read", action="check --join-token-file"
            ) from error


def data_directory(option: Path | None, environment: Mapping[str, str] | None = None) -> Path:
    """As `load_settings` would find it; for who supervises an agent and needs to know no more."""
    names = os.environ if environment is None else environment  # noqa: TID251  the one place that reads it
    default: Path = AgentSettings.model_fields["data"].default
    return option or Path(names.get(f"{PREFIX}DATA") or default)


def load_settings(options: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> AgentSettings:
    """`options`: what the command line gave; None values were not given. Raises `SettingsInvalid`; it names the key."""
    names = os.environ if environment is None else environment  # noqa: TID251  the one place that reads it
    for name in names:
        if name.startswith(PREFIX) and name.removeprefix(PREFIX).lower() not in AgentSettings.model_fields:
            raise SettingsInvalid(f"{name} is no setting of the agent", action="see longshore-agent run --help")
    try:
        return AgentSettings(**{key: value for key, value in options.items() if value is not None})
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise SettingsInvalid("; ".join(lines), action="see longshore-agent run --help") from None
