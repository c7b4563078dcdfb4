"""The whole configuration of a regional: frozen, read once; an unknown key is an error.

Order, strongest first: options of the command line, environment (`LONGSHORE_REGIONAL_...`). Nothing listens beyond
loopback unless `server_ip` says so, and no secret has a default.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from common.errors import Invalid

PREFIX = "LONGSHORE_REGIONAL_"
_IDC = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class SettingsInvalid(Invalid):
    code = "settings_invalid"


class RegionalSettings(BaseSettings):
    """`server` absent: files only, for an IDC without a control plane. Ports: 0 picks a free one."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    idc: str
    server: str | None = None
    data: Path = Path("/var/lib/longshore-regional")
    server_ip: str = "127.0.0.1"
    api_port: int = Field(default=8081, ge=0, le=65535)
    content_port: int = Field(default=0, ge=0, le=65535)
    peer_port: int = Field(default=0, ge=0, le=65535)
    static_root: Path = Path("/tftpboot")
    name: str | None = None
    join_token: SecretStr | None = None
    join_token_file: Path | None = None
    etcd: str = ""  # host:port, several separated by commas
    etcd_ca_file: Path | None = None
    etcd_username: str | None = None
    etcd_password: SecretStr | None = None
    interface: str = "eth1"
    cache_limit_bytes: int = Field(default=0, ge=0)  # 0: as much as the disk holds
    swarm_threshold_bytes: int = Field(default=1 << 20, ge=0)  # the centre makes no metainfo for smaller contents
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_style: Literal["console", "json"] = "console"

    @field_validator("idc")
    @classmethod
    def _is_idc(cls, value: str) -> str:
        if not _IDC.fullmatch(value):
            raise ValueError(f"{value[:80]!r} is not an IDC name: lower-case letters, digits and - inside")
        return value

    @field_validator("server_ip")
    @classmethod
    def _is_address(cls, value: str) -> str:
        address = ipaddress.ip_address(value)
        if address.is_unspecified:
            raise ValueError("agents dial this address; name the one address of this machine in the IDC")
        return str(address)

    @field_validator("server")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"https?://[^/\s]+", value):
            raise ValueError(f"{value[:80]!r} is not an http:// or https:// URL")
        return value

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


def load_settings(options: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> RegionalSettings:
    """`options`: what the command line gave; None values were not given. Raises `SettingsInvalid`; it names the key."""
    names = os.environ if environment is None else environment  # noqa: TID251  the one place that reads it
    for name in names:
        if name.startswith(PREFIX) and name.removeprefix(PREFIX).lower() not in RegionalSettings.model_fields:
            raise SettingsInvalid(f"{name} is no setting of the regional", action="see longshore-regional --help")
    try:
        return RegionalSettings(**{key: value for key, value in options.items() if value is not None})
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise SettingsInvalid("; ".join(lines), action="see longshore-regional --help") from None
