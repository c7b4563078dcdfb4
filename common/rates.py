"""How fast bytes may flow: a token bucket, a meter, and how a line is divided; pure, time is an argument.

Invariant: over any stretch of t seconds a bucket lets pass at most its rate times t plus one burst (`BURST_SECONDS` of
its rate), whatever the amounts that were asked for; who asks first waits least, so equal takers get equal shares.
"""

from __future__ import annotations

import math

BURST_SECONDS = 0.1
# What others took of a line without asking (a BitTorrent engine) is paid back for so long at most: a wrong measurement
# must not silence a line.
_LONGEST_DEBT_SECONDS = 1.0
# What lower effort keeps of a line that is wanted by others: enough that its connections stay alive.
LOWER_SHARE = 0.05
_LEAST_LOWER_RATE = 512 << 10
UNLIMITED = math.inf


class TokenBucket:
    """`rate`: bytes per second, `UNLIMITED` for none."""

    def __init__(self, rate: float = UNLIMITED, now: float = 0.0) -> None:
        self._rate = rate
        self._level = self._burst
        self._at = now

    @property
    def rate(self) -> float:
        return self._rate

    @property
    def limited(self) -> bool:
        return not math.isinf(self._rate)

    def set_rate(self, rate: float, now: float) -> None:
        """What is owed stays owed, in seconds: whoever waits waits no longer than it was told."""
        if rate == self._rate:
            return
        self._fill(now)
        owed = self._level / self._rate if self.limited and self._level < 0 else 0.0
        self._rate = rate
        self._level = owed * rate if self.limited and owed else (self._burst if not owed else 0.0)

    def reserve(self, now: float, amount: int) -> float:
        """Take `amount` and be told how many seconds to wait before using it."""
        if not self.limited:
            return 0.0
        self._fill(now)
        self._level -= amount
        return max(0.0, -self._level / self._rate)

    def delay(self, now: float) -> float:
        """Seconds until somebody who takes first and waits afterwards (`charge`) may begin; 0: now."""
        if not self.limited:
            return 0.0
        self._fill(now)
        return max(0.0, -self._level / self._rate)

    def charge(self, now: float, amount: int) -> None:
        """`amount` has passed already."""
        if self.limited:
            self._fill(now)
            self._level = max(self._level - amount, -self._rate * _LONGEST_DEBT_SECONDS)

    @property
    def _burst(self) -> float:
        return self._rate * BURST_SECONDS

    def _fill(self, now: float) -> None:
        if self.limited and now > self._at:
            self._level = min(self._burst, self._level + self._rate * (now - self._at))
        self._at = max(now, self._at)


class Meter:
    """Bytes per second, forgotten with a half-life of about 0.7 `seconds`."""

    def __init__(self, seconds: float = 1.0) -> None:
        self._seconds = seconds
        self._rate = 0.0
        self._at = 0.0

    def add(self, now: float, amount: int) -> None:
        self._decay(now)
        self._rate += amount / self._seconds

    def expect(self, now: float, rate: float) -> None:
        """Believe in at least `rate` until measurement says otherwise."""
        self._decay(now)
        self._rate = max(self._rate, rate)

    def rate(self, now: float) -> float:
        self._decay(now)
        return self._rate

    def _decay(self, now: float) -> None:
        if now > self._at:
            self._rate *= math.exp((self._at - now) / self._seconds)
            self._at = now


def lower_rate(limit: float, foreground: float) -> float:
    """What lower effort may take while the foreground moves `foreground` bytes per second over a line of `limit`:
    what is left of a known line, and always a small share; beside a line of unknown speed, that share alone.
    """
    if math.isinf(limit):
        return max(_LEAST_LOWER_RATE, foreground * LOWER_SHARE / (1 - LOWER_SHARE))
    return max(limit * LOWER_SHARE, limit - foreground)


def engine_rate(limit: float, others: float, *, others_wait: bool) -> float:
    """What a BitTorrent engine may take of a line of `limit` of which others move `others`: the rest, at least half;
    while others wait for more, a tenth of the line less, so that within seconds both have half.
    """
    if math.isinf(limit):
        return UNLIMITED
    return max(limit / 2, limit - others - (limit / 10 if others_wait else 0.0))
