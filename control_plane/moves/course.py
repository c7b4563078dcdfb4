"""What comes next for one move; pure.

Invariant: the instance may run at the source until `stopping` begins and again once the move has failed or was
cancelled; at the target from `starting` on until `returning` begins. Between these two nobody may run it. A stage goes
on only when the host that may run it no longer has said that it stands still there, or that nothing is left of it. A
target that nobody reaches stops it by itself after `Patience.cut_off`; so it is waited for that long and a margin
longer, and no word is needed then.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from control_plane.instances.model import DesiredState, Health, Instance, Phase, Status
from control_plane.moves.model import AT_SOURCE, ENDED, Move, Patience, Stage

_WELL = frozenset({Health.NONE, Health.HEALTHY})


@dataclass(frozen=True, slots=True)
class Sight:
    """What counts for one look. instance None: it was forgotten. status: of the host that has it.
    source_there, target_there: not revoked. target_absent_since: when it was last heard of, if it is away.
    watched_since: since when we would have seen it come back. room: why the target takes it no more; empty: it does.
    """

    instance: Instance | None
    status: Status
    now: datetime
    watched_since: datetime
    source_there: bool = True
    target_there: bool = True
    target_absent_since: datetime | None = None
    room: str = ""


def next_stage(move: Move, sight: Sight, patience: Patience) -> tuple[Stage, str]:
    """The stage that it is in now, and why it was taken back, if it was."""
    if sight.instance is None:
        return Stage.DONE, "the instance was removed"
    match move.stage:
        case Stage.STOPPING | Stage.COPYING:
            return _at_source(move, sight, sight.instance, patience)
        case Stage.STARTING | Stage.PROVING:
            return _at_target(move, sight, sight.instance, patience)
        case Stage.RETURNING:
            back = _answered(move, sight, Phase.REMOVED) or _stands_by_itself(move, sight, patience)
            return (_ended(move) if back else Stage.RETURNING), move.why
        case Stage.CLEARING:
            return (Stage.DONE if move.gone or not sight.source_there else Stage.CLEARING), ""
    return move.stage, move.why


def _at_source(move: Move, sight: Sight, instance: Instance, patience: Patience) -> tuple[Stage, str]:
    if move.cancelled_by:
        return Stage.CANCELLED, f"{move.cancelled_by} cancelled it"
    if instance.desired_state is DesiredState.REMOVED:
        return Stage.CANCELLED, "the instance is being removed"
    if reason := _hopeless(move, sight, patience):
        return Stage.FAILED, reason
    if move.stage is Stage.STOPPING:
        return (Stage.COPYING if _answered(move, sight, Phase.STOPPED) else Stage.STOPPING), ""
    if not move.taken:
        return Stage.COPYING, ""
    return (Stage.FAILED, sight.room) if sight.room else (Stage.STARTING, "")


def _hopeless(move: Move, sight: Sight, patience: Patience) -> str:
    if not sight.target_there:
        return "the host where it was to go was revoked"
    if move.stage is Stage.STOPPING:
        return "its host did not stop it in time" if sight.now - move.stage_at >= patience.stopping else ""
    if move.taken:
        return ""
    if move.trouble_is_final:
        return move.trouble
    if sight.now >= move.give_up_at:
        return "it took longer than it was given"
    absent = sight.target_absent_since
    if absent is not None and sight.now - max(absent, sight.watched_since) >= patience.stalled:
        return "the host where it was to go is away"
    if not move.copying and sight.now - move.stalled_at >= patience.stalled:
        return f"nothing came any more: {move.trouble or 'the hosts do not say why'}"
    return ""


def _at_target(move: Move, sight: Sight, instance: Instance, patience: Patience) -> tuple[Stage, str]:
    status = sight.status
    if instance.desired_state is DesiredState.REMOVED:
        return Stage.CLEARING, ""
    if not sight.source_there:
        # There is nothing to go back to; what is at the target is all there is.
        return Stage.CLEARING, ""
    # What it said before it fell silent says nothing of now, and what stands at the source is the only other copy.
    heard = status.observed_generation >= move.generation and sight.target_absent_since is None
    since = max(move.stage_at, status.reported_at or move.stage_at)
    if heard and _well(status, instance):
        # A host that was silent and came back has not said yet what became of it: its last word must be of this stage.
        if move.stage is Stage.PROVING:
            return Stage.CLEARING, ""
        if sight.now - since >= patience.well:
            return Stage.PROVING, ""
    if move.cancelled_by:
        return Stage.RETURNING, f"{move.cancelled_by} cancelled it"
    if not sight.target_there:
        return Stage.RETURNING, "the host where it went was revoked"
    if heard and status.phase is Phase.FAILED and sight.now - since >= patience.failed:
        return Stage.RETURNING, f"it did not run there: {status.detail}"
    if sight.now - move.stage_at >= patience.starting:
        return Stage.RETURNING, f"it was not well there in time: {status.detail or status.phase.value}"
    return move.stage, ""


def _well(status: Status, instance: Instance) -> bool:
    if instance.desired_state is DesiredState.RUNNING:
        return status.phase is Phase.RUNNING and status.health in _WELL
    wanted = Phase.PAUSED if instance.desired_state is DesiredState.PAUSED else Phase.STOPPED
    return status.phase is wanted


def _answered(move: Move, sight: Sight, phase: Phase) -> bool:
    return sight.status.phase is phase and sight.status.observed_generation >= move.generation


def _stands_by_itself(move: Move, sight: Sight, patience: Patience) -> bool:
    """Nobody reaches the target, for so long that it has stopped the instance without being told."""
    fenced = patience.cut_off + patience.margin
    if not sight.target_there:
        return sight.now - move.stage_at >= fenced
    if sight.target_absent_since is None:
        return False
    return sight.now - max(sight.target_absent_since, sight.watched_since) >= fenced


def _ended(move: Move) -> Stage:
    return Stage.CANCELLED if move.cancelled_by else Stage.FAILED


def entered(move: Move, stage: Stage, why: str, generation: int, now: datetime) -> Move:
    """The move at the beginning of that stage."""
    ended = None if stage not in ENDED else now
    return replace(
        move,
        stage=stage,
        why=why or move.why,
        generation=generation,
        stage_at=now,
        stalled_at=now,
        gone=False,
        copying=False,
        ended_at=ended,
        addresses=() if stage not in AT_SOURCE else move.addresses,
    )
