"""One direction of one line, shared by everything that sends or receives over it: HTTP bodies ask and wait, a
BitTorrent engine is told its part and what it moved is charged.

Invariants: together they keep the link's limit and each tenant's within it; lower effort gets what the foreground
leaves, and a small share while the foreground wants all (`rates.lower_rate`); nothing here polls: a taker sleeps for
exactly the time that its bytes need. Without a limit and without foreground nothing is delayed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from common.clock import Clock
from common.limits import LinkRates
from common.rates import UNLIMITED, Meter, TokenBucket, engine_rate, lower_rate

# How much one taker may have at a time: 20 ms of the line, so that many take turns.
_TURN_SECONDS = 0.02
_LEAST_TURN = 16 << 10
_LARGEST_TURN = 1 << 20
# A foreground that moves less than this and has no flow open is none.
_FOREGROUND_BYTES = 64 << 10


class Line:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._whole = TokenBucket(now=clock.monotonic())
        self._lower = TokenBucket(now=clock.monotonic())
        self._tenants: dict[str, TokenBucket] = {}
        self._foreground = Meter()
        self._asked = Meter()
        self._flows = 0
        self._waiting = 0

    def set_rates(self, rates: LinkRates) -> None:
        """Bytes per second; 0: no limit. In force from the next bytes on."""
        now = self._clock.monotonic()
        self._whole.set_rate(rates.whole or UNLIMITED, now)
        wanted = rates.tenants or {}
        self._tenants = {tenant: self._tenants.get(tenant, TokenBucket(now=now)) for tenant in wanted}
        for tenant, rate in wanted.items():
            self._tenants[tenant].set_rate(rate or UNLIMITED, now)

    @contextmanager
    def flow(self, *, lower: bool = False) -> Iterator[None]:
        """Something wants this line. Lower effort gives way while any other flow is open."""
        if lower:
            yield
            return
        if not self._flows and self._whole.limited:
            self._foreground.expect(self._clock.monotonic(), self._whole.rate)
        self._flows += 1
        try:
            yield
        finally:
            self._flows -= 1

    async def take(self, amount: int, tenant_id: str = "", *, lower: bool = False) -> None:
        """Returns when so many bytes may pass."""
        while amount > 0:
            turn = min(amount, self._turn(tenant_id, lower=lower))
            amount -= turn
            self._waiting += 1
            try:
                for bucket in self._buckets(tenant_id, lower=lower):
                    seconds = bucket.reserve(self._clock.monotonic(), turn)
                    if seconds > 0:
                        await self._clock.sleep(seconds)
            finally:
                self._waiting -= 1
            now = self._clock.monotonic()
            self._asked.add(now, turn)
            if not lower:
                self._foreground.add(now, turn)

    def charge(self, amount: int, tenant_id: str = "", *, lower: bool = False) -> None:
        """The engine has moved so much."""
        now = self._clock.monotonic()
        self._whole.charge(now, amount)
        if tenant_id in self._tenants:
            self._tenants[tenant_id].charge(now, amount)
        if not lower:
            self._foreground.add(now, amount)

    def engine_rate(self) -> float:
        """What the engine may move of the whole line."""
        now = self._clock.monotonic()
        return engine_rate(self._whole.rate, self._asked.rate(now), others_wait=self._waiting > 0)

    def tenant_rate(self, tenant_id: str) -> float:
        bucket = self._tenants.get(tenant_id)
        return bucket.rate if bucket is not None else UNLIMITED

    def lower_rate(self) -> float:
        """What all lower effort together may move now."""
        now = self._clock.monotonic()
        foreground = self._foreground.rate(now)
        if not self._flows and foreground < _FOREGROUND_BYTES:
            return self._whole.rate
        return lower_rate(self._whole.rate, foreground)

    def _buckets(self, tenant_id: str, *, lower: bool) -> Iterator[TokenBucket]:
        if lower:
            self._lower.set_rate(self.lower_rate(), self._clock.monotonic())
            yield self._lower
        if tenant_id in self._tenants:
            yield self._tenants[tenant_id]
        yield self._whole

    def _turn(self, tenant_id: str, *, lower: bool) -> int:
        rate = min(self._whole.rate, self.tenant_rate(tenant_id), self.lower_rate() if lower else UNLIMITED)
        if math.isinf(rate):
            return _LARGEST_TURN
        return max(_LEAST_TURN, min(_LARGEST_TURN, int(rate * _TURN_SECONDS)))


@dataclass(frozen=True, slots=True)
class Pace:
    """A line as one transfer sees it. `lower`: whether its effort is lower, as long as nobody says otherwise."""

    line: Line
    tenant_id: str = ""
    lower: bool = False

    async def take(self, amount: int) -> None:
        await self.line.take(amount, self.tenant_id, lower=self.lower)
