"""The file that says what DHCP serves (TOML): networks, reservations, loaders, limits. An unknown key is an error.

Invariant: what is loaded makes sense as a whole: ranges lie in their network and apart, no address is reserved twice,
no interface has two networks.
"""

from __future__ import annotations

import tomllib
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from common.errors import Invalid
from regional.boot_targets import LOADERS, BootMap, Firmware, mac_of
from regional.dhcp.options import OptionInvalid
from regional.dhcp.rates import Rate
from regional.dhcp.subnets import Pool, Reservation, Subnet, Subnets, fixed_options

# Larger ones are probed only if the file says so: half a second for each new machine, and an ARP for each.
_PROBED_POOL = 1024


class DhcpConfigurationInvalid(Invalid):
    code = "dhcp_configuration_invalid"


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _mac(value: str) -> str:
    found = mac_of(value)
    if found is None:
        raise ValueError(f"{value[:40]!r} is no MAC address such as 52:54:00:12:34:56")
    return found


class PoolEntry(_Entry):
    first: IPv4Address
    last: IPv4Address
    known_only: bool = False


class ReservationEntry(_Entry):
    mac: str = ""
    uuid: UUID | None = None
    client_id: str = Field(default="", description="hex")
    address: IPv4Address | None = None
    host_name: str = Field(default="", pattern=r"^([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)?$")

    @field_validator("mac")
    @classmethod
    def _is_mac(cls, value: str) -> str:
        return _mac(value) if value else value

    @model_validator(mode="after")
    def _names_somebody(self) -> ReservationEntry:
        bytes.fromhex(self.client_id)
        if not (self.mac or self.uuid or self.client_id):
            raise ValueError("a reservation needs mac, uuid or client_id")
        return self

    def reservation(self) -> Reservation:
        return Reservation(
            self.mac,
            self.uuid.bytes if self.uuid else b"",
            bytes.fromhex(self.client_id),
            int(self.address) if self.address else None,
            self.host_name,
        )


class RouteEntry(_Entry):
    to: IPv4Network
    via: IPv4Address


class SubnetEntry(_Entry):
    network: IPv4Network
    interface: str = ""
    server: IPv4Address | None = None
    pools: list[PoolEntry] = []
    reservations: list[ReservationEntry] = []
    routers: list[IPv4Address] = []
    dns: list[IPv4Address] = []
    ntp: list[IPv4Address] = []
    domain: str = ""
    search: list[str] = []
    mtu: int = Field(default=0, ge=0, le=65535)
    routes: list[RouteEntry] = []
    options: dict[int, str] = Field(default={}, description="code: text, or hex after 0x")
    lease_seconds: int = Field(default=43200, ge=60, le=31536000)
    firmware_seconds: int = Field(default=300, ge=30, le=86400)
    authoritative: bool = False
    proxy: bool = False
    probe: bool | None = None
    circuit_limit: int = Field(default=0, ge=0)
    keep_percent: int = Field(default=10, ge=0, le=100)
    answer_ipv6: bool = False
    other_servers: list[IPv4Address] = []

    @model_validator(mode="after")
    def _fits(self) -> SubnetEntry:
        end = -1
        for pool in sorted(self.pools, key=lambda each: int(each.first)):
            if pool.first not in self.network or pool.last not in self.network or pool.first > pool.last:
                raise ValueError(f"the pool {pool.first}-{pool.last} is not a range of {self.network}")
            if int(pool.first) <= end:
                raise ValueError(f"the pool {pool.first}-{pool.last} covers another one")
            end = int(pool.last)
        addresses = [each.address for each in self.reservations if each.address]
        for address in addresses:
            if address not in self.network:
                raise ValueError(f"{address} is reserved, and not in {self.network}")
        if len(set(addresses)) != len(addresses):
            raise ValueError(f"an address of {self.network} is reserved twice")
        if any(not 0 < code < 255 for code in self.options):
            raise ValueError("codes of options are 1 to 254")
        return self

    def subnet(self, server: IPv4Address) -> Subnet:
        """`server`: our address where the file names none. Raises `OptionInvalid`."""
        routers = [int(each) for each in self.routers]
        size = sum(int(pool.last) - int(pool.first) + 1 for pool in self.pools)
        return Subnet(
            self.network,
            int(self.server or server),
            self.interface,
            [Pool(int(pool.first), int(pool.last), pool.known_only) for pool in self.pools],
            [each.reservation() for each in self.reservations],
            routers,
            fixed_options(
                self.network,
                routers,
                [int(each) for each in self.dns],
                [int(each) for each in self.ntp],
                self.domain,
                self.search,
                self.mtu,
                [(int(each.to.network_address), each.to.prefixlen, int(each.via)) for each in self.routes],
                {code: _option(text) for code, text in self.options.items()},
            ),
            self.lease_seconds,
            self.firmware_seconds,
            self.authoritative,
            self.proxy,
            size <= _PROBED_POOL if self.probe is None else self.probe,
            self.circuit_limit,
            self.answer_ipv6,
            frozenset(int(each) for each in self.other_servers),
            self.keep_percent,
        )


