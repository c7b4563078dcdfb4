"""What each host of a move is told of the instance, by stage; pure.

The table of the whole safety: read down a column, and at most one host is told to run it.
"""

from __future__ import annotations

from dataclasses import dataclass

from control_plane.instances.model import DesiredState
from control_plane.moves.model import Move, Stage


@dataclass(frozen=True, slots=True)
class Wish:
    """hand_over: the other host may copy it. take_over: it is to be the copy, never made anew. fenced: the host stops
    it by itself when nobody reaches it.
    """

    desired_state: DesiredState
    hand_over: bool = False
    take_over: bool = False
    fenced: bool = False


_STANDS = Wish(DesiredState.STOPPED)
_AT_SOURCE = {
    Stage.STOPPING: _STANDS,
    Stage.COPYING: Wish(DesiredState.STOPPED, hand_over=True),
    Stage.STARTING: _STANDS,
    Stage.PROVING: _STANDS,
    Stage.RETURNING: _STANDS,
    Stage.CLEARING: Wish(DesiredState.REMOVED),
}


def wish_for(move: Move, desired_state: DesiredState, host_id: str, *, has_it: bool) -> Wish | None:
    """`desired_state`: of the instance; `has_it`: the instance is that host's. None: nothing is to be there."""
    if has_it and desired_state is DesiredState.REMOVED:
        return Wish(DesiredState.REMOVED)
    if host_id == move.source_host_id:
        return _AT_SOURCE.get(move.stage) or (Wish(desired_state) if has_it else None)
    match move.stage:
        case Stage.COPYING:
            return Wish(DesiredState.HELD, take_over=True)
        case Stage.STARTING | Stage.PROVING:
            return Wish(desired_state, take_over=True, fenced=True)
        case Stage.RETURNING:
            return Wish(DesiredState.REMOVED)
    return Wish(desired_state) if has_it else None
