"""Queries over what was deleted and is still kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, delete, func, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from common.digest import Digest
from control_plane.database.upserts import insert_or_replace
from control_plane.registry.collection.model import TrashedManifest
from control_plane.registry.collection.tables import deleted_manifests, deleted_references, deleted_tags
from control_plane.registry.model import Manifest
from control_plane.registry.tables import blobs, manifest_references, manifests, repositories, repository_blobs, tags

Key = tuple[str, Digest]
# Made once: a part of every push of a manifest.
_FORGETTING = delete(deleted_manifests).where(
    tuple_(deleted_manifests.c.repository_id, deleted_manifests.c.digest).in_(bindparam("keys", expanding=True))
)


@dataclass(frozen=True, slots=True)
class Kept:
    """A manifest in the trash, with all that is needed to bring it back."""

    manifest: Manifest
    pushed_at: datetime
    pushed_by: str
    children: tuple[Digest, ...]
    blobs: tuple[Digest, ...]


async def keep_manifest(
    connection: AsyncConnection, repository_id: str, digest: Digest, by: str, now: datetime, purge_after: datetime
) -> list[Digest]:
    """Copy a live manifest into the trash, before its rows go; returns the blobs of the repository that it needs."""
    await forget_manifests(connection, [(repository_id, digest)])
    live = (manifests.c.repository_id == repository_id) & (manifests.c.digest == str(digest))
    copied = ["repository_id", "digest", "media_type", "payload", "pushed_at", "pushed_by"]
    row = (await connection.execute(select(*(manifests.c[name] for name in copied)).where(live))).one()
    more = {"deleted_at": now, "deleted_by": by, "purge_after": purge_after}
    await connection.execute(insert(deleted_manifests).values({**row._mapping, **more}))
    needed = select(
        manifest_references.c.repository_id,
        manifest_references.c.manifest,
        manifest_references.c.digest,
        func.min(manifest_references.c.kind).label("kind"),
    ).where(
        manifest_references.c.repository_id == repository_id,
        manifest_references.c.manifest == str(digest),
        manifest_references.c.kind != "foreign",
    )
    grouped = needed.group_by(
        manifest_references.c.repository_id, manifest_references.c.manifest, manifest_references.c.digest
    )
    columns = ["repository_id", "manifest", "digest", "kind"]
    await connection.execute(insert(deleted_references).from_select(columns, grouped))
    return await linked_needs(connection, [(repository_id, digest)])


async def linked_needs(connection: AsyncConnection, keys: Sequence[Key]) -> list[Digest]:
    """The blobs that manifests in the trash of one repository need and that it still links."""
    query = (
        select(deleted_references.c.digest)
        .join(
            repository_blobs,
            (repository_blobs.c.repository_id == deleted_references.c.repository_id)
            & (repository_blobs.c.digest == deleted_references.c.digest),
        )
        .where(tuple_(deleted_references.c.repository_id, deleted_references.c.manifest).in_(_texts(keys)))
        .distinct()
    )
    return [Digest.parse(text) for text in (await connection.execute(query)).scalars()]


async def forget_manifests(connection: AsyncConnection, keys: Sequence[Key]) -> None:
    """They are live again, or their time is over. References go with them on both engines."""
    if keys:
        await connection.execute(_FORGETTING, {"keys": _texts(keys)})


async def keep_tag(
    connection: AsyncConnection,
    repository_id: str,
    name: str,
    digest: Digest,
    by: str,
    now: datetime,
    purge_after: datetime,
) -> None:
    row = {
        "repository_id": repository_id,
        "name": name,
        "digest": str(digest),
        "deleted_at": now,
        "deleted_by": by,
        "purge_after": purge_after,
    }
    await insert_or_replace(connection, deleted_tags, [row])


async def forget_tags(connection: AsyncConnection, repository_id: str, names: Sequence[str]) -> None:
    await connection.execute(
        delete(deleted_tags).where(deleted_tags.c.repository_id == repository_id, deleted_tags.c.name.in_(names))
    )


async def deleted_tag(connection: AsyncConnection, repository_id: str, name: str) -> Digest | None:
    query = select(deleted_tags.c.digest).where(
        deleted_tags.c.repository_id == repository_id, deleted_tags.c.name == name
    )
    found = (await connection.execute(query)).scalar_one_or_none()
    return None if found is None else Digest.parse(found)


async def deleted_tags_of(
    connection: AsyncConnection, repository_id: str, digests: Sequence[Digest]
) -> dict[Digest, list[str]]:
    """The names that meant each of the manifests when they were deleted, in order."""
    query = (
        select(deleted_tags.c.digest, deleted_tags.c.name)
        .where(
            deleted_tags.c.repository_id == repository_id,
            deleted_tags.c.digest.in_([str(digest) for digest in digests]),
        )
        .order_by(deleted_tags.c.name)
    )
    found: dict[Digest, list[str]] = {}
    for row in await connection.execute(query):
        found.setdefault(Digest.parse(row.digest), []).append(row.name)
    return found


async def live_tags(connection: AsyncConnection, repository_id: str, names: Sequence[str]) -> set[str]:
    """Those of the names that mean something now."""
    query = select(tags.c.name).where(tags.c.repository_id == repository_id, tags.c.name.in_(names))
    return set((await connection.execute(query)).scalars())


async def find(connection: AsyncConnection, repository_id: str, digest: Digest, *, hold: bool = False) -> Kept | None:
    key = (deleted_manifests.c.repository_id == repository_id) & (deleted_manifests.c.digest == str(digest))
    query = select(deleted_manifests).where(key)
    row = (await connection.execute(query.with_for_update() if hold else query)).one_or_none()
    if row is None:
        return None
    query = select(deleted_references.c.digest, deleted_references.c.kind).where(
        deleted_references.c.repository_id == repository_id, deleted_references.c.manifest == str(digest)
    )
    needs = [(Digest.parse(each.digest), each.kind) for each in await connection.execute(query)]
    return Kept(
        Manifest(digest, row.media_type, bytes(row.payload)),
        row.pushed_at,
        row.pushed_by,
        tuple(each for each, kind in needs if kind == "manifest"),
        tuple(each for each, kind in needs if kind == "blob"),
    )


async def find_anywhere(connection: AsyncConnection, digest: Digest) -> Manifest | None:
    query = (
        select(deleted_manifests.c.media_type, deleted_manifests.c.payload)
        .where(deleted_manifests.c.digest == str(digest))
        .limit(1)
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else Manifest(digest, row.media_type, bytes(row.payload))


async def page(
    connection: AsyncConnection, repository_id: str, repository: str, offset: int, limit: int
) -> tuple[list[TrashedManifest], int]:
    """The latest deletions first, with the names that meant each, and how many there are in all."""
    mine = deleted_manifests.c.repository_id == repository_id
    total = (await connection.execute(select(func.count()).select_from(deleted_manifests).where(mine))).scalar_one()
    query = select(
        deleted_manifests.c.digest,
        deleted_manifests.c.media_type,
        func.length(deleted_manifests.c.payload).label("size"),
        deleted_manifests.c.deleted_at,
        deleted_manifests.c.deleted_by,
        deleted_manifests.c.purge_after,
    ).where(mine)
    order = (deleted_manifests.c.deleted_at.desc(), deleted_manifests.c.digest)
    rows = (await connection.execute(query.order_by(*order).offset(offset).limit(limit))).all()
    digests = [Digest.parse(row.digest) for row in rows]
    names = await deleted_tags_of(connection, repository_id, digests)
    sizes = await _needed_bytes(connection, repository_id, digests)
    found = [
        TrashedManifest(
            repository,
            digest,
            row.media_type,
            row.size + sizes.get(str(digest), 0),
            tuple(names.get(digest, ())),
            row.deleted_at,
            row.deleted_by,
            row.purge_after,
        )
        for digest, row in zip(digests, rows, strict=True)
    ]
    return found, total


async def _needed_bytes(connection: AsyncConnection, repository_id: str, digests: Sequence[Digest]) -> dict[str, int]:
    query = (
        select(deleted_references.c.manifest, func.sum(blobs.c.size).label("total"))
        .join(blobs, blobs.c.digest == deleted_references.c.digest)
        .where(
            deleted_references.c.repository_id == repository_id,
            deleted_references.c.manifest.in_([str(digest) for digest in digests]),
        )
        .group_by(deleted_references.c.manifest)
    )
    return {row.manifest: int(row.total) for row in await connection.execute(query)}


async def hold_due(connection: AsyncConnection, now: datetime, limit: int) -> list[Key]:
    """Manifests whose time in the trash is over and that nobody else is about to purge or to restore."""
    query = (
        select(deleted_manifests.c.repository_id, deleted_manifests.c.digest)
        .where(deleted_manifests.c.purge_after <= now)
        .order_by(deleted_manifests.c.purge_after)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [(row.repository_id, Digest.parse(row.digest)) for row in await connection.execute(query)]


async def count_due(connection: AsyncConnection, now: datetime) -> int:
    query = select(func.count()).select_from(deleted_manifests).where(deleted_manifests.c.purge_after <= now)
    return (await connection.execute(query)).scalar_one()


async def postpone(connection: AsyncConnection, keys: Sequence[Key], until: datetime) -> None:
    if keys:
        chosen = tuple_(deleted_manifests.c.repository_id, deleted_manifests.c.digest).in_(_texts(keys))
        await connection.execute(update(deleted_manifests).where(chosen).values(purge_after=until))


async def purge_tags(connection: AsyncConnection, now: datetime, limit: int) -> int:
    """Forget names whose manifest is not in the trash any more and whose time is over; returns how many."""
    kept = select(deleted_manifests.c.digest).where(
        deleted_manifests.c.repository_id == deleted_tags.c.repository_id,
        deleted_manifests.c.digest == deleted_tags.c.digest,
    )
    query = (
        select(deleted_tags.c.repository_id, deleted_tags.c.name)
        .where(deleted_tags.c.purge_after <= now, ~kept.exists())
        .limit(limit)
    )
    keys = [(row.repository_id, row.name) for row in await connection.execute(query.with_for_update(skip_locked=True))]
    if keys:
        await connection.execute(
            delete(deleted_tags).where(tuple_(deleted_tags.c.repository_id, deleted_tags.c.name).in_(keys))
        )
    return len(keys)


async def hold_all(connection: AsyncConnection, repository_id: str) -> list[Key]:
    """The repository's whole trash."""
    query = select(deleted_manifests.c.digest).where(deleted_manifests.c.repository_id == repository_id)
    rows = await connection.execute(query.order_by(deleted_manifests.c.digest).with_for_update())
    return [(repository_id, Digest.parse(text)) for text in rows.scalars()]


async def set_pushed(connection: AsyncConnection, repository_id: str, kept: Kept) -> None:
    """A manifest that came back is as old as it was: retention counts by it."""
    mine = (manifests.c.repository_id == repository_id) & (manifests.c.digest == str(kept.manifest.digest))
    await connection.execute(update(manifests).where(mine).values(pushed_at=kept.pushed_at, pushed_by=kept.pushed_by))


async def repository_names(connection: AsyncConnection, ids: Sequence[str]) -> dict[str, str]:
    query = select(repositories.c.id, repositories.c.name).where(repositories.c.id.in_(ids))
    return {row.id: row.name for row in await connection.execute(query)}


def _texts(keys: Sequence[Key]) -> list[tuple[str, str]]:
    return [(repository_id, str(digest)) for repository_id, digest in keys]
