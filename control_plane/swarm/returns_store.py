"""Queries over requests to give contents back, and over who could."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from common.digest import Digest
from common.tls import IdentityKind
from control_plane.fleet.tables import hosts, regionals
from control_plane.swarm.tables import content_returns, host_contents, regional_contents


@dataclass(frozen=True, slots=True)
class Holder:
    kind: IdentityKind
    id: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.id}"


class ReturnState(StrEnum):
    ASKED = "asked"
    GIVING = "giving"
    GIVEN = "given"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class ReturnRequest:
    id: str
    holder: Holder
    digest: Digest
    size: int
    state: ReturnState
    expires_at: datetime


async def holders(connection: AsyncConnection, digest: Digest, size: int, limit: int) -> Sequence[Holder]:
    """Attached regionals, then attached hosts, whose last report said that they hold all of it."""
    at_regionals = (
        select(regionals.c.id)
        .join(regional_contents, regional_contents.c.regional_id == regionals.c.id)
        .where(
            regional_contents.c.digest == str(digest),
            regional_contents.c.held_bytes == size,
            regional_contents.c.phase == "held",
            regionals.c.revoked_at.is_(None),
            regionals.c.session_id.is_not(None),
        )
        .distinct()
        .limit(limit)
    )
    found = [Holder("regional", each) for each in await connection.scalars(at_regionals)]
    if len(found) < limit:
        at_hosts = (
            select(hosts.c.id)
            .join(host_contents, host_contents.c.host_id == hosts.c.id)
            .where(
                host_contents.c.digest == str(digest),
                host_contents.c.held_bytes == size,
                host_contents.c.verified,
                hosts.c.revoked_at.is_(None),
                hosts.c.session_id.is_not(None),
            )
            .distinct()
            .limit(limit - len(found))
        )
        found += [Holder("host", each) for each in await connection.scalars(at_hosts)]
    return found


async def add(connection: AsyncConnection, request: ReturnRequest) -> None:
    await connection.execute(
        insert(content_returns).values(
            id=request.id,
            holder_kind=request.holder.kind,
            holder_id=request.holder.id,
            digest=str(request.digest),
            size_bytes=request.size,
            state=request.state.value,
            expires_at=request.expires_at,
        )
    )


async def find(connection: AsyncConnection, request_id: str) -> ReturnRequest | None:
    row = (await connection.execute(select(content_returns).where(content_returns.c.id == request_id))).one_or_none()
    if row is None:
        return None
    kind: IdentityKind = "regional" if row.holder_kind == "regional" else "host"
    return ReturnRequest(
        row.id,
        Holder(kind, row.holder_id),
        Digest.parse(row.digest),
        row.size_bytes,
        ReturnState(row.state),
        row.expires_at,
    )


async def move(
    connection: AsyncConnection,
    request_id: str,
    holder: Holder,
    before: ReturnState,
    after: ReturnState,
    now: datetime,
) -> ReturnRequest | None:
    """The request in its new state; None if it is another's, in another state, or lapsed."""
    moved = await connection.execute(
        update(content_returns)
        .where(
            content_returns.c.id == request_id,
            content_returns.c.holder_kind == holder.kind,
            content_returns.c.holder_id == holder.id,
            content_returns.c.state == before.value,
            content_returns.c.expires_at > now,
        )
        .values(state=after.value)
        .returning(content_returns.c.id)
    )
    return await find(connection, request_id) if moved.first() is not None else None


async def remove(connection: AsyncConnection, request_id: str) -> None:
    await connection.execute(delete(content_returns).where(content_returns.c.id == request_id))


async def forget_lapsed(connection: AsyncConnection, now: datetime) -> None:
    await connection.execute(delete(content_returns).where(content_returns.c.expires_at <= now))