class BootEntry(_Entry):
    http: str = ""
    script: str = ""
    loaders: dict[Firmware, str] = {}
    machines: dict[str, dict[Firmware, str]] = {}
    makers: dict[str, dict[Firmware, str]] = Field(default={}, description="by the first three bytes of a MAC")
    architectures: dict[int, str] = Field(default={}, description="by number of option 93")

    @field_validator("makers")
    @classmethod
    def _are_makers(cls, value: dict[str, dict[Firmware, str]]) -> dict[str, dict[Firmware, str]]:
        return {_mac(f"{begin}-00-00-00".replace(":", "-"))[:8]: loaders for begin, loaders in value.items()}

    @field_validator("machines")
    @classmethod
    def _are_macs(cls, value: dict[str, dict[Firmware, str]]) -> dict[str, dict[Firmware, str]]:
        return {_mac(mac): loaders for mac, loaders in value.items()}


class LimitsEntry(_Entry):
    """A second; 0: no limit. `client`: packets of one MAC; `interface`: of one interface; `newcomers`: clients without
    a lease from one interface or relay port.
    """

    client: float = Field(default=5, ge=0)
    interface: float = Field(default=10_000, ge=0)
    newcomers: float = Field(default=200, ge=0)

    @property
    def of_client(self) -> Rate:
        return Rate(self.client, 4 * self.client)

    @property
    def of_interface(self) -> Rate:
        return Rate(self.interface, self.interface)

    @property
    def of_newcomers(self) -> Rate:
        # A rack that gets its power back comes at once.
        return Rate(self.newcomers, 10 * self.newcomers)


class DhcpFile(_Entry):
    """`ask_for_others_seconds`: how often it is asked whether another DHCP server answers; 0: only listened."""

    subnets: list[SubnetEntry] = []
    boot: BootEntry = BootEntry()
    limits: LimitsEntry = LimitsEntry()
    ask_for_others_seconds: float = Field(default=300, ge=0, le=86400)

    @model_validator(mode="after")
    def _apart(self) -> DhcpFile:
        if not self.subnets:
            raise ValueError("it names no subnet")
        for number, subnet in enumerate(self.subnets):
            for other in self.subnets[:number]:
                if subnet.network.overlaps(other.network):
                    raise ValueError(f"{subnet.network} and {other.network} overlap")
                if subnet.interface and subnet.interface == other.interface:
                    raise ValueError(f"{subnet.interface} has two networks; one of them is for relays, without it")
        return self

    def subnet_set(self, server: IPv4Address) -> Subnets:
        """Raises `DhcpConfigurationInvalid`."""
        try:
            return Subnets([each.subnet(server) for each in self.subnets])
        except OptionInvalid as failure:
            raise DhcpConfigurationInvalid(f"the DHCP configuration: {failure}") from failure

    def boot_map(self, base: str) -> BootMap:
        """`base`: URL of this regional's open listener."""
        boot = self.boot
        return BootMap(
            boot.http or base,
            boot.script or f"{base}/boot/{{mac}}.ipxe",
            loaders={**LOADERS, **boot.loaders},
            machines=boot.machines,
            makers=boot.makers,
            numbers=boot.architectures,
        )


def load_file(path: Path) -> DhcpFile:
    """Blocking. Raises `DhcpConfigurationInvalid`; it names the key."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        return DhcpFile.model_validate(document)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DhcpConfigurationInvalid(
            f"the DHCP configuration {path} cannot be read: {error}", action="check --dhcp-config"
        ) from error
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, item['loc'])) or 'the file'}: {item['msg']}" for item in error.errors()]
        raise DhcpConfigurationInvalid(f"{path}: {'; '.join(lines)}", action="see docs/operations/dhcp.md") from None


def proxy_on(interface: str) -> DhcpFile:
    """Without a file: boot files for who asks on one interface, and no address for anybody."""
    return DhcpFile(subnets=[SubnetEntry(network=IPv4Network("0.0.0.0/0"), interface=interface, proxy=True)])


def _option(text: str) -> bytes:
    try:
        return bytes.fromhex(text[2:]) if text.startswith("0x") else text.encode()
    except ValueError:
        raise OptionInvalid(f"{text[:40]!r} is not hex") from None
