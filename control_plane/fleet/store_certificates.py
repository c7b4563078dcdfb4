"""Queries about certificates and the authority."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from common.tls import IdentityKind
from control_plane.database.upserts import insert_or_ignore
from control_plane.fleet.certificates import Issued
from control_plane.fleet.tables import authorities, certificates

# TLS refuses an expired certificate by itself; the rows stay a little longer for whoever reads a log.
_KEPT_AFTER_EXPIRY = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class StoredAuthority:
    certificate_pem: bytes
    sealed_key: bytes


async def find_authority(connection: AsyncConnection, name: str) -> StoredAuthority | None:
    row = (await connection.execute(select(authorities).where(authorities.c.name == name))).one_or_none()
    return None if row is None else StoredAuthority(row.certificate_pem.encode(), row.sealed_key)


async def keep_authority(
    connection: AsyncConnection, name: str, certificate_pem: bytes, sealed_key: bytes, now: datetime
) -> StoredAuthority:
    """Store it unless there is one; returns the one that is stored."""
    values = {
        "name": name,
        "certificate_pem": certificate_pem.decode(),
        "sealed_key": sealed_key,
        "created_at": now,
    }
    await insert_or_ignore(connection, authorities, [values])
    stored = await find_authority(connection, name)
    assert stored is not None  # noqa: S101  inserted or found above, in this transaction
    return stored


async def record(connection: AsyncConnection, kind: IdentityKind, identity_id: str, issued: Issued) -> None:
    """Remember a certificate, so that it can be revoked; forgets those of this identity that expired long ago."""
    await connection.execute(
        delete(certificates).where(
            certificates.c.kind == kind,
            certificates.c.identity_id == identity_id,
            certificates.c.expires_at < issued.issued_at - _KEPT_AFTER_EXPIRY,
        )
    )
    await connection.execute(
        insert(certificates).values(
            serial=issued.serial,
            kind=kind,
            identity_id=identity_id,
            key_hash=issued.key_hash,
            issued_at=issued.issued_at,
            expires_at=issued.expires_at,
        )
    )


async def revoked_among(connection: AsyncConnection, serials: Collection[str]) -> set[str]:
    """Those of these certificates that were revoked. One that is not recorded was not: its signature is ours, and a
    database that was restored from yesterday's backup must not lock out every host that renewed since.
    """
    rows = await connection.scalars(
        select(certificates.c.serial).where(certificates.c.serial.in_(serials), certificates.c.revoked_at.is_not(None))
    )
    return set(rows)


async def has_key(connection: AsyncConnection, kind: IdentityKind, identity_id: str, key_hash: str) -> bool:
    """Whether this identity was ever given a certificate for this key."""
    found = await connection.scalar(
        select(certificates.c.serial)
        .where(
            certificates.c.kind == kind,
            certificates.c.identity_id == identity_id,
            certificates.c.key_hash == key_hash,
        )
        .limit(1)
    )
    return found is not None


async def revoke_all(connection: AsyncConnection, kind: IdentityKind, identity_id: str, now: datetime) -> None:
    await connection.execute(
        update(certificates)
        .where(
            certificates.c.kind == kind,
            certificates.c.identity_id == identity_id,
            certificates.c.revoked_at.is_(None),
        )
        .values(revoked_at=now)
    )
