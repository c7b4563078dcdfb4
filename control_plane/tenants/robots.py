"""Robots: accounts of a tenant for programs that push and pull, with keys of their own (`lsr_<id>_<secret>`).

Invariant: a robot may what its scopes say of repositories, today, and nothing else: it has no role, manages nothing and
sees no other tenant. A key is shown once and stored as a hash; several may be good at once, so that a new one can be
spread before the old one ends. A change of the robot or a key counts at once for everything that a key opened before,
registry tokens included, because those ask here again.

A robot is named `robot/<tenant>/<name>` where it logs in: no user's name has a slash, and no shell expands it (Harbor's
`robot$tenant+name` loses what follows the dollar when somebody forgets the quotes; see docs/decisions/0012).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from common.clock import Clock
from common.errors import Conflict, NotFound
from common.identifiers import new_id
from control_plane.audit.service import AuditTrail
from control_plane.database import Database, UnitOfWork
from control_plane.tenants import robot_store, store
from control_plane.tenants.access import Permission, Principal, RobotScope
from control_plane.tenants.acting import act_of
from control_plane.tenants.api_keys import ExpiryInPast
from control_plane.tenants.directory import TenantUnknown
from control_plane.tenants.opaque import OpaqueSecret
from control_plane.tenants.robot_keys import ROBOT_PREFIX, RobotKeys
from control_plane.tenants.robot_model import Robot, RobotKey, check_robot_name, check_robot_scopes
from control_plane.web.paging import Page, PageRequest

MAX_KEYS = 10


class RobotExists(Conflict):
    code = "robot_exists"


class RobotUnknown(NotFound):
    code = "robot_unknown"


class RobotKeyUnknown(NotFound):
    code = "robot_key_unknown"


class TooManyRobotKeys(Conflict):
    code = "too_many_robot_keys"


@dataclass(frozen=True, slots=True)
class NewRobotKey:
    """`text` is the key itself, which exists here and at its owner only."""

    robot: Robot
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class RobotChange:
    """None leaves as it is; `never_expires` takes the expiry away."""

    description: str | None = None
    scopes: Sequence[RobotScope] | None = None
    disabled: bool | None = None
    expires_at: datetime | None = None
    never_expires: bool = False


class RobotService:
    def __init__(self, database: Database, clock: Clock, keys: RobotKeys, trail: AuditTrail) -> None:
        self._trail = trail
        self._database = database
        self._clock = clock
        self._keys = keys

    async def create(
        self,
        principal: Principal,
        tenant: str,
        name: str,
        scopes: Sequence[RobotScope],
        *,
        description: str = "",
        expires_at: datetime | None = None,
    ) -> NewRobotKey:
        """With its first key. Raises `TenantUnknown`, `Denied`, `RobotNameInvalid`, `RobotScopeInvalid`,
        `ExpiryInPast`, `RobotExists`.
        """
        _check_manager(principal, tenant)
        now = self._clock.now()
        _check_to_come(expires_at, now)
        secret, key = self._new_key(now)
        robot = Robot(
            id=new_id(self._clock),
            tenant=tenant,
            name=check_robot_name(name),
            description=description,
            scopes=check_robot_scopes(scopes),
            disabled=False,
            expires_at=expires_at,
            created_by=principal.name,
            created_at=now,
            keys=(key,),
        )
        async with self._database.transaction() as unit:
            tenant_id = await _tenant_id(unit, tenant)
            if not await robot_store.add_robot(unit.connection, robot, tenant_id):
                raise RobotExists(f"{tenant} has a robot {name!r} already", action="choose another name")
            await robot_store.add_key(unit.connection, robot.id, key)
            self._trail.record(unit, act_of(principal, "tenants.robot_created", tenant=tenant, subject=name))
        return NewRobotKey(robot, secret.text(ROBOT_PREFIX))

    async def list(self, principal: Principal, tenant: str, page: PageRequest) -> Page[Robot]:
        """Raises `TenantUnknown`, `Denied`."""
        principal.require(Permission.TENANT_MANAGE, tenant)
        async with self._database.reading() as connection:
            found = await store.find_tenant(connection, tenant)
            if found is None:
                raise _unknown_tenant(tenant)
            return await robot_store.list_robots(connection, found.id, page, self._clock.now())

    async def get(self, principal: Principal, tenant: str, name: str) -> Robot:
        """Raises `TenantUnknown`, `Denied`, `RobotUnknown`."""
        principal.require(Permission.TENANT_MANAGE, tenant)
        async with self._database.reading() as connection:
            found = await store.find_tenant(connection, tenant)
            if found is None:
                raise _unknown_tenant(tenant)
            robot = await robot_store.find_robot(connection, found.id, name, self._clock.now())
        if robot is None:
            raise _unknown(tenant, name)
        return robot

    async def change(self, principal: Principal, tenant: str, name: str, change: RobotChange) -> Robot:
        """Raises `TenantUnknown`, `Denied`, `RobotUnknown`, `RobotScopeInvalid`, `ExpiryInPast`."""
        _check_manager(principal, tenant)
        _check_to_come(change.expires_at, self._clock.now())
        async with self._database.transaction() as unit:
            robot = await self._held(unit, tenant, name)
            changed = replace(
                robot,
                description=robot.description if change.description is None else change.description,
                scopes=robot.scopes if change.scopes is None else check_robot_scopes(change.scopes),
                disabled=robot.disabled if change.disabled is None else change.disabled,
                expires_at=None if change.never_expires else change.expires_at or robot.expires_at,
            )
            await robot_store.update_robot(unit.connection, changed)
            self._trail.record(unit, act_of(principal, "tenants.robot_changed", tenant=tenant, subject=name))
        await self._keys.forget(key.id for key in robot.keys)
        return changed

    async def delete(self, principal: Principal, tenant: str, name: str) -> None:
        """Raises `TenantUnknown`, `Denied`, `RobotUnknown`."""
        _check_manager(principal, tenant)
        async with self._database.transaction() as unit:
            robot = await self._held(unit, tenant, name)
            await robot_store.delete_robot(unit.connection, robot.id)
            self._trail.record(unit, act_of(principal, "tenants.robot_deleted", tenant=tenant, subject=name))
        await self._keys.forget(key.id for key in robot.keys)

    async def rotate(
        self, principal: Principal, tenant: str, name: str, overlap: timedelta | None = timedelta(0)
    ) -> NewRobotKey:
        """Another key. The ones before end after `overlap`; None leaves them as they are.

        Raises `TenantUnknown`, `Denied`, `RobotUnknown`, `TooManyRobotKeys`.
        """
        _check_manager(principal, tenant)
        now = self._clock.now()
        secret, key = self._new_key(now)
        async with self._database.transaction() as unit:
            robot = await self._held(unit, tenant, name)
            if len(robot.keys) >= MAX_KEYS:
                raise TooManyRobotKeys(
                    f"{robot.login} has {len(robot.keys)} keys", action="end those that nobody uses any more"
                )
            await robot_store.add_key(unit.connection, robot.id, key)
            if overlap is not None:
                await robot_store.end_keys(unit.connection, robot.id, key.id, now + overlap)
            self._trail.record(unit, act_of(principal, "tenants.robot_rotated", tenant=tenant, subject=name))
            changed = await self._held(unit, tenant, name)
        await self._keys.forget(each.id for each in robot.keys)
        return NewRobotKey(changed, secret.text(ROBOT_PREFIX))

    async def end_key(self, principal: Principal, tenant: str, name: str, key_id: str) -> None:
        """At once. Raises `TenantUnknown`, `Denied`, `RobotUnknown`, `RobotKeyUnknown`."""
        _check_manager(principal, tenant)
        async with self._database.transaction() as unit:
            robot = await self._held(unit, tenant, name)
            if key_id not in {key.id for key in robot.keys}:
                raise RobotKeyUnknown(f"{robot.login} has no key {key_id[:80]!r}", action="look at the robot's keys")
            await robot_store.delete_key(unit.connection, robot.id, key_id)
            self._trail.record(unit, act_of(principal, "tenants.robot_key_ended", tenant=tenant, subject=name))
        await self._keys.forget([key_id])

    async def forget_ended(self) -> int:
        """For a periodic job: keys that are over go; returns how many."""
        async with self._database.transaction() as unit:
            return await robot_store.forget_ended_keys(unit.connection, self._clock.now())

    async def _held(self, unit: UnitOfWork, tenant: str, name: str) -> Robot:
        tenant_id = await _tenant_id(unit, tenant)
        robot = await robot_store.find_robot(unit.connection, tenant_id, name, self._clock.now(), lock=True)
        if robot is None:
            raise _unknown(tenant, name)
        return robot

    def _new_key(self, now: datetime) -> tuple[OpaqueSecret, RobotKey]:
        secret = OpaqueSecret.generate(new_id(self._clock))
        return secret, RobotKey(secret.id, secret.hash, now, None, None)


async def _tenant_id(unit: UnitOfWork, tenant: str) -> str:
    found = await store.find_tenant(unit.connection, tenant)
    if found is None:
        raise _unknown_tenant(tenant)
    return found.id


def _check_manager(principal: Principal, tenant: str) -> None:
    principal.require(Permission.TENANT_MANAGE, tenant)
    principal.require_whole()


def _check_to_come(expires_at: datetime | None, now: datetime) -> None:
    if expires_at is not None and expires_at <= now:
        raise ExpiryInPast("the robot would have expired already", action="give a time that is still to come")


def _unknown_tenant(name: str) -> TenantUnknown:
    return TenantUnknown(f"there is no tenant {name[:80]!r}", action="check the name with `longshore tenant list`")


def _unknown(tenant: str, name: str) -> RobotUnknown:
    return RobotUnknown(
        f"{tenant} has no robot {name[:80]!r}", action=f"check the name with `longshore robot list {tenant}`"
    )
