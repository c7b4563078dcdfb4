"""The networks that are served: ranges, reservations, and what each network's answers say; pure and frozen.

Invariant: our own address, the routers and the network's ends are never handed out, and a reserved address never to
anybody but its owner, whatever the ranges cover.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Network

from regional.dhcp import options as o
from regional.dhcp.client import Client


@dataclass(frozen=True, slots=True)
class Pool:
    """From `first` to `last`, both included. `known_only`: for machines with a reservation of a name or a loader."""

    first: int
    last: int
    known_only: bool = False

    def __contains__(self, address: object) -> bool:
        return isinstance(address, int) and self.first <= address <= self.last

    def __len__(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Reservation:
    """A machine that is known: by MAC, UUID (16 bytes) or client identifier. `address` None: one of the pools."""

    mac: str = ""
    uuid: bytes = b""
    client_id: bytes = b""
    address: int | None = None
    host_name: str = ""


@dataclass(frozen=True, eq=False)
class Subnet:
    """`interface` empty: reached by relays alone. `server` is option 54 and, for TFTP, the next server. `options` are
    ready to send, without the lease's own. Seconds: `firmware_seconds` for stages that boot, `lease_seconds` else.
    `proxy`: another server gives addresses here, we only boot files. `probe`: ask the network before an address is
    offered. `circuit_limit`: leases of one relay port; 0: any. `answer_ipv6`: tell who asks that there
    is no IPv6 router. `others`: DHCP servers that may be there besides.
    `keep_percent`: of the addresses that anybody may have, how many are kept for machines that are known.
    """

    network: IPv4Network
    server: int
    interface: str = ""
    pools: Sequence[Pool] = ()
    reservations: Sequence[Reservation] = ()
    routers: Sequence[int] = ()
    options: Mapping[int, bytes] = field(default_factory=dict)
    lease_seconds: int = 43200
    firmware_seconds: int = 300
    authoritative: bool = False
    proxy: bool = False
    probe: bool = False
    circuit_limit: int = 0
    answer_ipv6: bool = False
    others: frozenset[int] = frozenset()
    keep_percent: int = 0

    def __contains__(self, address: object) -> bool:
        return isinstance(address, int) and (address & self._mask) == self._base

    def reservation_of(self, client: Client, identifier: bytes | None) -> Reservation | None:
        """MAC first, as everywhere."""
        if not self.reservations:
            return None
        found = self._by_mac.get(client.mac)
        if found is None and client.uuid is not None:
            found = self._by_uuid.get(client.uuid)
        if found is None and identifier:
            found = self._by_client_id.get(identifier)
        return found

    def reserves(self, mac: str) -> bool:
        return mac in self._by_mac

    def offerable(self, address: int) -> bool:
        """By anybody's pool: inside one, and nobody's own."""
        return address not in self._taken and any(address in pool for pool in self.pools)

    def pool_of(self, address: int) -> Pool | None:
        return next((pool for pool in self.pools if address in pool), None)

    def is_open(self, address: int) -> bool:
        """Whether machines that nobody knows may have it."""
        pool = self.pool_of(address)
        return pool is not None and not pool.known_only and address not in self._taken

    @cached_property
    def for_strangers(self) -> int:
        """How many addresses they may have together."""
        every = sum(len(pool) for pool in self.pools if not pool.known_only)
        every -= sum(each in pool for each in self._taken for pool in self.pools if not pool.known_only)
        return every - every * self.keep_percent // 100

    @cached_property
    def never(self) -> frozenset[int]:
        """Addresses of ours, of routers, and the ends of the network."""
        ends = {self._base, self._base | ~self._mask & 0xFFFFFFFF} if self.network.prefixlen < 31 else set()
        return frozenset({self.server, *self.routers, *ends})

    @cached_property
    def _taken(self) -> frozenset[int]:
        return self.never | {each.address for each in self.reservations if each.address is not None}

    @cached_property
    def _mask(self) -> int:
        return int(self.network.netmask)

    @cached_property
    def _base(self) -> int:
        return int(self.network.network_address)

    @cached_property
    def _by_mac(self) -> dict[str, Reservation]:
        return {each.mac: each for each in self.reservations if each.mac}

    @cached_property
    def _by_uuid(self) -> dict[bytes, Reservation]:
        return {each.uuid: each for each in self.reservations if each.uuid}

    @cached_property
    def _by_client_id(self) -> dict[bytes, Reservation]:
        return {each.client_id: each for each in self.reservations if each.client_id}


@dataclass(frozen=True)
class Subnets:
    every: Sequence[Subnet]

    def find(self, interface: str, relay: int, selected: int) -> Subnet | None:
        """`selected`: option 82.5 or 118 (RFC 3527, 3011), stronger than `relay` (giaddr), stronger than where it came
        in; 0 for absent. A link that is named and not ours is nobody's: no guess.
        """
        if link := selected or relay:
            return next((subnet for subnet in self.every if link in subnet), None)
        return next((subnet for subnet in self.every if subnet.interface == interface), None)

    def holding(self, address: int) -> Subnet | None:
        return next((subnet for subnet in self.every if address in subnet), None)

    @property
    def interfaces(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(subnet.interface for subnet in self.every if subnet.interface))


def fixed_options(
    network: IPv4Network,
    routers: Sequence[int] = (),
    dns: Sequence[int] = (),
    ntp: Sequence[int] = (),
    domain: str = "",
    search: Sequence[str] = (),
    mtu: int = 0,
    routes: Sequence[tuple[int, int, int]] = (),
    more: Mapping[int, bytes] | None = None,
) -> dict[int, bytes]:
    """What every answer in this network may hold, encoded once. `more` wins. Raises `OptionInvalid`."""
    found = {
        o.SUBNET_MASK: o.address(int(network.netmask)),
        o.ROUTERS: o.addresses(routers),
        o.DNS: o.addresses(dns),
        o.DOMAIN: domain.encode("ascii", "replace"),
        o.BROADCAST: o.address(int(network.broadcast_address)),
        o.NTP: o.addresses(ntp),
        o.MTU: mtu.to_bytes(2, "big") if mtu else b"",
        o.SEARCH: o.search_list(search),
        # A client that reads 121 must not read 3 (RFC 3442), so the default route stands in both.
        o.ROUTES: o.classless_routes([*routes, *((0, 0, router) for router in routers[:1])] if routes else []),
    }
    return {code: value for code, value in {**found, **(more or {})}.items() if value}
