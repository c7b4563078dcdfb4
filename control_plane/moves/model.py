"""Moves and their stages; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from common.errors import Conflict, NotFound


class MoveUnknown(NotFound):
    """The instance does not move, and did not."""

    code = "move_unknown"


class MoveImpossible(Conflict):
    """What is there, or where it is to go, cannot. `facts["reason"]` is one word for it."""

    code = "move_impossible"


class MoveUnderWay(Conflict):
    """The instance is moving to another host already."""

    code = "move_under_way"


class MoveTooLate(Conflict):
    """It runs on the other host and is well: move it back instead."""

    code = "move_too_late"


class Stage(StrEnum):
    """Where the instance may run: at the source, nowhere, or at the target. Written before any host hears of it."""

    STOPPING = "stopping"  # the source stops it; nothing else happened
    COPYING = "copying"  # the target reads what stands at the source
    STARTING = "starting"  # the instance is the target's; the source keeps what stands there
    PROVING = "proving"  # it was well there for a while; asked once more, for what was said may be old
    CLEARING = "clearing"  # it is well there; the source removes what it has
    RETURNING = "returning"  # it was not well there; the target removes it before the source starts it again
    DONE = "done"
    FAILED = "failed"  # it is at the source, as before
    CANCELLED = "cancelled"  # the same, because somebody wished it


ENDED = frozenset({Stage.DONE, Stage.FAILED, Stage.CANCELLED})
AT_SOURCE = frozenset({Stage.STOPPING, Stage.COPYING})
ON_TRIAL = frozenset({Stage.STARTING, Stage.PROVING})


@dataclass(frozen=True, slots=True)
class Move:
    """`generation`: of the instance, since this stage: what hosts say of an older one is of an older stage.
    `gone`: the source, which is to remove what it has, said that nothing is left. `copying`: the target is at it;
    `taken`: it has a whole copy. `stalled_at`: since when it is not at it. `give_up_at`: when it is taken back unless
    it is at the target by then.
    """

    id: str
    instance_id: str
    tenant_id: str
    tenant: str
    name: str
    source_host_id: str
    source_idc_id: str
    target_host_id: str
    target_idc_id: str
    stage: Stage
    generation: int
    requested_by: str
    created_at: datetime
    stage_at: datetime
    stalled_at: datetime
    give_up_at: datetime
    addresses: tuple[str, ...] = ()
    copied_bytes: int = 0
    copying: bool = False
    taken: bool = False
    gone: bool = False
    trouble: str = ""
    trouble_is_final: bool = False
    cancelled_by: str = ""
    why: str = ""
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Patience:
    """How long what may last. well: as long the instance must run at the target before the source gives up what it has.
    cut_off: after so long without a word from us the target stops it by itself; margin: what we wait beyond that before
    a target that nobody reaches counts as standing still.
    """

    stopping: timedelta = timedelta(minutes=5)
    stalled: timedelta = timedelta(minutes=5)
    starting: timedelta = timedelta(minutes=5)
    failed: timedelta = timedelta(seconds=30)
    well: timedelta = timedelta(seconds=5)
    cut_off: timedelta = timedelta(seconds=120)
    margin: timedelta = timedelta(seconds=60)
