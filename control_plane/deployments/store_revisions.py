"""What deployments ran, revision by revision; never commits."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.database.upserts import insert_or_ignore
from control_plane.deployments.model import Revision
from control_plane.deployments.records import images_of, images_record
from control_plane.deployments.tables import deployment_revisions as revisions
from control_plane.instances.records import spec_of, spec_record


async def add(connection: AsyncConnection, deployment_id: str, revision: Revision) -> None:
    """Whoever adds one holds the deployment's row."""
    row = {
        "deployment_id": deployment_id,
        "number": revision.number,
        "reference": revision.reference,
        "images": images_record(revision.images),
        "spec": spec_record(revision.spec),
        "cause": revision.cause,
        "created_by": revision.created_by,
        "created_at": revision.created_at,
        "finished_at": revision.finished_at,
    }
    await insert_or_ignore(connection, revisions, [row])


async def of(connection: AsyncConnection, deployment_id: str, numbers: Collection[int]) -> dict[int, Revision]:
    """Those of these numbers that are there."""
    asked = select(revisions).where(revisions.c.deployment_id == deployment_id, revisions.c.number.in_(numbers))
    return {row.number: _revision(row) for row in await connection.execute(asked)}


async def history(connection: AsyncConnection, deployment_id: str) -> list[Revision]:
    """All that are kept, the newest first."""
    asked = select(revisions).where(revisions.c.deployment_id == deployment_id).order_by(revisions.c.number.desc())
    return [_revision(row) for row in await connection.execute(asked)]


async def finish(connection: AsyncConnection, deployment_id: str, number: int, now: datetime) -> None:
    await connection.execute(
        update(revisions)
        .where(revisions.c.deployment_id == deployment_id, revisions.c.number == number)
        .values(finished_at=now)
    )


async def forget_before(connection: AsyncConnection, deployment_id: str, number: int, kept: Collection[int]) -> None:
    """Those below `number` that are not among `kept`."""
    await connection.execute(
        delete(revisions).where(
            revisions.c.deployment_id == deployment_id,
            revisions.c.number < number,
            revisions.c.number.not_in(kept),
        )
    )


async def forget_all(connection: AsyncConnection, deployment_id: str) -> None:
    await connection.execute(delete(revisions).where(revisions.c.deployment_id == deployment_id))


def _revision(row: Row[Any]) -> Revision:
    return Revision(
        number=row.number,
        reference=row.reference,
        images=images_of(row.images),
        spec=spec_of(row.spec),
        cause=row.cause,
        created_by=row.created_by,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )
