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
from common.water_marks import WaterMarks, limit_of

PREFIX = "LONGSHORE_REGIONAL_"
_IDC = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class SettingsInvalid(Invalid):
    code = "settings_invalid"


class RegionalSettings(BaseSettings):
    """`server` absent: files only, for an IDC without a control plane. Ports: 0 picks a free one."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    idc: str = Field(description="name of the data centre")
    server: str | None = Field(default=None, description="URL of the control plane; default: none, serve files only")
    data: Path = Field(
        default=Path("/var/lib/longshore-regional"), description="directory of identity, cache and journal"
    )
    server_ip: str = Field(default="127.0.0.1", description="address to listen on, and that agents and machines dial")
    api_port: int = Field(default=8081, ge=0, le=65535, description="HTTP port of files and tracker; 0: a free one")
    content_port: int = Field(default=0, ge=0, le=65535, description="HTTPS port of contents; 0: a free one")
    registry_port: int = Field(
        default=0, ge=0, le=65535, description="HTTPS port of the registry /v2, for engines of the IDC; 0: a free one"
    )
    registry_logins: Literal["centre", "edge"] = Field(
        default="centre",
        description="where clients of /v2 get their tokens: at the centre itself, or through this regional",
    )
    registry_keep_hours: float = Field(
        default=72.0, gt=0, le=8760, description="how long the centre's answers count for /v2 while it is away"
    )
    names: str = Field(
        default="", description="DNS names of this regional for its certificate, several separated by commas"
    )
    peer_port: int = Field(default=0, ge=0, le=65535, description="BitTorrent port; 0: a free one")
    static_root: Path = Field(
        default=Path("/tftpboot"), description="directory of /static/ and /repos/, created if need be"
    )
    settle_seconds: float = Field(
        default=2.0,
        ge=0,
        le=600,
        description="how long a new file counts as being written where the kernel does not tell (NFS, foreign files)",
    )
    mirrors: str = Field(
        default="",
        description="package repositories read through beneath /repos/: `debian/12=http://host/debian`, several "
        "separated by commas",
    )
    mirror_cache_bytes: int = Field(
        default=50 << 30, ge=1 << 20, description="most bytes of them to hold, in `data`; also of one file"
    )
    mirror_fresh_seconds: float = Field(
        default=60.0, ge=0, le=86400, description="how long their indices are served without asking; packages: for ever"
    )
    mirror_at_once: int = Field(default=16, ge=1, le=256, description="most files fetched from upstreams at once")
    allow_clients: str = Field(
        default="",
        description="networks whose clients may use the open listener, `10.0.0.0/8`, several separated by commas; "
        "default: all",
    )
    client_bytes_per_second: int = Field(
        default=0, ge=0, description="most bytes of files a second to one client; 0: no limit"
    )
    client_requests: int = Field(
        default=256, ge=1, le=65536, description="most requests of one client that are answered at once"
    )
    tls_port: int = Field(
        default=8443, ge=0, le=65535, description="HTTPS port of the same routes, where there is a certificate; 0: free"
    )
    tls_cert_file: Path | None = Field(
        default=None, description="certificate chain (PEM) of the open listener's HTTPS; default: no HTTPS"
    )
    tls_key_file: Path | None = Field(default=None, description="its key (PEM); default: in the certificate's file")
    name: str | None = Field(default=None, description="of this regional; default: `regional-<idc>`")
    join_token: SecretStr | None = Field(
        default=None, description="one-time token for the first start; others can read arguments, so rather a file"
    )
    join_token_file: Path | None = Field(default=None, description="file with the join token")
    etcd: str = Field(default="", description="etcd endpoints host:port, several separated by commas; empty: none")
    etcd_ca_file: Path | None = Field(default=None, description="certificate authority of etcd; default: no TLS")
    etcd_username: str | None = Field(default=None, description="with it, a password is needed")
    etcd_password: SecretStr | None = Field(default=None, description="of that user")
    interface: str = Field(
        default="eth1", description="network interface of proxyDHCP, where no `dhcp_config` says more"
    )
    enable_dhcp: bool = Field(default=False, description="answer DHCP and PXE requests, as `dhcp_config` says")
    dhcp_config: Path | None = Field(
        default=None, description="TOML file of networks; default: boot files only (proxyDHCP), on `interface`"
    )
    enable_tftp: bool = Field(default=False, description="serve `static_root` by TFTP, read only")
    tftp_port: int = Field(default=69, ge=0, le=65535, description="UDP port of TFTP; 0: a free one")
    tftp_block_bytes: int = Field(
        default=1468,
        ge=512,
        le=65464,
        description="largest block; less where tunnels narrow the way, such as 1428 for VXLAN, 1448 for IPv6",
    )
    tftp_window_blocks: int = Field(
        default=64, ge=1, le=1024, description="most blocks that leave before one is acknowledged, for who asks"
    )
    tftp_rollover: int = Field(default=0, ge=0, le=1, description="number of the block after 65535")
    tftp_transfers: int = Field(default=2000, ge=1, le=20000, description="most transfers at once")
    tftp_transfers_per_client: int = Field(default=32, ge=1, description="most of them to one address")
    tftp_single_port: bool = Field(
        default=False, description="send from the listening port, for networks that let no other pass"
    )
    boot_strangers: Literal["local", "discover"] = Field(
        default="local",
        description="what machines boot that the control plane does not know, or that nobody accepted there yet: their "
        "disk, or the installer environment, which reports what they are and changes nothing",
    )
    installs_at_once: int = Field(
        default=20, ge=0, le=10_000, description="most machines that install at once, the others wait; 0: no limit"
    )
    installer_kernel: str = Field(
        default="kernels/longshore-installer", description="kernel of the installer environment, below `/static`"
    )
    installer_initrd: str = Field(
        default="initramfs/longshore-installer.gz", description="its initramfs, below `/static`; empty: none"
    )
    installer_arguments: str = Field(default="", description="further arguments for its kernel, such as a console")
    bmc_network: str = Field(
        default="",
        description="networks of machines' management controllers (BMC), `10.20.0.0/24`, several separated by commas; "
        "default: none, nobody's power is touched",
    )
    bmc_ca_file: Path | None = Field(
        default=None, description="authorities of BMCs' certificates that are not pinned; default: this system's"
    )
    bmc_at_once: int = Field(default=8, ge=1, le=64, description="most BMCs spoken with at once, a process each")
    cache_limit_bytes: int = Field(
        default=0, ge=0, description="most bytes of contents to hold; 0: as much as the disk takes"
    )
    cache_limit_percent: float = Field(
        default=0.0, ge=0, le=100, description="most of the disk of `data` to hold contents in; 0: no such limit"
    )
    cache_high_percent: float = Field(
        default=90.0, gt=0, le=100, description="of the limit: beyond it what is not ordered begins to leave"
    )
    cache_low_percent: float = Field(
        default=80.0, gt=0, le=100, description="of the limit: what is not ordered leaves until no more is held"
    )
    swarm_tls: bool = Field(
        default=True, description="take swarms that use TLS, and no others; as `swarm.tls` of the control plane says"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least weight of a line"
    )
    log_style: Literal["console", "json"] = Field(
        default="console", description="for people, or one JSON object a line"
    )

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

    def water_marks(self, disk_bytes: int) -> WaterMarks:
        """`disk_bytes`: size of the disk of `data`. Raises `WaterMarksInvalid`."""
        limit = limit_of(self.cache_limit_bytes, self.cache_limit_percent, disk_bytes)
        return WaterMarks(limit, self.cache_high_percent, self.cache_low_percent)

    @property
    def certificate_names(self) -> tuple[str, ...]:
        """What clients may dial: the address, and DNS names."""
        return (self.server_ip, *(name.strip() for name in self.names.split(",") if name.strip()))

    @property
    def url_host(self) -> str:
        return f"[{self.server_ip}]" if ":" in self.server_ip else self.server_ip

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
