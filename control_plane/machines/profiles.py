"""Use cases of profiles: make one, give it another version, take it away, show what it would say to a machine.

Invariant: a version that was written was rendered first, with an example machine, so that a mistake is told to whoever
made it and not to the machine at night. Versions never change and are sealed where they lie.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import structlog

from common.clock import Clock
from common.errors import NotFound
from common.identifiers import is_id, new_id
from common.reference import Reference
from control_plane.audit.service import AuditTrail
from control_plane.database import Database, UnitOfWork
from control_plane.machines import profile_rules, records, rendering, sight, store, store_profiles, store_tasks
from control_plane.machines.answers.model import Answers
from control_plane.machines.model import Machine
from control_plane.machines.profiles_model import Profile, ProfileInUse, ProfileSpec, ProfileUnknown, ProfileVersion
from control_plane.machines.rendering import EXAMPLE
from control_plane.machines.service import unknown as machine_unknown
from control_plane.machines.store_profiles import SealedVersion
from control_plane.sealing import SealedBox
from control_plane.swarm.visibility import TenantDirectory
from control_plane.tenants.access import Permission, Principal
from control_plane.tenants.acting import act_of
from control_plane.web.paging import Page, PageRequest

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class NewProfile:
    """`tenant` "": the platform's."""

    name: str
    spec: ProfileSpec
    tenant: str = ""
    description: str = ""


class Specs:
    """Sealing and opening."""

    def __init__(self, box: SealedBox) -> None:
        self._box = box

    def sealed(self, version: ProfileVersion) -> SealedVersion:
        body = self._box.seal(records.spec_bytes(version.spec), _place(version.profile_id, version.number))
        return SealedVersion(version.profile_id, version.number, body, version.created_by, version.created_at)

    def opened(self, stored: SealedVersion) -> ProfileVersion:
        """Raises `SealBroken`."""
        body = self._box.open(stored.sealed_spec, _place(stored.profile_id, stored.number))
        return ProfileVersion(
            stored.profile_id, stored.number, records.spec_of(body), stored.created_by, stored.created_at
        )


class ProfileService:
    def __init__(
        self,
        database: Database,
        clock: Clock,
        tenants: TenantDirectory,
        specs: Specs,
        trail: AuditTrail,
    ) -> None:
        self._database = database
        self._clock = clock
        self._tenants = tenants
        self._specs = specs
        self._trail = trail

    async def create(self, principal: Principal, wish: NewProfile) -> Profile:
        """Raises `ProfileInvalid` and whatever a renderer objects to, `ProfileExists`, `NotFound`, `Denied`."""
        if wish.tenant:
            principal.require(Permission.MACHINE_WRITE, wish.tenant)
        else:
            principal.require(Permission.PLATFORM_MANAGE)
        profile_rules.check_name(wish.name)
        profile_rules.check_description(wish.description)
        self._check(principal, wish.spec)
        tenant_id = (await self._tenants.ids_of([wish.tenant])).get(wish.tenant) if wish.tenant else ""
        if tenant_id is None:
            raise _no_tenant(wish.tenant)
        now = self._clock.now()
        profile = Profile(
            id=new_id(self._clock),
            tenant_id=tenant_id,
            tenant=wish.tenant,
            name=wish.name,
            description=wish.description,
            latest=1,
            created_at=now,
            updated_at=now,
            family=wish.spec.system.family.value,
            system_version=wish.spec.system.version,
            method=wish.spec.method,
        )
        async with self._database.transaction() as unit:
            await store_profiles.add(unit.connection, profile)
            await self._add_version(unit, principal, profile, wish.spec, "created")
        return profile

    async def revise(
        self, principal: Principal, profile_id: str, spec: ProfileSpec, description: str | None = None
    ) -> Profile:
        """Its next version; tasks keep theirs. Raises `ProfileUnknown`, `ProfileInvalid`, `Denied`."""
        await self.get(principal, profile_id)
        self._check(principal, spec)
        async with self._database.transaction() as unit:
            known = await self._writable(unit, principal, profile_id)
            after = replace(
                known,
                description=known.description if description is None else profile_rules.check_description(description),
                latest=known.latest + 1,
                updated_at=unit.clock.now(),
                family=spec.system.family.value,
                system_version=spec.system.version,
                method=spec.method,
            )
            await store_profiles.put(unit.connection, after)
            await self._add_version(unit, principal, after, spec, "revised")
        return after

    async def remove(self, principal: Principal, profile_id: str) -> None:
        """Raises `ProfileUnknown`, `ProfileInUse`, `Denied`."""
        async with self._database.transaction() as unit:
            known = await self._writable(unit, principal, profile_id)
            if await store_tasks.open_of_profile(unit.connection, known.id):
                raise ProfileInUse(
                    f"install tasks of {known.name} are not over", action="wait for them, or cancel them"
                )
            await store_profiles.remove(unit.connection, known.id)
            self._record(unit, principal, known, "removed")

    async def get(self, principal: Principal, profile_id: str) -> Profile:
        """Raises `ProfileUnknown`."""
        async with self._database.reading() as connection:
            found = await store_profiles.find(connection, profile_id) if is_id(profile_id) else None
        if found is None or not readable(principal, found):
            principal.require(Permission.PLATFORM_READ)
            raise unknown(profile_id)
        return found

    async def page(self, principal: Principal, page: PageRequest) -> Page[Profile]:
        """Those of one's tenants, and the platform's."""
        tenants = sight.tenants_seen(principal)
        async with self._database.reading() as connection:
            return await store_profiles.page(connection, None if tenants is None else tenants | {""}, page)

    async def versions(self, principal: Principal, profile_id: str, page: PageRequest) -> Page[SealedVersion]:
        """Newest first. Raises `ProfileUnknown`."""
        profile = await self.get(principal, profile_id)
        async with self._database.reading() as connection:
            return await store_profiles.versions(connection, profile.id, page)

    async def version(self, principal: Principal, profile_id: str, number: int | None = None) -> ProfileVersion:
        """With its secrets; whoever shows it takes them out. None: the newest. Raises `ProfileUnknown`."""
        profile = await self.get(principal, profile_id)
        async with self._database.reading() as connection:
            found = await store_profiles.find_version(connection, profile.id, number or profile.latest)
        if found is None:
            raise ProfileUnknown(f"{profile.name} has no version {number}", action=f"its newest is {profile.latest}")
        return self._specs.opened(found)

    async def preview(
        self, principal: Principal, profile_id: str, number: int | None = None, machine_id: str | None = None
    ) -> Answers:
        """What its installer would read, without what is secret. Without a machine: an example. Raises
        `ProfileUnknown`, `MachineUnknown`, and what a renderer objects to.
        """
        version = await self.version(principal, profile_id, number)
        machine = EXAMPLE if machine_id is None else await self._machine(principal, machine_id)
        return rendering.preview(version.spec, machine)

    async def _machine(self, principal: Principal, machine_id: str) -> Machine:
        async with self._database.reading() as connection:
            found = await store.find(connection, machine_id) if is_id(machine_id) else None
        if found is None:
            raise machine_unknown(machine_id)
        sight.require(principal, Permission.MACHINE_READ, found.tenant, machine_unknown(machine_id))
        return found

    def _check(self, principal: Principal, spec: ProfileSpec) -> None:
        profile_rules.check(spec)
        for reference in profile_rules.images_of(spec).values():
            principal.require(Permission.IMAGE_PULL, Reference.parse(reference).tenant)
        rendering.check(spec)

    async def _writable(self, unit: UnitOfWork, principal: Principal, profile_id: str) -> Profile:
        found = await store_profiles.find(unit.connection, profile_id, locked=True) if is_id(profile_id) else None
        if found is None or not readable(principal, found):
            principal.require(Permission.PLATFORM_READ)
            raise unknown(profile_id)
        if not sight.may(principal, Permission.MACHINE_WRITE, found.tenant):
            raise sight.refused(principal, Permission.MACHINE_WRITE, found.tenant)
        return found

    async def _add_version(
        self, unit: UnitOfWork, principal: Principal, profile: Profile, spec: ProfileSpec, verb: str
    ) -> None:
        version = ProfileVersion(profile.id, profile.latest, spec, principal.name, unit.clock.now())
        await store_profiles.add_version(unit.connection, self._specs.sealed(version))
        self._record(unit, principal, profile, verb)

    def _record(self, unit: UnitOfWork, principal: Principal, profile: Profile, verb: str) -> None:
        details = {"version": profile.latest, "profile_id": profile.id}
        act = act_of(principal, f"profile.{verb}", tenant=profile.tenant, subject=profile.name, details=details)
        self._trail.record(unit, act)
        log.info(f"profile {verb}", profile=profile.name, version=profile.latest, by=principal.name)


def readable(principal: Principal, profile: Profile) -> bool:
    """The platform's profiles are everybody's to use."""
    if not profile.tenant:
        return principal.may(Permission.PLATFORM_READ)
    return sight.may(principal, Permission.MACHINE_READ, profile.tenant)


def unknown(profile_id: str) -> ProfileUnknown:
    return ProfileUnknown(f"there is no profile {profile_id[:80]!r}", action="see `longshore profile list`")


def _no_tenant(tenant: str) -> NotFound:
    return NotFound(f"there is no tenant {tenant[:80]!r}", action="check `longshore tenant list`")


def _place(profile_id: str, number: int) -> str:
    return f"profile_versions/{profile_id}/{number}"
