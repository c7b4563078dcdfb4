"""Use cases of retention: policies, their preview, starting and cancelling runs.

Invariant: every id is looked up within the tenant that the principal's right was checked for (Harbor's CVE-2022-31670
was this check missing). A policy has at most one unfinished run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from common.clock import Clock
from common.errors import NotFound
from common.identifiers import is_id, new_id
from control_plane.database import Database, UnitOfWork
from control_plane.jobs.periodic import tick_after
from control_plane.jobs.service import JobService
from control_plane.registry import repository_store
from control_plane.registry.collaborators import TenantDirectory
from control_plane.registry.model import Repository
from control_plane.registry.retention import images_store, store
from control_plane.registry.retention.access import owner_of
from control_plane.registry.retention.failures import (
    PolicyInvalid,
    PolicyNameTaken,
    PolicyUnknown,
    RunEnded,
    RunUnknown,
)
from control_plane.registry.retention.model import UNFINISHED, Decision, RetentionPolicy, Run, RunState
from control_plane.registry.retention.pictures import RunningImages, planned, read_picture
from control_plane.registry.retention.pulls import PullTimes
from control_plane.tenants.access import Permission, Principal
from control_plane.web.paging import Page, PageRequest

RUN_KIND = "registry.retention_run"
RUN_ATTEMPTS = 10
_MOST_POLICIES = 100
_DUE_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Previewed:
    """One image of one repository, and what a run would do with it now."""

    repository: str
    decision: Decision


class RetentionService:
    def __init__(
        self,
        database: Database,
        tenants: TenantDirectory,
        jobs: JobService,
        running: RunningImages,
        pulls: PullTimes,
        clock: Clock,
    ) -> None:
        self._database = database
        self._tenants = tenants
        self._jobs = jobs
        self._running = running
        self._pulls = pulls
        self._clock = clock

    async def policies(self, principal: Principal, tenant: str) -> Sequence[RetentionPolicy]:
        """By name. Raises `NotFound`, `Denied`, `Unauthenticated`, as every call here."""
        owner = await owner_of(self._tenants, principal, tenant, Permission.TENANT_READ)
        async with self._database.reading() as connection:
            return await store.policies_of(connection, owner)

    async def policy(self, principal: Principal, tenant: str, policy_id: str) -> RetentionPolicy:
        """Raises `PolicyUnknown`."""
        return await self._policy(await owner_of(self._tenants, principal, tenant, Permission.TENANT_READ), policy_id)

    async def add(self, principal: Principal, tenant: str, draft: RetentionPolicy) -> RetentionPolicy:
        """`draft` without ids. Its first run comes one interval from now. Raises `PolicyInvalid`, `PatternInvalid`,
        `PolicyNameTaken`.
        """
        owner = await owner_of(self._tenants, principal, tenant, Permission.TENANT_MANAGE)
        policy = self._scheduled(replace(draft, policy_id=new_id(self._clock), tenant_id=owner))
        policy.check()
        async with self._database.transaction() as unit:
            if len(await store.policies_of(unit.connection, owner)) >= _MOST_POLICIES:
                raise PolicyInvalid(f"the tenant has {_MOST_POLICIES} policies already", action="remove one")
            if not await store.add_policy(unit.connection, policy):
                raise PolicyNameTaken(f"there is a policy {policy.name!r} already", action="choose another name")
        return policy

    async def replace(
        self, principal: Principal, tenant: str, policy_id: str, draft: RetentionPolicy
    ) -> RetentionPolicy:
        """Everything but id and name. Raises like `add`, and `PolicyUnknown`."""
        owner = await owner_of(self._tenants, principal, tenant, Permission.TENANT_MANAGE)
        async with self._database.transaction() as unit:
            found = await store.find_policy(unit.connection, owner, policy_id, hold=True) if is_id(policy_id) else None
            if found is None:
                raise _unknown_policy(policy_id)
            policy = self._scheduled(replace(draft, policy_id=policy_id, tenant_id=owner, name=found.name))
            policy.check()
            await store.put_policy(unit.connection, policy)
        return policy

    async def remove(self, principal: Principal, tenant: str, policy_id: str) -> None:
        """With its history; a run of it stops before its next deletion. Raises `PolicyUnknown`."""
        owner = await owner_of(self._tenants, principal, tenant, Permission.TENANT_MANAGE)
        async with self._database.transaction() as unit:
            if not (is_id(policy_id) and await store.remove_policy(unit.connection, owner, policy_id)):
                raise _unknown_policy(policy_id)

    async def preview(
        self,
        principal: Principal,
        tenant: str,
        policy: str | RetentionPolicy,
        repository: str | None,
        page: PageRequest,
    ) -> Page[Previewed]:
        """What a run would do now with every image of the repositories that the policy (its id, or a draft) covers, or
        of one of them: what goes first. Changes nothing. Raises `PolicyUnknown`, `PolicyInvalid`, `PatternInvalid`.
        """
        owner = await owner_of(self._tenants, principal, tenant, Permission.TENANT_READ)
        if isinstance(policy, str):
            policy = await self._policy(owner, policy)
        else:
            policy = replace(policy, policy_id="", tenant_id=owner)
            policy.check()
        await self._pulls.flush()
        async with self._database.reading() as connection:
            others = await store.policies_of(connection, owner)
            repositories = await repository_store.repositories_of(connection, owner)
        shown: list[Previewed] = []
        for each in _covered(policy, repositories, repository):
            picture = await read_picture(self._database, self._running, each)
            plan = await planned(policy, others, picture, self._clock.now())
            shown += [Previewed(each.name, decision) for decision in plan.decisions]
        return Page(shown[page.offset : page.offset + page.limit], len(shown), page)

    async def start(self, principal: Principal, tenant: str, policy_id: str) -> Run:
        """A run of the policy, or the one that has not ended yet. Raises `PolicyUnknown`."""
        owner = await owner_of(self._tenants, principal, tenant, Permission.TENANT_MANAGE)
        async with self._database.transaction() as unit:
            found = await store.find_policy(unit.connection, owner, policy_id, hold=True) if is_id(policy_id) else None
            if found is None:
                raise _unknown_policy(policy_id)
            return await self._begin(unit, found, principal.name)

    async def runs(self, principal: Principal, tenant: str, policy_id: str, page: PageRequest) -> Page[Run]:
        """Newest first. Raises `PolicyUnknown`."""
        owner = await owner_of(self._tenants, principal, tenant, Permission.TENANT_READ)
        await self._policy(owner, policy_id)
        async with self._database.reading() as connection:
            found, total = await store.page_of_runs(connection, owner, policy_id, page.offset, page.limit)
        return Page(found, total, page)

    async def cancel(self, principal: Principal, tenant: str, policy_id: str, run_id: str) -> Run:
        """It stops before its next deletion; what it deleted stays deleted. Harmless to repeat. Raises `RunUnknown`,
        `RunEnded`.
        """
        owner = await owner_of(self._tenants, principal, tenant, Permission.TENANT_MANAGE)
        async with self._database.transaction() as unit:
            run = await store.find_run(unit.connection, owner, run_id, hold=True) if is_id(run_id) else None
            if run is None or run.policy_id != policy_id:
                raise RunUnknown(f"the policy has no run {run_id[:64]}", action="list its runs")
            if run.state is RunState.CANCELLED:
                return run
            if run.state not in UNFINISHED:
                raise RunEnded(f"the run {run_id} has ended: {run.state.value}", action="nothing is left to cancel")
            run = replace(run, state=RunState.CANCELLED, ended_at=unit.clock.now(), detail=f"by {principal.name}")
            await store.put_run(unit.connection, run)
        return run

    async def start_due(self) -> int:
        """For the schedule: begin the runs whose time has come; returns how many."""
        begun = 0
        async with self._database.transaction() as unit:
            now = unit.clock.now()
            for policy in await store.due_policies(unit.connection, now, _DUE_AT_ONCE):
                await self._begin(unit, policy, "schedule")
                await store.put_policy(unit.connection, replace(policy, next_run_at=_next(policy, now)))
                begun += 1
        return begun

    async def sweep(self, keep_runs: timedelta) -> tuple[int, int]:
        """Forget runs that ended longer ago, and pulls of what is gone; returns how many of each."""
        async with self._database.transaction() as unit:
            runs = await store.forget_runs(unit.connection, unit.clock.now() - keep_runs)
            return runs, await images_store.forget_pulls_of_the_gone(unit.connection)

    async def tenant_going(self, unit: UnitOfWork, tenant_id: str) -> str | None:
        """For `tenants`, when one is deleted: its rules go with it and keep nobody from deleting it."""
        await store.forget_tenant(unit.connection, tenant_id)
        return None

    async def _policy(self, owner: str, policy_id: str) -> RetentionPolicy:
        async with self._database.reading() as connection:
            found = await store.find_policy(connection, owner, policy_id) if is_id(policy_id) else None
        if found is None:
            raise _unknown_policy(policy_id)
        return found

    async def _begin(self, unit: UnitOfWork, policy: RetentionPolicy, by: str) -> Run:
        run = await store.unfinished_run(unit.connection, policy.policy_id)
        if run is None:
            run = Run(new_id(self._clock), policy.policy_id, policy.tenant_id, RunState.QUEUED, by, self._clock.now())
            await store.add_run(unit.connection, run)
        # Also for one that is unfinished: its job may have given up.
        payload = {"tenant_id": run.tenant_id, "run_id": run.run_id}
        await self._jobs.enqueue(unit, RUN_KIND, payload, unique_key=run.run_id, max_attempts=RUN_ATTEMPTS)
        return run

    def _scheduled(self, policy: RetentionPolicy) -> RetentionPolicy:
        if not policy.enabled or policy.interval_hours is None:
            return replace(policy, next_run_at=None)
        return replace(policy, next_run_at=self._clock.now() + timedelta(hours=policy.interval_hours))


def _next(policy: RetentionPolicy, now: datetime) -> datetime | None:
    if policy.next_run_at is None or policy.interval_hours is None:
        return None
    return tick_after(policy.next_run_at, timedelta(hours=policy.interval_hours), now)


def _covered(policy: RetentionPolicy, among: Sequence[Repository], only: str | None) -> list[Repository]:
    covered = [each for each in among if policy.covers(each.name)]
    if only is None:
        return covered
    wanted = [each for each in covered if each.name == only]
    if not wanted:
        raise NotFound(f"the policy covers no repository {only[:120]!r}", action="check its repository patterns")
    return wanted


def _unknown_policy(policy_id: str) -> PolicyUnknown:
    return PolicyUnknown(f"there is no retention policy {policy_id[:64]}", action="list the policies of this tenant")
