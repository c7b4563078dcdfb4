"""Limits of a memory peer. While nothing is limited no clock is read, so a simulation stays what its calls make it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from common.bittorrent import RateLimits
from common.rates import UNLIMITED, TokenBucket


class MemoryRates:
    """Of a torrent, within those of its session. `wake`: somebody may move again."""

    def __init__(self, wake: Callable[[], None], session: MemoryRates | None = None) -> None:
        self._wake = wake
        self._session = session
        self._down, self._up = TokenBucket(), TokenBucket()

    def set(self, limits: RateLimits) -> None:
        now = asyncio.get_running_loop().time()
        self._down.set_rate(limits.download or UNLIMITED, now)
        self._up.set_rate(limits.upload or UNLIMITED, now)
        self._wake()

    def may_receive(self) -> bool:
        return self._may([rates._down for rates in self._all()])

    def may_send(self) -> bool:
        return self._may([rates._up for rates in self._all()])

    def received(self, count: int) -> None:
        self._charge([rates._down for rates in self._all()], count)

    def sent(self, count: int) -> None:
        self._charge([rates._up for rates in self._all()], count)

    def _all(self) -> Iterator[MemoryRates]:
        yield self
        if self._session is not None:
            yield self._session

    def _may(self, buckets: list[TokenBucket]) -> bool:
        if not any(bucket.limited for bucket in buckets):
            return True
        loop = asyncio.get_running_loop()
        delay = max(bucket.delay(loop.time()) for bucket in buckets)
        if delay > 0:
            loop.call_later(delay, self._wake)
        return delay <= 0

    def _charge(self, buckets: list[TokenBucket], count: int) -> None:
        for bucket in buckets:
            if bucket.limited:
                bucket.charge(asyncio.get_running_loop().time(), count)
