"""Rows of profiles in, models out; never commits. Specifications come and go sealed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, insert, select, true, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.machines.profiles_model import Method, Profile, ProfileExists
from control_plane.machines.tables import profile_versions, profiles
from control_plane.web.paging import Page, PageRequest


@dataclass(frozen=True, slots=True)
class SealedVersion:
    profile_id: str
    number: int
    sealed_spec: bytes
    created_by: str
    created_at: datetime


async def add(connection: AsyncConnection, profile: Profile) -> None:
    """Raises `ProfileExists`."""
    try:
        await connection.execute(insert(profiles).values(_row(profile)))
    except IntegrityError:
        owner = profile.tenant or "the platform"
        raise ProfileExists(
            f"{owner} has a profile {profile.name} already", action="give that one another version, or choose a name"
        ) from None


async def put(connection: AsyncConnection, profile: Profile) -> None:
    await connection.execute(update(profiles).where(profiles.c.id == profile.id).values(_row(profile)))


async def remove(connection: AsyncConnection, profile_id: str) -> None:
    await connection.execute(delete(profiles).where(profiles.c.id == profile_id))


async def add_version(connection: AsyncConnection, version: SealedVersion) -> None:
    await connection.execute(
        insert(profile_versions).values(
            profile_id=version.profile_id,
            number=version.number,
            sealed_spec=version.sealed_spec,
            created_by=version.created_by,
            created_at=version.created_at,
        )
    )


async def find(connection: AsyncConnection, profile_id: str, *, locked: bool = False) -> Profile | None:
    question = select(profiles).where(profiles.c.id == profile_id)
    row = (await connection.execute(question.with_for_update() if locked else question)).one_or_none()
    return None if row is None else _profile(row)


async def find_by_name(connection: AsyncConnection, tenant: str, name: str) -> Profile | None:
    """`tenant` "": the platform's."""
    question = select(profiles).where(profiles.c.tenant == tenant, profiles.c.name == name)
    row = (await connection.execute(question)).one_or_none()
    return None if row is None else _profile(row)


async def find_version(connection: AsyncConnection, profile_id: str, number: int) -> SealedVersion | None:
    question = select(profile_versions).where(
        profile_versions.c.profile_id == profile_id, profile_versions.c.number == number
    )
    row = (await connection.execute(question)).one_or_none()
    return None if row is None else _version(row)


async def versions(connection: AsyncConnection, profile_id: str, request: PageRequest) -> Page[SealedVersion]:
    """Newest first."""
    of_profile = profile_versions.c.profile_id == profile_id
    total = await connection.scalar(select(func.count()).select_from(profile_versions).where(of_profile))
    rows = await connection.execute(
        select(profile_versions)
        .where(of_profile)
        .order_by(profile_versions.c.number.desc())
        .limit(request.limit)
        .offset(request.offset)
    )
    return Page([_version(row) for row in rows], int(total or 0), request)


async def page(connection: AsyncConnection, tenants: frozenset[str] | None, request: PageRequest) -> Page[Profile]:
    """By tenant and name. `tenants`: names of those whose profiles may be seen, None: all."""
    wanted = true() if tenants is None else profiles.c.tenant.in_(sorted(tenants))
    total = await connection.scalar(select(func.count()).select_from(profiles).where(wanted))
    rows = await connection.execute(
        select(profiles)
        .where(wanted)
        .order_by(profiles.c.tenant, profiles.c.name)
        .limit(request.limit)
        .offset(request.offset)
    )
    return Page([_profile(row) for row in rows], int(total or 0), request)


async def of_tenant(connection: AsyncConnection, tenant_id: str) -> int:
    question = select(func.count()).select_from(profiles).where(profiles.c.tenant_id == tenant_id)
    return int(await connection.scalar(question) or 0)


def _row(profile: Profile) -> dict[str, Any]:
    return {
        "id": profile.id,
        "tenant_id": profile.tenant_id,
        "tenant": profile.tenant,
        "name": profile.name,
        "description": profile.description,
        "latest": profile.latest,
        "created_at": profile.created_at,
        "updated_at": profile.updated_at,
        "family": profile.family,
        "system_version": profile.system_version,
        "method": profile.method.value,
    }


def _profile(row: Row[Any]) -> Profile:
    return Profile(
        id=row.id,
        tenant_id=row.tenant_id,
        tenant=row.tenant,
        name=row.name,
        description=row.description,
        latest=row.latest,
        created_at=row.created_at,
        updated_at=row.updated_at,
        family=row.family,
        system_version=row.system_version,
        method=Method(row.method),
    )


def _version(row: Row[Any]) -> SealedVersion:
    return SealedVersion(row.profile_id, row.number, row.sealed_spec, row.created_by, row.created_at)
