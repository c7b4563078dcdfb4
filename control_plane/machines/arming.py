"""Giving a task its intent, and taking it away: what the regionals of its IDC may act on.

Invariant: a task that is armed has an intent that lies sealed beside it, and the IDC is ordered to hold its contents;
one that is not has neither. Both change in the caller's transaction, with a new generation for the IDC.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace

from common.digest import Digest
from common.errors import Conflict, NotFound
from common.identifiers import new_id
from control_plane.database import UnitOfWork
from control_plane.machines import planning, rendering, store, store_logs, store_profiles, store_tasks, transitions
from control_plane.machines.messages import InstallChanged
from control_plane.machines.model import Machine
from control_plane.machines.profiles import Specs
from control_plane.machines.profiles_model import ProfileSpec
from control_plane.machines.service import targets_changed
from control_plane.machines.tasks_model import InstallTask, StepPhase, TaskState
from control_plane.sealing import SealedBox
from control_plane.swarm.model import WantedContent
from control_plane.swarm.service import SwarmService
from proto.regional.v1 import machines_pb2

# A full set travels in one message of at most 64 MiB (common/channels.py), beside orders of some 6 MB.
_MOST_BYTES = 40 << 20
_LARGEST_INTENT = 1 << 20
_MOST_HISTORY = 200


class IntentTooLarge(Conflict):
    """What the installer would be told is more than can be sent."""

    code = "install_intent_too_large"


class Arming:
    def __init__(
        self,
        box: SealedBox,
        specs: Specs,
        swarm: SwarmService,
        nonces: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        self._box = box
        self._specs = specs
        self._swarm = swarm
        self._nonces = nonces

    async def spec(self, unit: UnitOfWork, task: InstallTask) -> ProfileSpec:
        """Of the version that was asked for. Raises `NotFound` if it was removed."""
        found = await store_profiles.find_version(unit.connection, task.profile_id, task.version)
        if found is None:
            raise NotFound(f"the profile {task.profile} is not there any more", action="ask for another installation")
        return self._specs.opened(found).spec

    async def arm(self, unit: UnitOfWork, task: InstallTask, machine: Machine, spec: ProfileSpec) -> None:
        """`task` has its new intent's id, and is not written yet. Raises `IntentTooLarge`, `Invalid`."""
        assert task.begin_by is not None  # noqa: S101  `transitions` set it
        nonce = self._nonces()
        answered = rendering.answers(spec, machine, nonce)
        body = planning.intent(spec, task, answered, nonce, task.begin_by).SerializeToString()
        there = await store_tasks.intent_bytes(unit.connection, task.idc_id)
        if len(body) > _LARGEST_INTENT or there + len(body) > _MOST_BYTES:
            raise IntentTooLarge(
                f"this installation's {len(body)} bytes, with {there} of others that wait in {task.idc}, are too many",
                action="shorten its documents and scripts, or wait until others are installed",
            )
        sealed = self._box.seal(body, _place(task.id))
        await store_tasks.put_intent(unit.connection, task.id, sealed)
        contents = [
            WantedContent(Digest.parse(digest), size_bytes, media_type)
            for image in task.images.values()
            for digest, size_bytes, media_type in image.contents[1:]
        ]
        if contents:
            await self._swarm.want(unit, task.idc_id, task.content_tenant_id, task.id, contents)

    async def disarm(self, unit: UnitOfWork, task: InstallTask) -> None:
        await store_tasks.put_intent(unit.connection, task.id, None)
        await self._swarm.release(unit, task.id)

    def opened(self, task: InstallTask, sealed: bytes) -> machines_pb2.InstallIntent:
        """Raises `SealBroken`."""
        return machines_pb2.InstallIntent.FromString(self._box.open(sealed, _place(task.id)))

    async def moved(
        self, unit: UnitOfWork, before: InstallTask, after: InstallTask, machine: Machine, by: str
    ) -> InstallTask:
        """Write down that a task moved, with everything that follows from it; the task and its machine are locked. A
        failure within what the approval allows becomes the next try. Returns what was written.
        """
        now = unit.clock.now()
        await self._put(unit, before, after, machine, by)
        if after.state is TaskState.COMPLETED and before.state is not TaskState.COMPLETED:
            installed = replace(machine, installed=f"{after.profile}@{after.version}"[:255], installed_at=now)
            await store.put(unit.connection, installed)
        if after.state is TaskState.FAILED and transitions.tries_again(after):
            return await self._try_again(unit, after, machine)
        return after

    async def _put(self, unit: UnitOfWork, before: InstallTask, after: InstallTask, machine: Machine, by: str) -> None:
        await store_tasks.put(unit.connection, after)
        if (after.state, after.attempt, after.presumed) != (before.state, before.attempt, before.presumed):
            await store_logs.add_history(unit.connection, after, unit.clock.now(), by, _MOST_HISTORY)
        if transitions.armed(before) and not transitions.armed(after):
            await self.disarm(unit, after)
        if (transitions.armed(before), before.intent_id, before.begun) != (
            transitions.armed(after),
            after.intent_id,
            after.begun,
        ):
            await targets_changed(unit, after.idc_id)
        await unit.announce(announced(after, machine))

    async def _try_again(self, unit: UnitOfWork, failed: InstallTask, machine: Machine) -> InstallTask:
        try:
            spec = await self.spec(unit, failed)
            after = transitions.again(
                failed, new_id(unit.clock), planning.steps_of(spec), unit.clock.now(), transitions.WINDOW
            )
            await self.arm(unit, after, machine, spec)
        except (Conflict, NotFound):
            return failed  # It stays failed; whoever looks decides.
        await self._put(unit, failed, after, machine, "")
        return after


def announced(task: InstallTask, machine: Machine) -> InstallChanged:
    running = next((step.id for step in task.steps if step.phase is StepPhase.RUNNING), "")
    return InstallChanged(
        task.id,
        machine.id,
        machine.idc,
        task.tenant,
        machine.name,
        task.state.value,
        task.percent,
        running,
        task.detail[:500],
    )


def _place(task_id: str) -> str:
    return f"install_tasks/{task_id}"
