"""One direction of one line, shared by everything that sends or receives over it: HTTP bodies ask and wait, a
BitTorrent engine is told its part and what it moved is charged.

Invariants: together they keep the link's limit and each tenant's within it; lower effort gets what the foreground
leaves, and a small share while the foreground wants all (`rates.lower_rate`); nothing here polls: a taker sleeps for
exactly the time that its bytes need. Without a limit and without foreground nothing is delayed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
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
        self._flows: dict[object, Callable[[], bool]] = {}
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
    def flow(self, lower: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Something wants this line. Lower effort gives way while a flow is open whose effort is not; `lower` is asked
        each time, for somebody may come to wait for what nobody waited for.
        """
        if not lower() and not self._wanted() and self._whole.limited:
            # Until measurement says otherwise it may want all of it.
            self._foreground.expect(self._clock.monotonic(), self._whole.rate)
        key = object()
        self._flows[key] = lower
        try:
            yield
        finally:
            del self._flows[key]

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

    def limited(self, tenant_id: str = "", *, lower: bool = False) -> bool:
        return any(bucket.limited for bucket in self._buckets(tenant_id, lower=lower))

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
        if not self._wanted() and foreground < _FOREGROUND_BYTES:
            return self._whole.rate
        return lower_rate(self._whole.rate, foreground)

    def _wanted(self) -> bool:
        return any(not lower() for lower in self._flows.values())

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
    """A line as one transfer sees it. `lower`: whether its effort is lower now."""

    line: Line
    tenant_id: str
    lower: Callable[[], bool]

    @property
    def limited(self) -> bool:
        return self.line.limited(self.tenant_id, lower=self.lower())

    async def take(self, amount: int) -> None:
        """Returns when so many bytes may pass."""
        await self.line.take(amount, self.tenant_id, lower=self.lower())
