"""One transfer as states: what may be sent, what an acknowledgement means, when to send again, when to give up.

Blocks are counted without end here; only the wire's numbers roll over. Block 0 is the OACK. Invariants:
- a DATA block is sent again only because a timer fired, or because the client acknowledged part of a window and so
  asks for the rest (RFC 7440, section 4); a repeated acknowledgement moves nothing (RFC 1123, 4.2.3.1).
- never more than a window is unacknowledged; before the OACK is acknowledged only that is sent.
Pure: time and randomness are arguments, and no bytes pass through here.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from common.backoff import jittered
from regional.tftp.terms import Limits, Terms

_MOST_TIMEOUT = 8.0
# A timer of measured round trips recovers a lost window in a fifth of the second that RFC 1350's habit would take.
_LEAST_TIMEOUT = 0.2
_ROUND_TRIPS = 4.0
_JITTER = 0.1


class Due(Enum):
    """What the timer says."""

    NOTHING = "nothing"
    SEND_AGAIN = "send again"
    GIVE_UP = "give up"


class Transfer:
    """`base`: the highest block acknowledged, -1 before the OACK was; `sent`: the highest sent; `last`: the final block
    once it is known. The owner sends `wanted()` and calls `was_sent`.
    """

    __slots__ = (
        "_ends",
        "_highest",
        "_jitter",
        "_limits",
        "_measured",
        "_patience",
        "_progressed",
        "_round_trip",
        "_sent_at",
        "_timeout",
        "_usual",
        "_window",
        "base",
        "deadline",
        "last",
        "resent",
        "sent",
        "terms",
    )

    def __init__(self, terms: Terms, limits: Limits, now: float, random: Callable[[], float]) -> None:
        self.terms = terms
        self.base = self.sent = self._highest = -1 if terms.answered else 0
        self.last: int | None = None
        self.resent = 0
        self._limits = limits
        self._window = terms.window_blocks
        self._jitter = random
        self._timeout = self._usual = terms.timeout_seconds
        self._patience = max(limits.patience_seconds, 3 * terms.timeout_seconds)
        self._progressed = self._sent_at = now
        self._ends = now + limits.longest_seconds
        self._round_trip: float | None = None
        self._measured = -1
        self.deadline = now + self._timeout

    @property
    def done(self) -> bool:
        return self.last is not None and self.base >= self.last

    def heard_lately(self, now: float) -> bool:
        """Whether the client made progress, or began, within its own timeout."""
        return now - self._progressed < self.terms.timeout_seconds

    def wanted(self) -> tuple[int, int]:
        """First and last block that may be sent now; nothing if the first is larger."""
        if self.base < 0:
            return self.sent + 1, 0
        through = self.base + self._window
        if self.last is not None and through > self.last:
            through = self.last
        return self.sent + 1, through

    def was_sent(self, through: int, now: float) -> None:
        """Blocks up to `through` left."""
        if self.sent < self._highest:
            self.resent += min(through, self._highest) - self.sent
            self._measured = -1  # an answer could be to either sending (Karn)
        elif self._measured < 0:
            self._measured, self._sent_at = through, now
        self.sent = through
        if through > self._highest:
            self._highest = through
        self.deadline = min(now + self._timeout, self._ends)

    def acknowledged(self, number: int, now: float) -> bool:
        """`number` of the wire. False: it is old, repeated or of nothing that was sent, and changes nothing."""
        block = self._block_of(number)
        if block is None:
            return False
        if 0 <= self._measured <= block:
            self._learn(now - self._sent_at)
        if block != self.sent:
            # Below: the client misses what follows. Above: after going back, it turns out to have more than thought.
            self._measured = -1
        self.base = self.sent = block
        self._progressed = now
        self._timeout = self._usual
        self.deadline = min(now + self._timeout, self._ends)
        return True

    @property
    def steady(self) -> bool:
        """Lock-step whose round trip is known, with one block on its way: all that can happen next is that it is
        acknowledged and the next one leaves.
        """
        return self._window == 1 and self._round_trip is not None and 0 < self.sent == self.base + 1 == self._highest

    def stepped(self, through: int, now: float) -> None:
        """A steady transfer went on, block by block: `through` left last, at `now`, and all before are acknowledged.
        One call for many of `acknowledged` and `was_sent`.
        """
        self.base = through - 1
        self.sent = self._highest = through
        self._progressed = now
        self._timeout = self._usual
        self._measured = -1
        self.deadline = min(now + self._timeout, self._ends)

    def timer(self, now: float) -> Due:
        """Ask after `deadline`. After SEND_AGAIN `wanted()` begins after the last acknowledged block."""
        if now < self.deadline:
            return Due.NOTHING
        if now - self._progressed >= self._patience or now >= self._ends:
            return Due.GIVE_UP
        self.sent = self.base
        self._timeout = min(2 * self._timeout, max(_MOST_TIMEOUT, self.terms.timeout_seconds))
        self.deadline = now + jittered(self._timeout, _JITTER, self._jitter)
        return Due.SEND_AGAIN

    def postpone(self, now: float) -> None:
        """Bytes are still being read: that is no silence of the client. The end of all transfers stays."""
        self._progressed = now
        self.deadline = min(now + self._timeout, self._ends)

    def _block_of(self, number: int) -> int | None:
        """The block in (base, highest sent] with this number on the wire. A window is at most 65535 blocks."""
        if self.base < 0:
            return 0 if number == 0 and self.sent == 0 else None
        if self._limits.rollover == 0:
            step = (number - self.base) & 0xFFFF
        elif number == 0:
            return None
        else:
            step = (number - self.base) % 65535
        block = self.base + step
        return block if step and block <= self._highest else None

    def _learn(self, seconds: float) -> None:
        self._round_trip = seconds if self._round_trip is None else 0.875 * self._round_trip + 0.125 * seconds
        self._measured = -1
        if not self.terms.fixed_timeout:
            self._usual = min(self.terms.timeout_seconds, max(_LEAST_TIMEOUT, _ROUND_TRIPS * self._round_trip))


def wire_number(block: int, rollover: int) -> int:
    """The 16 bits of a block counted from 1 without end (0: the OACK)."""
    if rollover == 0 or block < 1:
        return block & 0xFFFF
    return (block - 1) % 65535 + 1
