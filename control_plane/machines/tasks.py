"""Use cases of install tasks: ask, approve, reject, cancel, try again, and what time makes of them.

Invariant: a task's machine is locked before the task itself, by everybody; what is asked for is resolved and pinned
when it is asked, so that who approves sees what will be installed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog

from common.clock import Clock
from common.errors import Failure, Invalid
from common.identifiers import is_id, new_id
from control_plane.audit.service import AuditTrail
from control_plane.database import Database, UnitOfWork
from control_plane.machines import planning, sight, store, store_logs, store_tasks, transitions
from control_plane.machines.arming import Arming, announced
from control_plane.machines.images import Images
from control_plane.machines.model import Machine, MachineNotReady, MachineState
from control_plane.machines.power.orders import PowerOrders
from control_plane.machines.profiles import ProfileService
from control_plane.machines.service import unknown as machine_unknown
from control_plane.machines.tasks_model import InstallTask, TaskState, TaskUnknown
from control_plane.tenants.access import Permission, Principal
from control_plane.tenants.acting import act_of

log = structlog.get_logger()

_MOST_HISTORY = 200
_LONGEST_WINDOW = timedelta(days=30)
_MOST_RETRIES = 5


class ApprovalInvalid(Invalid):
    code = "approval_invalid"


@dataclass(frozen=True, slots=True)
class Approval:
    """`window`: within which the machine must begin. `retries`: further tries after a failure, each wipes again.
    `power`: restart the machine into the network by its BMC; one without a BMC waits for somebody to do so.
    """

    window: timedelta = transitions.WINDOW
    retries: int = 0
    power: bool = False

    def __post_init__(self) -> None:
        """Raises `ApprovalInvalid`."""
        if not timedelta(minutes=1) <= self.window <= _LONGEST_WINDOW or not 0 <= self.retries <= _MOST_RETRIES:
            raise ApprovalInvalid(
                "that is no approval",
                action=f"give a window of a minute to 30 days, and at most {_MOST_RETRIES} further tries",
            )


class TaskService:
    def __init__(
        self,
        database: Database,
        clock: Clock,
        images: Images,
        profiles: ProfileService,
        arming: Arming,
        power: PowerOrders,
        trail: AuditTrail,
    ) -> None:
        self._database = database
        self._clock = clock
        self._images = images
        self._profiles = profiles
        self._arming = arming
        self._power = power
        self._trail = trail

    async def ask(
        self, principal: Principal, machine_id: str, profile_id: str, number: int | None = None
    ) -> InstallTask:
        """Ask for an installation; it waits for approval. Raises `MachineUnknown`, `MachineNotReady`, `MachineBusy`,
        `ProfileUnknown`, `Denied`, and `NotFound` or `Invalid` for images.
        """
        profile = await self._profiles.get(principal, profile_id)
        version = await self._profiles.version(principal, profile_id, number)
        machine = await self._usable(principal, machine_id)
        found = await self._images.resolved(principal, version.spec, machine)
        async with self._database.transaction() as unit:
            machine = await self._locked_machine(unit, machine.id)
            _require_ready(machine)
            now = unit.clock.now()
            task = InstallTask(
                id=new_id(self._clock),
                machine_id=machine.id,
                idc_id=machine.idc_id,
                idc=machine.idc,
                tenant_id=machine.tenant_id,
                tenant=machine.tenant,
                profile_id=profile.id,
                profile=f"{profile.tenant}/{profile.name}" if profile.tenant else profile.name,
                version=version.number,
                state=TaskState.PENDING,
                created_by=principal.name,
                created_at=now,
                since=now,
                images=found.images,
                content_tenant_id=machine.tenant_id or found.tenant_id,
                steps=planning.steps_of(version.spec),
                longest_seconds=version.spec.longest_seconds,
            )
            await store_tasks.add(unit.connection, task)
            await store_logs.add_history(unit.connection, task, now, principal.name, _MOST_HISTORY)
            await unit.announce(announced(task, machine))
            self._record(unit, principal, "asked", task, machine)
        return task

    async def approve(self, principal: Principal, task_id: str, approval: Approval) -> InstallTask:
        """The machine installs when it boots next. Raises `TaskUnknown`, `TaskOver`, `MachineNotReady`,
        `IntentTooLarge`, `Denied`.
        """

        def move(task: InstallTask, spec_steps: planning.Steps) -> InstallTask:
            return transitions.approve(
                task,
                new_id(self._clock),
                principal.name,
                spec_steps,
                self._clock.now(),
                approval.window,
                approval.retries,
            )

        return await self._arm(principal, task_id, "approved", move, power=approval.power)

    async def retry(self, principal: Principal, task_id: str, approval: Approval) -> InstallTask:
        """Another permission for one that failed or was cancelled. Raises as `approve`, and `MachineBusy` if another
        task took its place.
        """

        def move(task: InstallTask, spec_steps: planning.Steps) -> InstallTask:
            now = self._clock.now()
            return transitions.retry(task, new_id(self._clock), principal.name, spec_steps, now, approval.window)

        return await self._arm(principal, task_id, "retried", move, power=approval.power)

    async def reject(self, principal: Principal, task_id: str, reason: str = "") -> InstallTask:
        """Raises `TaskUnknown`, `TaskOver`, `Denied`."""
        return await self._end(
            principal,
            task_id,
            Permission.MACHINE_APPROVE,
            "rejected",
            lambda task: transitions.reject(task, reason[:1000], self._clock.now()),
        )

    async def cancel(self, principal: Principal, task_id: str, reason: str = "") -> InstallTask:
        """A machine that has not begun boots its disk; one that has is told to stop at its next word. Harmless to
        repeat. Raises `TaskUnknown`, `TaskOver`, `Denied`.
        """
        return await self._end(
            principal,
            task_id,
            Permission.MACHINE_WRITE,
            "cancelled",
            lambda task: transitions.cancel(task, reason[:1000], self._clock.now()),
        )

    async def sweep(self) -> int:
        """Presume failed what nothing was heard of; returns how many. For a periodic job."""
        now = self._clock.now()
        async with self._database.reading() as connection:
            ids = await store_tasks.silent(connection, now)
        lapsed = 0
        for task_id in ids:
            try:
                async with self._database.transaction() as unit:
                    task, machine = await self._locked(unit, task_id)
                    after = transitions.lapsed(task, now)
                    if after != task:
                        await self._arming.moved(unit, task, after, machine, "")
                        lapsed += 1
            except Failure as failure:
                log.warning("install task not looked at", task=task_id, error=str(failure))
        return lapsed

    async def forget_ended(self, kept: timedelta) -> int:
        async with self._database.transaction() as unit:
            return await store_tasks.forget_ended(unit.connection, unit.clock.now() - kept)

    async def _arm(
        self,
        principal: Principal,
        task_id: str,
        verb: str,
        move: Callable[[InstallTask, planning.Steps], InstallTask],
        *,
        power: bool,
    ) -> InstallTask:
        async with self._database.transaction() as unit:
            task, machine = await self._locked(unit, task_id, principal, Permission.MACHINE_APPROVE)
            _require_ready(machine)
            spec = await self._arming.spec(unit, task)
            after = move(task, planning.steps_of(spec))
            await self._give_up_others(unit, task, machine)
            await self._arming.arm(unit, after, machine, spec)
            after = await self._arming.moved(unit, task, after, machine, principal.name)
            self._record(unit, principal, verb, after, machine)
            if power and after.begin_by is not None:
                await self._power.for_installation(unit, machine, principal.name, after.begin_by, after.id)
        return after

    async def _give_up_others(self, unit: UnitOfWork, task: InstallTask, machine: Machine) -> None:
        """A machine acts on one intent: what was only presumed to have failed has failed now."""
        for other in await store_tasks.presumed_of(unit.connection, machine.id):
            if other.id != task.id:
                await self._arming.moved(unit, other, replace(other, presumed=False), machine, "")

    async def _end(
        self,
        principal: Principal,
        task_id: str,
        permission: Permission,
        verb: str,
        move: Callable[[InstallTask], InstallTask],
    ) -> InstallTask:
        async with self._database.transaction() as unit:
            task, machine = await self._locked(unit, task_id, principal, permission)
            after = move(task)
            if after != task:
                await self._arming.moved(unit, task, after, machine, principal.name)
                await self._power.withdraw_for(unit, task.id, f"the installation was {verb}")
                self._record(unit, principal, verb, after, machine)
        return after

    async def _usable(self, principal: Principal, machine_id: str) -> Machine:
        async with self._database.reading() as connection:
            found = await store.find(connection, machine_id) if is_id(machine_id) else None
        if found is None:
            principal.require(Permission.PLATFORM_READ)
            raise machine_unknown(machine_id)
        sight.require(principal, Permission.MACHINE_WRITE, found.tenant, machine_unknown(machine_id))
        _require_ready(found)
        return found

    async def _locked_machine(self, unit: UnitOfWork, machine_id: str) -> Machine:
        found = await store.find(unit.connection, machine_id, locked=True)
        if found is None:
            raise machine_unknown(machine_id)
        return found

    async def _locked(
        self,
        unit: UnitOfWork,
        task_id: str,
        principal: Principal | None = None,
        permission: Permission = Permission.MACHINE_READ,
    ) -> tuple[InstallTask, Machine]:
        """None: nobody asks."""
        found = await store_tasks.find(unit.connection, task_id) if is_id(task_id) else None
        if found is None:
            if principal is not None:
                principal.require(Permission.PLATFORM_READ)
            raise unknown(task_id)
        if principal is not None:
            sight.require(principal, permission, found.tenant, unknown(task_id))
        machine = await self._locked_machine(unit, found.machine_id)
        task = await store_tasks.find(unit.connection, task_id, locked=True)
        if task is None:
            raise unknown(task_id)
        return task, machine

    def _record(self, unit: UnitOfWork, principal: Principal, verb: str, task: InstallTask, machine: Machine) -> None:
        details = {
            "task_id": task.id,
            "profile": task.profile,
            "version": task.version,
            "attempt": task.attempt,
            "idc": machine.idc,
            "images": {name: image.manifest for name, image in task.images.items()},
        }
        act = act_of(principal, f"install.{verb}", tenant=task.tenant, subject=machine.name, details=details)
        self._trail.record(unit, act)
        log.info(f"install task {verb}", task=task.id, machine=machine.id, profile=task.profile, by=principal.name)


def unknown(task_id: str) -> TaskUnknown:
    return TaskUnknown(f"there is no install task {task_id[:80]!r}", action="see `longshore install list`")


def _require_ready(machine: Machine) -> None:
    if machine.state is not MachineState.READY:
        raise MachineNotReady(
            f"{machine.name} is {machine.state.value}", action="accept it first: `longshore machine accept`"
        )
