"""One-shot commands as the host knows them; pure.

Invariant: a stage never goes back: `begun` is written before the first effect, so what is found as begun after a
restart may have had any part of its effect, and is never begun again.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Verb(enum.Enum):
    UNKNOWN = "unknown"  # a newer control plane's word: refused
    RESTART = "restart"
    REFETCH = "refetch"
    PRUNE_CACHE = "prune_cache"
    COLLECT_DIAGNOSTICS = "collect_diagnostics"
    SNAPSHOT = "snapshot"
    LIST_SNAPSHOTS = "list_snapshots"
    RESTORE_SNAPSHOT = "restore_snapshot"
    DELETE_SNAPSHOT = "delete_snapshot"


class Stage(enum.Enum):
    ACCEPTED = "accepted"
    BEGUN = "begun"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


ENDED = frozenset({Stage.DONE, Stage.FAILED, Stage.INTERRUPTED, Stage.EXPIRED, Stage.CANCELLED})


@dataclass(frozen=True, slots=True)
class Command:
    """`begin_by`: seconds since 1970 by this host's clock, after which it is not begun. `argument`: the verb's."""

    id: str
    verb: Verb
    instance_id: str
    begin_by: float
    end_seconds: float
    stage: Stage = Stage.ACCEPTED
    detail: str = ""
    result: str = ""
    argument: str = ""


@dataclass(frozen=True, slots=True)
class CommandReport:
    """`result`: JSON."""

    command_id: str
    stage: Stage
    detail: str = ""
    result: str = ""
