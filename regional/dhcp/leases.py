"""Which address belongs to whom, in memory; pure, time is an argument (monotonic seconds, so clock steps do nothing).

Invariant: an address has one holder at a time; a reserved one only its owner; a declined one nobody until its
quarantine ends; what is kept for known machines no client that somebody invented. An offer is a short lease that no
disk knows; `grant` makes it a lease that the caller makes durable before it tells the client.
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from regional.dhcp.subnets import Pool, Subnet, Subnets

OFFER_SECONDS = 30.0
QUARANTINE_SECONDS = 1800.0


class State(StrEnum):
    OFFERED = "offered"
    LEASED = "leased"
    DECLINED = "declined"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Lease:
    """`client` is empty for a declined address. `expires`: monotonic seconds."""

    address: int
    client: bytes
    state: State
    expires: float
    seconds: float
    circuit: bytes = b""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client asks for. `reserved`: the address that is its own, if any; `known`: it may use pools of known
    machines.
    """

    client: bytes
    reserved: int | None = None
    requested: int = 0
    known: bool = False
    circuit: bytes = b""


class LeaseBook:
    def __init__(self, subnets: Subnets) -> None:
        self._subnets = subnets
        self._by_address: dict[int, Lease] = {}
        # The last address of a client in a subnet, also when its lease is over: it gets it again if nobody else has it.
        self._last: dict[tuple[Subnet, bytes], int] = {}
        self._expiries: list[tuple[float, int]] = []
        self._fresh: dict[Pool, Iterator[int]] = {}
        # Addresses whose lease is over and who had them, longest ago first.
        self._freed: dict[Subnet, OrderedDict[int, bytes]] = {subnet: OrderedDict() for subnet in subnets.every}
        self._circuits: Counter[tuple[Subnet, bytes]] = Counter()
        # Addresses in use of those that anybody may have.
        self._open: Counter[Subnet] = Counter()
        for subnet in subnets.every:
            for pool in subnet.pools:
                self._fresh[pool] = iter(range(pool.first, pool.last + 1))

    def __len__(self) -> int:
        return len(self._by_address)

    def every(self) -> Iterable[Lease]:
        return self._by_address.values()

    def at(self, address: int, now: float) -> Lease | None:
        """Who has it now; None if it is free."""
        lease = self._by_address.get(address)
        return lease if lease is not None and lease.expires > now else None

    def of(self, subnet: Subnet, client: bytes, now: float) -> Lease | None:
        lease = self.at(self._last.get((subnet, client), 0), now)
        return lease if lease is not None and lease.client == client else None

    def may_hold(self, subnet: Subnet, wish: Wish, address: int, now: float) -> bool:
        """Whether `address` can be this client's, now or still."""
        if address not in subnet or address in subnet.never:
            return False
        if address != wish.reserved and not self._in_pool(subnet, wish, address):
            return False
        lease = self.at(address, now)
        return lease is None or (lease.client == wish.client and lease.state is not State.DECLINED)

    def offer(self, subnet: Subnet, wish: Wish, now: float, seconds: float = OFFER_SECONDS) -> Lease | None:
        """Its own address, else the one it had, else the one it asks for, else one that nobody used, else the one that
        is free for longest. None: there is none. A lease that runs is offered as it is.
        """
        self.expire(now)
        address = self._choose(subnet, wish, now)
        if address is None:
            return None
        lease = self.at(address, now)
        if lease is not None:
            return lease
        return self._put(subnet, Lease(address, wish.client, State.OFFERED, now + seconds, seconds, wish.circuit))

    def grant(self, subnet: Subnet, wish: Wish, address: int, seconds: float, now: float) -> Lease | None:
        """None if it may not be this client's. What else the client held in this subnet is let go."""
        self.expire(now)
        if not self.may_hold(subnet, wish, address, now):
            return None
        if self.at(address, now) is None and address != wish.reserved and self.crowded(subnet, wish):
            return None
        return self._put(subnet, Lease(address, wish.client, State.LEASED, now + seconds, seconds, wish.circuit))

    def crowded(self, subnet: Subnet, wish: Wish) -> bool:
        """Whether what is left is kept for others than this client."""
        return bool(subnet.keep_percent) and not wish.known and self._open[subnet] >= subnet.for_strangers

    def undo(self, subnet: Subnet, lease: Lease, before: Lease | None, now: float) -> None:
        """`lease` could not be made durable: what was before holds again, or a short offer to the same client."""
        if self._by_address.get(lease.address) is lease:
            again = before or Lease(lease.address, lease.client, State.OFFERED, now + 1.0, 1.0, lease.circuit)
            self._put(subnet, again)

    def decline(self, subnet: Subnet, address: int, now: float, seconds: float = QUARANTINE_SECONDS) -> Lease:
        """Somebody else answers at `address`: nobody gets it for a while."""
        return self._put(subnet, Lease(address, b"", State.DECLINED, now + seconds, seconds))

    def withdraw(self, subnet: Subnet, client: bytes, now: float) -> None:
        """The client took another server's offer: ours is free at once."""
        lease = self.of(subnet, client, now)
        if lease is not None and lease.state is State.OFFERED:
            self._drop(lease)

    def release(self, subnet: Subnet, client: bytes, address: int, now: float) -> Lease | None:
        """None if it was not this client's."""
        lease = self.at(address, now)
        if lease is None or lease.client != client or lease.state is not State.LEASED:
            return None
        ended = Lease(address, client, State.RELEASED, now, 0.0, lease.circuit)
        self._put(subnet, ended)
        self.expire(now)
        return ended

    def restore(self, leases: Iterable[Lease], now: float) -> int:
        """What a journal knew; returns how many of them run. Addresses that no subnet holds any more are forgotten."""
        for lease in leases:
            if (subnet := self._subnets.holding(lease.address)) is not None and lease.address not in subnet.never:
                self._put(subnet, lease)
        self.expire(now)
        return len(self._by_address)

    def expire(self, now: float) -> None:
        heap = self._expiries
        while heap and heap[0][0] <= now:
            _, address = heapq.heappop(heap)
            lease = self._by_address.get(address)
            if lease is not None and lease.expires <= now:
                self._drop(lease)
        # Renewals leave their old entries behind.
        if len(heap) > 1024 and len(heap) > 4 * len(self._by_address):
            self._expiries = [(lease.expires, lease.address) for lease in self._by_address.values()]
            heapq.heapify(self._expiries)

    def _choose(self, subnet: Subnet, wish: Wish, now: float) -> int | None:
        had = self._last.get((subnet, wish.client), 0)
        for address in (wish.reserved, had, wish.requested):
            if address and self.may_hold(subnet, wish, address, now):
                if self.at(address, now) is None and self._refused(subnet, wish):
                    return None
                return address
        if self._refused(subnet, wish):
            return None
        return self._unused(subnet, wish, now) or self._longest_free(subnet, wish, now)

    def _unused(self, subnet: Subnet, wish: Wish, now: float) -> int | None:
        for pool in subnet.pools:
            if pool.known_only and not wish.known:
                continue
            for address in self._fresh[pool]:
                if address not in self._freed[subnet] and subnet.offerable(address) and self.at(address, now) is None:
                    return address
        return None

    def _longest_free(self, subnet: Subnet, wish: Wish, now: float) -> int | None:
        return next((each for each in self._freed[subnet] if self.may_hold(subnet, wish, each, now)), None)

    def _in_pool(self, subnet: Subnet, wish: Wish, address: int) -> bool:
        pool = subnet.pool_of(address)
        return pool is not None and subnet.offerable(address) and (wish.known or not pool.known_only)

    def _refused(self, subnet: Subnet, wish: Wish) -> bool:
        """Whether it gets no further address: its relay's port has too many, or the rest is kept for others."""
        limit = subnet.circuit_limit
        full = limit and wish.circuit and self._circuits[subnet, wish.circuit] >= limit
        return bool(full) or self.crowded(subnet, wish)

    def _put(self, subnet: Subnet, lease: Lease) -> Lease:
        if (before := self._by_address.get(lease.address)) is not None:
            self._uncount(subnet, before)
        elif subnet.is_open(lease.address):
            self._open[subnet] += 1
        if lease.client:
            self._move(subnet, lease)
        self._by_address[lease.address] = lease
        former = self._freed[subnet].pop(lease.address, lease.client)
        if former != lease.client and self._last.get((subnet, former)) == lease.address:
            # Its address is somebody else's now; nothing is kept of clients without one, however many there were.
            del self._last[subnet, former]
        if lease.circuit:
            self._circuits[subnet, lease.circuit] += 1
        heapq.heappush(self._expiries, (lease.expires, lease.address))
        return lease

    def _move(self, subnet: Subnet, lease: Lease) -> None:
        """One client, one lease a subnet: the other ends when this one begins, and not for an offer."""
        held = self._by_address.get(self._last.get((subnet, lease.client), 0))
        if held is not None and held.client == lease.client and held.address != lease.address:
            if (
                lease.state is State.OFFERED
                and held.state is State.LEASED
                and held.expires > lease.expires - lease.seconds
            ):
                return
            self._drop(held)
        self._last[subnet, lease.client] = lease.address

    def _drop(self, lease: Lease) -> None:
        del self._by_address[lease.address]
        if (subnet := self._subnets.holding(lease.address)) is not None:
            self._uncount(subnet, lease)
            if subnet.is_open(lease.address):
                self._open[subnet] -= 1
            self._freed[subnet][lease.address] = lease.client

    def _uncount(self, subnet: Subnet, lease: Lease) -> None:
        if lease.circuit:
            self._circuits[subnet, lease.circuit] -= 1
            if self._circuits[subnet, lease.circuit] <= 0:
                del self._circuits[subnet, lease.circuit]
