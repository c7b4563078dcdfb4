"""Queries over trusted keys, signature policies, and what is attached to a manifest. Every look-up by id names the
tenant as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, case, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from common.digest import Digest
from control_plane.database.upserts import inserted
from control_plane.registry.signatures.artifacts import cosign_tags
from control_plane.registry.signatures.model import Identity, KeyKind, SignaturePolicy, TrustedKey
from control_plane.registry.signatures.tables import signature_policies, trusted_keys
from control_plane.registry.tables import manifest_references, manifests, repositories, tags

# A signature's manifest has a few hundred bytes a layer.
_MAX_PAYLOAD = 1 << 18


@dataclass(frozen=True, slots=True)
class Attached:
    """`payload` is None if it is too long to be a signature's; `tag` is cosign's, if it hangs by one."""

    digest: Digest
    payload: bytes | None
    size: int
    pushed_at: datetime
    tag: str | None


async def attached_to(connection: AsyncConnection, repository_id: str, digest: Digest, limit: int) -> list[Attached]:
    """By `subject` or by cosign's tags, oldest first: what was attached first is not crowded out by later junk."""
    length = func.length(manifests.c.payload)
    names = cosign_tags(digest)
    query = (
        select(
            manifests.c.digest,
            case((length <= _MAX_PAYLOAD, manifests.c.payload)).label("payload"),
            length.label("size"),
            manifests.c.pushed_at,
            tags.c.name.label("tag"),
        )
        .outerjoin(
            tags,
            (tags.c.repository_id == manifests.c.repository_id)
            & (tags.c.digest == manifests.c.digest)
            & tags.c.name.in_(names),
        )
        .where(
            manifests.c.repository_id == repository_id,
            or_(manifests.c.subject == str(digest), manifests.c.digest.in_(_named(repository_id, names))),
        )
        .order_by(manifests.c.pushed_at, manifests.c.digest)
        .limit(limit)
    )
    found: dict[Digest, Attached] = {}
    for row in await connection.execute(query):
        payload = None if row.payload is None else bytes(row.payload)
        parsed = Digest.parse(row.digest)
        found.setdefault(parsed, Attached(parsed, payload, row.size, row.pushed_at, row.tag))
    return list(found.values())


def _named(repository_id: str, names: Sequence[str]) -> Any:
    return select(tags.c.digest).where(tags.c.repository_id == repository_id, tags.c.name.in_(names))


async def indexes_with(
    connection: AsyncConnection, repository_id: str, digests: Iterable[Digest], limit: int
) -> list[Digest]:
    """Indexes of the repository that list any of them."""
    texts = sorted(map(str, digests))
    query = (
        select(manifest_references.c.manifest)
        .where(
            manifest_references.c.repository_id == repository_id,
            manifest_references.c.kind == "manifest",
            manifest_references.c.digest.in_(texts),
        )
        .distinct()
        .order_by(manifest_references.c.manifest)
        .limit(limit)
    )
    return [Digest.parse(text) for text in (await connection.execute(query)).scalars()]


async def held_children(
    connection: AsyncConnection, repository_id: str, index: Digest, limit: int
) -> list[tuple[Digest, bytes]]:
    """The manifests that an index lists and the repository holds."""
    query = (
        select(manifests.c.digest, manifests.c.payload)
        .join(
            manifest_references,
            (manifest_references.c.repository_id == manifests.c.repository_id)
            & (manifest_references.c.digest == manifests.c.digest),
        )
        .where(
            manifest_references.c.repository_id == repository_id,
            manifest_references.c.manifest == str(index),
            manifest_references.c.kind == "manifest",
        )
        .order_by(manifest_references.c.position)
        .limit(limit)
    )
    return [(Digest.parse(row.digest), bytes(row.payload)) for row in await connection.execute(query)]


async def has_manifest(connection: AsyncConnection, repository_id: str, digest: Digest) -> bool:
    query = select(manifests.c.digest).where(
        manifests.c.repository_id == repository_id, manifests.c.digest == str(digest)
    )
    return (await connection.execute(query)).first() is not None


async def policies_for(connection: AsyncConnection, repository: str) -> list[SignaturePolicy]:
    """Enabled ones of the tenant that owns the repository of this name."""
    owner = select(repositories.c.tenant_id).where(repositories.c.name == repository).scalar_subquery()
    query = select(signature_policies).where(signature_policies.c.tenant_id == owner, signature_policies.c.enabled)
    rows = await connection.execute(query.order_by(signature_policies.c.name))
    return [_policy(row) for row in rows]


