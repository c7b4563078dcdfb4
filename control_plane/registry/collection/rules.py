"""What becomes of a reviewed link or blob; pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from control_plane.registry.collection.model import BlobFacts, Decision, LinkFacts, Pace, Verdict

_FIRST_RETRY = timedelta(minutes=1)
_LONGEST_RETRY = timedelta(hours=6)
# What is kept by something without a date of its own (a host's wish) is looked at again after this.
_LOOK_AGAIN = timedelta(hours=1)


def judge_link(facts: LinkFacts, pace: Pace, now: datetime) -> Decision:
    if facts.size is None or facts.referenced:
        return Decision(Verdict.DROP)
    if facts.trashed_until is not None:
        return Decision(Verdict.POSTPONE, _later(facts.trashed_until, pace, now))
    return Decision(Verdict.UNLINK)


def judge_blob(facts: BlobFacts, pace: Pace, now: datetime, *, wanted: bool) -> Decision:
    """Condemned first, deleted in a later review: see `blob_lives`. `wanted`: some machine is told to hold it."""
    if facts.size is None or facts.linked:
        return Decision(Verdict.DROP)
    if wanted:
        return Decision(Verdict.POSTPONE, now + _LOOK_AGAIN)
    if facts.trashed_until is not None:
        return Decision(Verdict.POSTPONE, _later(facts.trashed_until, pace, now))
    if facts.condemned_at is None:
        return Decision(Verdict.CONDEMN, now + max(pace.reprieve, pace.settle))
    ripe = facts.condemned_at + pace.reprieve
    return Decision(Verdict.DELETE) if ripe <= now else Decision(Verdict.POSTPONE, ripe)


def retry_at(now: datetime, attempts: int, chance: float) -> datetime:
    """After the attempts that failed: doubling, at most six hours, with half of it left to chance (in [0, 1))."""
    doublings: int = 1 << min(max(attempts - 1, 0), 12)
    wait = min(_LONGEST_RETRY, _FIRST_RETRY * doublings)
    return now + wait * (0.5 + chance / 2)


def _later(due: datetime, pace: Pace, now: datetime) -> datetime:
    # The trash may be late; looking at its blobs in every pass until it has been emptied would be for nothing.
    return due if due > now else now + min(_FIRST_RETRY, pace.grace)
