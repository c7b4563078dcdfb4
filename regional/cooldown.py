"""Not asking again too soon: after a failure, the same question is answered with the same failure until its time is up.

Invariant: however many clients ask for something that fails, the centre is asked at most once per delay; its
Retry-After is honoured, and delays of a thing that keeps failing grow with jitter (see `common.backoff`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from common.backoff import Backoff
from common.clock import Clock
from common.errors import Failure, RateLimited, Unavailable

K = TypeVar("K")
_MAXIMUM_SECONDS = 60.0
_MAXIMUM_ENTRIES = 10_000


class Cooldown(Generic[K]):
    def __init__(self, clock: Clock, random: Callable[[], float]) -> None:
        self._clock = clock
        self._random = random
        self._entries: OrderedDict[K, tuple[Backoff, float, Failure]] = OrderedDict()

    def check(self, key: K) -> None:
        """Raises the last failure while it is too soon to try again."""
        entry = self._entries.get(key)
        if entry is not None and self._clock.monotonic() < entry[1]:
            raise entry[2].with_traceback(None)

    def failed(self, key: K, failure: Failure) -> float:
        """Remember it; seconds until the next try makes sense."""
        entry = self._entries.pop(key, None)
        backoff = entry[0] if entry else Backoff(self._random, initial_seconds=1.0, cap_seconds=_MAXIMUM_SECONDS)
        delay = backoff.next_delay()
        if isinstance(failure, RateLimited | Unavailable):
            delay = max(delay, min(failure.retry_after_seconds, _MAXIMUM_SECONDS) * (1 + 0.1 * self._random()))
        self._entries[key] = backoff, self._clock.monotonic() + delay, failure
        while len(self._entries) > _MAXIMUM_ENTRIES:
            self._entries.popitem(last=False)
        return delay

    def remaining(self, key: K) -> float:
        entry = self._entries.get(key)
        return max(entry[1] - self._clock.monotonic(), 0.0) if entry else 0.0

    def succeeded(self, key: K) -> None:
        self._entries.pop(key, None)

    def clear(self) -> None:
        """Something changed (the centre is back, tokens are new): everything may be tried at once."""
        self._entries.clear()