async def policies_of(connection: AsyncConnection, tenant_id: str) -> list[SignaturePolicy]:
    """By name."""
    query = select(signature_policies).where(signature_policies.c.tenant_id == tenant_id)
    return [_policy(row) for row in await connection.execute(query.order_by(signature_policies.c.name))]


async def find_policy(connection: AsyncConnection, tenant_id: str, policy_id: str) -> SignaturePolicy | None:
    query = select(signature_policies).where(
        signature_policies.c.tenant_id == tenant_id, signature_policies.c.id == policy_id
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _policy(row)


async def add_policy(connection: AsyncConnection, policy: SignaturePolicy) -> bool:
    """False if the tenant has one of that name."""
    row = {"id": policy.policy_id, "tenant_id": policy.tenant_id, "name": policy.name, **_values(policy)}
    return await inserted(connection, signature_policies, row, unless=["tenant_id", "name"])


async def put_policy(connection: AsyncConnection, policy: SignaturePolicy) -> None:
    """Everything but its name."""
    await connection.execute(
        update(signature_policies)
        .where(signature_policies.c.tenant_id == policy.tenant_id, signature_policies.c.id == policy.policy_id)
        .values(**_values(policy))
    )


async def remove_policy(connection: AsyncConnection, tenant_id: str, policy_id: str) -> bool:
    done = await connection.execute(
        delete(signature_policies).where(
            signature_policies.c.tenant_id == tenant_id, signature_policies.c.id == policy_id
        )
    )
    return done.rowcount > 0


async def keys_of(
    connection: AsyncConnection, tenant_id: str, among: Iterable[str] | None = None, *, hold: bool = False
) -> list[TrustedKey]:
    """By name; `hold` keeps them from being removed until the transaction ends."""
    query = select(trusted_keys).where(trusted_keys.c.tenant_id == tenant_id)
    if among is not None:
        query = query.where(trusted_keys.c.id.in_(sorted(among)))
    query = query.order_by(trusted_keys.c.name)
    return [_key(row) for row in await connection.execute(query.with_for_update(read=True) if hold else query)]


async def add_key(connection: AsyncConnection, key: TrustedKey) -> bool:
    """False if the tenant has one of that name, or the same key."""
    row = {
        "id": key.key_id,
        "tenant_id": key.tenant_id,
        "name": key.name,
        "kind": key.kind.value,
        "pem": key.pem,
        "fingerprint": key.fingerprint,
        "created_by": key.created_by,
        "created_at": key.created_at,
    }
    return await inserted(connection, trusted_keys, row)


async def hold_key(connection: AsyncConnection, tenant_id: str, key_id: str) -> bool:
    """Whether there is one; nobody names it in a policy until the transaction ends."""
    query = select(trusted_keys.c.id).where(trusted_keys.c.tenant_id == tenant_id, trusted_keys.c.id == key_id)
    return (await connection.execute(query.with_for_update())).first() is not None


async def remove_key(connection: AsyncConnection, tenant_id: str, key_id: str) -> None:
    await connection.execute(
        delete(trusted_keys).where(trusted_keys.c.tenant_id == tenant_id, trusted_keys.c.id == key_id)
    )


async def forget_tenant(connection: AsyncConnection, tenant_id: str) -> None:
    for table in (signature_policies, trusted_keys):
        await connection.execute(delete(table).where(table.c.tenant_id == tenant_id))


def _key(row: Row[Any]) -> TrustedKey:
    return TrustedKey(
        key_id=row.id,
        tenant_id=row.tenant_id,
        name=row.name,
        kind=KeyKind(row.kind),
        pem=row.pem,
        fingerprint=row.fingerprint,
        created_by=row.created_by,
        created_at=row.created_at,
    )


def _policy(row: Row[Any]) -> SignaturePolicy:
    definition = row.definition
    return SignaturePolicy(
        policy_id=row.id,
        tenant_id=row.tenant_id,
        name=row.name,
        repositories=tuple(definition["repositories"]),
        key_ids=tuple(definition["key_ids"]),
        needed=definition["needed"],
        identity=Identity(definition["identity"]),
        pushers_may_pull=definition["pushers_may_pull"],
        enabled=row.enabled,
    )


def _values(policy: SignaturePolicy) -> dict[str, Any]:
    return {
        "definition": {
            "repositories": list(policy.repositories),
            "key_ids": list(policy.key_ids),
            "needed": policy.needed,
            "identity": policy.identity.value,
            "pushers_may_pull": policy.pushers_may_pull,
        },
        "enabled": policy.enabled,
    }
