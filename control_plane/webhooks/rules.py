"""When to try again, when to stop trying a hook for a while, and when for good; pure.

A delivery that fails waits 5 s, then twice as long each time up to an hour, half of it by chance; longer if the
receiver says so (`Retry-After`); after 24 hours it is given up. A hook that fails five times in a row is left alone for
30 s, doubling up to 15 minutes, and then tried with one delivery; one that fails for days is disabled.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from control_plane.webhooks.model import Answer, Hook

OPENS_AT = 5
_FIRST_SECONDS, _LONGEST_SECONDS = 5.0, 3600.0
_OPEN_SECONDS, _LONGEST_OPEN_SECONDS = 30.0, 900.0
_LONGEST_RETRY_AFTER = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Circuit:
    """What a hook's row becomes after a failure. `disabled_reason` "": it stays active."""

    failures: int
    failing_since: datetime
    open_until: datetime | None
    disabled_reason: str = ""


def retry_at(attempts: int, answer: Answer, now: datetime, chance: float) -> datetime:
    """After that many attempts, the last of which came to `answer`. `chance` in [0, 1)."""
    delay = _grown(_FIRST_SECONDS, attempts - 1, _LONGEST_SECONDS) * (0.5 + chance / 2)
    if answer.retry_after is not None:
        delay = max(delay, min(answer.retry_after, _LONGEST_RETRY_AFTER))
    return now + timedelta(seconds=delay)


def after_failure(hook: Hook, answer: Answer, now: datetime, chance: float, patience: timedelta) -> Circuit:
    failures, since = hook.failures + 1, hook.failing_since or now
    if answer.gone:
        return Circuit(failures, since, None, "the receiver answered 410: it wants no more")
    if now - since > patience:
        days = patience.total_seconds() / 86400
        return Circuit(failures, since, None, f"it has failed for {days:g} days; the last time: {told(answer)}")
    if hook.open_until is not None and hook.open_until > now:
        # One of those that were under way together: it says nothing new.
        return Circuit(hook.failures, since, hook.open_until)
    if failures < OPENS_AT:
        return Circuit(failures, since, None)
    pause = _grown(_OPEN_SECONDS, failures - OPENS_AT, _LONGEST_OPEN_SECONDS) * (0.5 + chance / 2)
    return Circuit(failures, since, now + timedelta(seconds=pause))


def slots(failures: int, at_once: int) -> int:
    """How many deliveries may be under way for a hook: one probes while it fails."""
    return 1 if failures >= OPENS_AT else at_once


def told(answer: Answer) -> str:
    return answer.error or f"HTTP {answer.status}"


def _grown(first: float, doublings: int, longest: float) -> float:
    return min(longest, first * 2.0 ** max(0, min(doublings, 30)))
