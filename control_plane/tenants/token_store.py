"""Queries over refresh tokens, ended access tokens and the keys that sign."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.database.upserts import insert_or_ignore, inserted
from control_plane.tenants.model import RefreshToken, SigningKeyRow
from control_plane.tenants.tables import refresh_tokens, revoked_tokens, signing_keys


async def add_refresh_token(connection: AsyncConnection, token: RefreshToken) -> None:
    await connection.execute(
        insert(refresh_tokens).values(
            id=token.id,
            family_id=token.family_id,
            user_id=token.user_id,
            secret_hash=token.secret_hash,
            generation=token.generation,
            access_id=token.access_id,
            access_expires_at=token.access_expires_at,
            created_at=token.created_at,
            expires_at=token.expires_at,
            used_at=token.used_at,
            revoked_at=token.revoked_at,
        )
    )


async def find_refresh_token(connection: AsyncConnection, token_id: str) -> RefreshToken | None:
    row = (await connection.execute(select(refresh_tokens).where(refresh_tokens.c.id == token_id))).first()
    return _refresh_token(row) if row is not None else None


async def family_of_access(connection: AsyncConnection, access_id: str) -> str | None:
    found: str | None = await connection.scalar(
        select(refresh_tokens.c.family_id).where(refresh_tokens.c.access_id == access_id)
    )
    return found


async def use_refresh_token(connection: AsyncConnection, token_id: str, now: datetime) -> bool:
    """False if it was used or revoked before: of two uses at once exactly one gets True."""
    used = await connection.execute(
        update(refresh_tokens)
        .where(
            refresh_tokens.c.id == token_id,
            refresh_tokens.c.used_at.is_(None),
            refresh_tokens.c.revoked_at.is_(None),
        )
        .values(used_at=now)
    )
    return used.rowcount == 1


async def revoke_family(connection: AsyncConnection, family_id: str, now: datetime) -> None:
    """Every refresh token of the family, and every access token that was handed out with one and still lives."""
    rows = await connection.execute(
        select(refresh_tokens).where(refresh_tokens.c.family_id == family_id, refresh_tokens.c.access_expires_at > now)
    )
    for token in [_refresh_token(row) for row in rows]:
        await revoke_access(connection, token.access_id, token.user_id, token.access_expires_at)
    await connection.execute(
        update(refresh_tokens)
        .where(refresh_tokens.c.family_id == family_id, refresh_tokens.c.revoked_at.is_(None))
        .values(revoked_at=now)
    )


async def revoke_access(connection: AsyncConnection, access_id: str, user_id: str, expires_at: datetime) -> None:
    row = {"id": access_id, "user_id": user_id, "expires_at": expires_at}
    await insert_or_ignore(connection, revoked_tokens, [row])


async def is_revoked(connection: AsyncConnection, access_id: str) -> bool:
    return await connection.scalar(select(revoked_tokens.c.id).where(revoked_tokens.c.id == access_id)) is not None


async def forget_expired(connection: AsyncConnection, now: datetime) -> int:
    """Drop what could not be used any more anyway; returns how many rows."""
    ended = await connection.execute(delete(revoked_tokens).where(revoked_tokens.c.expires_at <= now))
    # While the access token lives, its family must be found at logout.
    refreshed = await connection.execute(
        delete(refresh_tokens).where(refresh_tokens.c.expires_at <= now, refresh_tokens.c.access_expires_at <= now)
    )
    return ended.rowcount + refreshed.rowcount


async def signing_key_rows(connection: AsyncConnection) -> Sequence[SigningKeyRow]:
    """Oldest first."""
    rows = await connection.execute(select(signing_keys).order_by(signing_keys.c.sequence))
    return [SigningKeyRow(**row._mapping) for row in rows]


async def add_signing_key(connection: AsyncConnection, key: SigningKeyRow) -> bool:
    """False if another replica added the key of that sequence first."""
    row = {
        "id": key.id,
        "sequence": key.sequence,
        "sealed_private_pem": key.sealed_private_pem,
        "public_pem": key.public_pem,
        "created_at": key.created_at,
        "verifies_until": key.verifies_until,
    }
    return await inserted(connection, signing_keys, row, unless=["sequence"])


async def retire_signing_keys(connection: AsyncConnection, before: int, verifies_until: datetime) -> None:
    """Keys older than sequence `before` verify until then; those that were retired earlier keep their end."""
    await connection.execute(
        update(signing_keys)
        .where(signing_keys.c.sequence < before, signing_keys.c.verifies_until.is_(None))
        .values(verifies_until=verifies_until)
    )


async def forget_signing_keys(connection: AsyncConnection, now: datetime) -> None:
    await connection.execute(delete(signing_keys).where(signing_keys.c.verifies_until <= now))


def _refresh_token(row: Row[Any]) -> RefreshToken:
    return RefreshToken(**row._mapping)
