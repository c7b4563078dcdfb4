"""What a job is, and the pure rules about what follows from how an attempt ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from common.errors import Failure, Internal, RateLimited, Stale, Unavailable


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ACTIVE = (JobState.QUEUED, JobState.RUNNING)
ENDED = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)
# Failures that another try may mend; the class says so, never the text. An exception that is no Failure is our fault
# and may be an accident, so it is tried again too.
_PASSING = (Unavailable, RateLimited, Stale, Internal)


@dataclass(frozen=True, slots=True)
class Job:
    """`progress` is a share of 1; `attempts` counts those that began; `due_at` is when the next one may."""

    id: str
    kind: str
    payload: Mapping[str, Any]
    state: JobState
    unique_key: str | None
    attempts: int
    max_attempts: int
    due_at: datetime
    lease_owner: str | None
    lease_until: datetime | None
    cancel_requested: bool
    progress: float
    progress_note: str
    result: Mapping[str, Any] | None
    error_code: str | None
    error: str | None
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Done:
    result: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Failed:
    code: str
    error: str
    passing: bool
    wait_seconds: float = 0


@dataclass(frozen=True, slots=True)
class Cancelled:
    pass


@dataclass(frozen=True, slots=True)
class Retry:
    due_at: datetime
    code: str
    error: str


Outcome = Done | Failed | Cancelled
Ending = Outcome | Retry


def done(result: Mapping[str, Any] | None) -> Done:
    """Raises `TypeError` or `ValueError` for a result that the database cannot keep: not JSON, or with a NUL, which
    PostgreSQL refuses in text.
    """
    if "\\u0000" in json.dumps(result, allow_nan=False):
        raise ValueError("the result contains a NUL character")
    return Done(result)


def judged(error: Exception) -> Failed:
    """What an exception of a handler means."""
    if not isinstance(error, Failure):
        return Failed("internal", printable(f"{type(error).__name__}: {error}"), passing=True)
    wait = error.retry_after_seconds if isinstance(error, Unavailable | RateLimited) else 0.0
    return Failed(error.code, printable(str(error)), isinstance(error, _PASSING), wait)


def printable(text: str, longest: int = 4000) -> str:
    """What every database keeps: no NUL, bounded."""
    return text.replace("\x00", "?")[:longest]


def ending(job: Job, outcome: Outcome, now: datetime, chance: float) -> Ending:
    """Whether the job ends or is tried again, and when: capped exponential delay, full jitter by `chance` in [0, 1)."""
    if not isinstance(outcome, Failed) or not outcome.passing or job.attempts >= job.max_attempts:
        return outcome
    ceiling = min(600.0, 2.0 ** min(job.attempts, 30))
    delay = max(1.0, outcome.wait_seconds, ceiling * chance)
    return Retry(now + timedelta(seconds=delay), outcome.code, outcome.error)
