"""Queries about join tokens."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.fleet.model import StoredJoinToken
from control_plane.fleet.tables import idcs, join_tokens


async def insert_token(connection: AsyncConnection, token: StoredJoinToken) -> None:
    await connection.execute(
        insert(join_tokens).values(
            id=token.id,
            kind=token.kind,
            idc_id=token.idc_id,
            name=token.name,
            secret_hash=token.secret_hash,
            created_by=token.created_by,
            created_at=token.created_at,
            expires_at=token.expires_at,
        )
    )


async def find_token(connection: AsyncConnection, token_id: str) -> StoredJoinToken | None:
    """Locked until the unit of work ends: of two that spend it at once, the second sees that it is used."""
    row = (
        await connection.execute(_tokens().where(join_tokens.c.id == token_id).with_for_update(of=join_tokens))
    ).one_or_none()
    return None if row is None else _token(row)


async def list_tokens(connection: AsyncConnection, offset: int, limit: int) -> tuple[Sequence[StoredJoinToken], int]:
    """Newest first."""
    total = await connection.scalar(select(func.count()).select_from(join_tokens))
    rows = await connection.execute(_tokens().order_by(join_tokens.c.id.desc()).offset(offset).limit(limit))
    return [_token(row) for row in rows], int(total or 0)


async def mark_used(connection: AsyncConnection, token_id: str, key_hash: str, identity_id: str, now: datetime) -> None:
    await connection.execute(
        update(join_tokens)
        .where(join_tokens.c.id == token_id)
        .values(used_at=now, used_key_hash=key_hash, identity_id=identity_id)
    )


async def delete_token(connection: AsyncConnection, token_id: str) -> bool:
    """Whether there was one."""
    result = await connection.execute(delete(join_tokens).where(join_tokens.c.id == token_id))
    return bool(result.rowcount)


async def delete_expired(connection: AsyncConnection, before: datetime) -> None:
    await connection.execute(delete(join_tokens).where(join_tokens.c.expires_at < before))


def _tokens() -> Any:
    return select(join_tokens, idcs.c.name.label("idc")).join(idcs, idcs.c.id == join_tokens.c.idc_id)


def _token(row: Row[Any]) -> StoredJoinToken:
    return StoredJoinToken(
        id=row.id,
        kind=row.kind,
        idc_id=row.idc_id,
        idc=row.idc,
        name=row.name,
        secret_hash=row.secret_hash,
        created_by=row.created_by,
        created_at=row.created_at,
        expires_at=row.expires_at,
        used_at=row.used_at,
        used_key_hash=row.used_key_hash,
        identity_id=row.identity_id,
    )
