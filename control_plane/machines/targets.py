"""What the regionals of an IDC are told of its machines, and what they report: the fleet's questions, answered.

Invariant: a target's intent is the one that lies sealed beside its task, with content tokens for that one regional
(control_plane/swarm/tokens.py): within their window the same question gives the same answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import structlog

from common.digest import Digest
from control_plane.database import Database
from control_plane.fleet.model import Member
from control_plane.machines import planning, store, store_tasks, wire
from control_plane.machines.arming import Arming
from control_plane.machines.power.orders import PowerOrders
from control_plane.machines.receiving import Receiving, Reporter
from control_plane.machines.tasks_model import InstallTask
from control_plane.sealing import SealBroken
from control_plane.swarm.tokens import ContentTokens
from proto.regional.v1 import machines_pb2

log = structlog.get_logger()


class BootTargets:
    """Of `fleet.desired.MachineSource`."""

    def __init__(
        self, database: Database, tokens: ContentTokens, arming: Arming, receiving: Receiving, power: PowerOrders
    ) -> None:
        self._database = database
        self._tokens = tokens
        self._arming = arming
        self._receiving = receiving
        self._power = power

    async def targets(self, member: Member) -> Mapping[str, machines_pb2.BootTarget]:
        """By machine id."""
        async with self._database.reading() as connection:
            machines = await store.of_idc(connection, member.idc_id)
            armed = await store_tasks.intents(connection, member.idc_id)
        intents: dict[str, machines_pb2.InstallIntent] = {}
        # What was only presumed to have failed comes first, so that a newer task of the same machine takes its place.
        for task, sealed in sorted(armed, key=lambda one: not one[0].presumed):
            try:
                intents[task.machine_id] = self._intent(member, task, sealed)
            except SealBroken as failure:
                # The others must not suffer for it.
                log.error("install intent not readable", task=task.id, error=str(failure))
        known = {machine.id: machine for machine in machines}
        orders = await self._power.held(member, known)
        return {key: wire.target(machine, intents.get(key), orders.get(key)) for key, machine in known.items()}

    async def accept_machine_reports(
        self, member: Member, reports: Sequence[machines_pb2.MachineReport]
    ) -> Sequence[machines_pb2.RefusedReport]:
        """Durable when it returns."""
        return await self._receiving.accept(Reporter(member.id, member.idc_id, member.idc), reports)

    def _intent(self, member: Member, task: InstallTask, sealed: bytes) -> machines_pb2.InstallIntent:
        intent = self._arming.opened(task, sealed)
        intent.consumed = task.begun
        mint = self._tokens.minting(f"regional/{member.id}", member.idc, task.content_tenant_id)
        for content in planning.contents_in(intent):
            content.token = mint((Digest.parse(content.digest),))
        return intent
