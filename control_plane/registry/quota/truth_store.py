"""What the registry's tables add up to, beside what the accounts say: queries for the recount.

Each figure is one query, and all of a recount run in one snapshot (`Database.reading`), in which both sides are of the
same moment, however many push meanwhile.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, func, literal, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.registry.quota.model import Kind, Subject, Truth
from control_plane.registry.quota.tables import quota_charges, quota_reservations
from control_plane.registry.tables import blobs, manifests, repositories, repository_blobs


async def truth_of(connection: AsyncConnection, subject: Subject) -> Truth:
    """A tenant's from the registry's tables alone; a user's blobs are the charges, which only they say who pays."""
    if subject.kind is Kind.TENANT:
        stored, payloads = _blobs_of_tenant(subject.subject_id), _payloads_of_tenant(subject.subject_id)
        made, reserved = repositories.c.tenant_id, quota_reservations.c.tenant_id
    else:
        stored = select(func.sum(quota_charges.c.size)).where(quota_charges.c.user_id == subject.subject_id)
        payloads = select(func.sum(func.length(manifests.c.payload))).where(manifests.c.pushed_by == subject.subject_id)
        made, reserved = repositories.c.created_by, quota_reservations.c.user_id
    used = await _number(connection, stored) + await _number(connection, payloads)
    images = select(func.count()).select_from(repositories).where(made == subject.subject_id)
    holding = select(func.sum(quota_reservations.c.bytes)).where(reserved == subject.subject_id)
    return Truth(used, await _number(connection, holding), await _number(connection, images))


async def wrong_charges(connection: AsyncConnection, tenant_id: str) -> list[str]:
    """Digests whose charge is missing, is too much, or has other figures than the tenant's repositories."""
    linked = (
        select(repository_blobs.c.digest, func.count().label("links"), func.max(blobs.c.size).label("size"))
        .join(repositories, repositories.c.id == repository_blobs.c.repository_id)
        .join(blobs, blobs.c.digest == repository_blobs.c.digest)
        .where(repositories.c.tenant_id == tenant_id)
        .group_by(repository_blobs.c.digest)
    )
    charged = select(quota_charges.c.digest, quota_charges.c.links, quota_charges.c.size).where(
        quota_charges.c.tenant_id == tenant_id
    )
    # Rows of which there are not two: those that only one side has.
    both = union_all(linked, charged).subquery()
    alone = (
        select(both.c.digest).group_by(both.c.digest, both.c.links, both.c.size).having(func.count() == literal(1))
    ).subquery()
    rows = await connection.execute(select(alone.c.digest).distinct().order_by(alone.c.digest))
    return list(rows.scalars())


async def links_of(connection: AsyncConnection, tenant_id: str, digest: str) -> tuple[int, int]:
    """How many repositories of the tenant link the blob, and its size."""
    query = (
        select(func.count().label("links"), func.coalesce(func.max(blobs.c.size), 0).label("size"))
        .select_from(repository_blobs)
        .join(repositories, repositories.c.id == repository_blobs.c.repository_id)
        .join(blobs, blobs.c.digest == repository_blobs.c.digest)
        .where(repositories.c.tenant_id == tenant_id, repository_blobs.c.digest == digest)
    )
    row = (await connection.execute(query)).one()
    return row.links, row.size


def _blobs_of_tenant(tenant_id: str) -> Select[Any]:
    linked = (
        select(repository_blobs.c.digest)
        .join(repositories, repositories.c.id == repository_blobs.c.repository_id)
        .where(repositories.c.tenant_id == tenant_id)
        .distinct()
        .subquery()
    )
    return select(func.sum(blobs.c.size)).join(linked, linked.c.digest == blobs.c.digest)


def _payloads_of_tenant(tenant_id: str) -> Select[Any]:
    return (
        select(func.sum(func.length(manifests.c.payload)))
        .join(repositories, repositories.c.id == manifests.c.repository_id)
        .where(repositories.c.tenant_id == tenant_id)
    )


async def _number(connection: AsyncConnection, query: Select[Any]) -> int:
    return int((await connection.execute(query)).scalar_one() or 0)
