"""What both hosts of a move are told, over what they are told of instances, and what they say of it.

Invariant: a host is never shown an instance as its own before the move has come to that, nor after it has gone back:
instances and moves are read in one moment.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from common.errors import Failure
from common.gathering import Gathering
from control_plane.database import Connection, Database, UnitOfWork
from control_plane.fleet.desired import Asked, AssignmentLayer, AssignmentSnapshot
from control_plane.fleet.waking import wake
from control_plane.instances import wire
from control_plane.instances.model import DesiredState, Phase
from control_plane.instances.observations import Observation
from control_plane.moves import store
from control_plane.moves.model import Move, Patience, Stage
from control_plane.moves.telling import Wish, wish_for
from control_plane.swarm.tokens import ContentTokens
from proto.agent.v1 import agent_pb2, moves_pb2

# Hosts whose reports are compared together: 500 ids each (agent/reporter.py) stay below what databases bind.
_MOST_SPEAKERS = 50
_MOST_ADDRESSES = 8
_ADDRESS = re.compile(r"[0-9a-zA-Z.:\[\]_-]{1,255}:[0-9]{1,5}")


class MoveAssignments:
    """Implements `fleet.desired.AssignmentLayer` over another one. `changed` is called after news of a move."""

    def __init__(
        self, inner: AssignmentLayer, database: Database, tokens: ContentTokens, patience: Patience | None = None
    ) -> None:
        self._inner = inner
        self._database = database
        self._tokens = tokens
        self._patience = patience or Patience()
        self._comparing = Gathering(self._known, _MOST_SPEAKERS)
        self.changed: Callable[[], None] = lambda: None
        # By host: what it was last told in other words than its instance's. That is never taken for the instance's own.
        self._reworded: dict[str, frozenset[str]] = {}

    async def assigned(self, connection: Connection, asked: Sequence[Asked]) -> list[AssignmentSnapshot | Failure]:
        seen = await self._inner.assigned(connection, [self._in_own_words(one) for one in asked])
        told = await store.told(connection, {one.host_id for one in asked})
        return [
            snapshot if isinstance(snapshot, Failure) else self._moved(one, snapshot, told.get(one.host_id))
            for one, snapshot in zip(asked, seen, strict=True)
        ]

    def _in_own_words(self, one: Asked) -> Asked:
        reworded = self._reworded.get(one.host_id)
        if not reworded or one.held is None:
            return one
        return replace(one, held={key: told for key, told in one.held.items() if key not in reworded})

    def _moved(self, asked: Asked, seen: AssignmentSnapshot, told: store.Told | None) -> AssignmentSnapshot:
        if told is None:
            self._reworded.pop(asked.host_id, None)
            return seen
        self._reworded[asked.host_id] = frozenset(instance.id for _, instance in told.moves)
        return AssignmentSnapshot(seen.generation, self._over(seen.assignments, asked, told))

    async def accept_reports(
        self,
        host_id: str,
        instances: Sequence[agent_pb2.InstanceReport],
        contents: Sequence[agent_pb2.ContentReport],
    ) -> None:
        await self._inner.accept_reports(host_id, instances, contents)
        said = {one.instance_id: one for report in instances if (one := wire.observation_of(report)) is not None}
        if not said:
            return
        known = await self._comparing.ask(frozenset(said))
        now = self._database.clock.now()
        if any(heard(move, host_id, said[move.instance_id], now) != move for move in known):
            async with self._database.transaction() as unit:
                for move in await store.open_named(unit.connection, said.keys(), locked=True):
                    after = heard(move, host_id, said[move.instance_id], unit.clock.now())
                    if after != move:
                        await store.put(unit.connection, after)
            self.changed()

    async def accept_moves(self, host_id: str, said: Sequence[moves_pb2.MoveReport]) -> None:
        """Implements `fleet.desired.MoveSink`."""
        reports = {one.move_id: one for one in said}
        async with self._database.transaction() as unit:
            for move in await store.open_named(unit.connection, reports.keys(), locked=True):
                if move.id in reports:
                    await self._progressed(unit, host_id, move, reports[move.id])

    async def _progressed(self, unit: UnitOfWork, host_id: str, move: Move, said: moves_pb2.MoveReport) -> None:
        if move.stage is not Stage.COPYING:
            return
        if host_id == move.source_host_id:
            addresses = tuple(one for one in said.addresses if _ADDRESS.fullmatch(one))[:_MOST_ADDRESSES]
            if addresses and addresses != move.addresses:
                await store.put(unit.connection, replace(move, addresses=addresses))
                await wake(unit, [move.target_host_id])
        elif host_id == move.target_host_id and said.copied_bytes != move.copied_bytes:
            copied = min(said.copied_bytes, wire.MAXIMUM_COUNT)
            await store.put(unit.connection, replace(move, copied_bytes=copied, stalled_at=unit.clock.now()))

    async def _known(self, asked: Sequence[frozenset[str]]) -> list[list[Move]]:
        async with self._database.reading() as connection:
            found = await store.open_named(connection, frozenset().union(*asked))
        return [[move for move in found if move.instance_id in ids] for ids in asked]

    def _over(
        self, own: Mapping[str, agent_pb2.Assignment], asked: Asked, told: store.Told
    ) -> dict[str, agent_pb2.Assignment]:
        shown = dict(own)
        for move, instance in told.moves:
            has_it = instance.id in shown
            wish = wish_for(move, instance.desired_state, asked.host_id, has_it=has_it)
            if wish is None:
                continue
            if not has_it:
                mint = self._tokens.minting(f"host/{asked.host_id}", told.idc, instance.tenant_id)
                shown[instance.id] = wire.assignment_of(instance, mint, together=asked.together)
            reworded = agent_pb2.Assignment()  # the instance's own may be what another snapshot holds
            reworded.CopyFrom(shown[instance.id])
            self._wish(reworded, move, wish)
            shown[instance.id] = reworded
        return shown

    def _wish(self, assignment: agent_pb2.Assignment, move: Move, wish: Wish) -> None:
        assignment.desired_state = wire.desired_state_message(wish.desired_state)
        if wish.hand_over:
            assignment.hand_over.CopyFrom(moves_pb2.HandOver(move_id=move.id, target_host_id=move.target_host_id))
        if wish.take_over:
            # The copy is read from there only while it is not whole.
            addresses = move.addresses if wish.desired_state is DesiredState.HELD else ()
            assignment.take_over.CopyFrom(
                moves_pb2.TakeOver(move_id=move.id, source_host_id=move.source_host_id, addresses=addresses)
            )
        if wish.fenced:
            limit, own = int(self._patience.cut_off.total_seconds()), assignment.stop_when_cut_off_seconds
            assignment.stop_when_cut_off_seconds = min(own, limit) if own else limit


def heard(move: Move, host_id: str, said: Observation, now: datetime) -> Move:
    """The move after a host said that of its instance; of an earlier stage nothing is believed."""
    if said.generation < move.generation:
        return move
    if move.stage is Stage.CLEARING and host_id == move.source_host_id:
        return replace(move, gone=True) if said.phase is Phase.REMOVED else move
    if move.stage is not Stage.COPYING or host_id != move.target_host_id:
        return move
    if said.phase is Phase.STOPPED:
        return replace(move, copying=False, taken=True, trouble="", trouble_is_final=False)
    if said.phase in (Phase.FETCHING, Phase.CREATING):
        return replace(move, copying=True, trouble="", trouble_is_final=False)
    stalled_at = now if move.copying else move.stalled_at
    failed = said.phase is Phase.FAILED
    return replace(move, copying=False, stalled_at=stalled_at, trouble=said.detail, trouble_is_final=failed)
