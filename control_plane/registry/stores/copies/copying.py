"""Another copy of a blob in another store.

Invariant: a copy is published by the store's own commit, which verifies every byte; a row says so only after that. The
upload's id comes from the digest and the store: who dies on the way leaves an upload that the next one goes on with,
and that is aborted like any other if nobody does.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

from common.digest import Digest, DigestMismatch
from common.errors import Internal
from control_plane.blobs import BlobDamaged, BlobMissing, UploadUnknown
from control_plane.blobs.store_set.members import Member
from control_plane.registry.stores.copies.pace import ByteBudget


class SourceDamaged(Internal):
    """What was to be copied is not the blob; nothing was published."""

    code = "copy_source_damaged"


async def copy_blob(digest: Digest, size: int, source: Member, target: Member, budget: ByteBudget) -> None:
    """Raises `SourceDamaged`, `UploadBusy` if somebody else is at it, and what the stores fail with."""
    upload_id = upload_id_of(digest, target)
    held = await _resumed(target, upload_id, size)
    try:
        async with source.store.open(digest, size) as reader:
            await target.store.append(upload_id, held, budget.paced(reader.read(held, size)), digest.algorithm)
        await target.store.commit(upload_id, digest)
    except (DigestMismatch, BlobDamaged, BlobMissing) as failure:
        await target.store.abort(upload_id)
        raise SourceDamaged(
            f"the copy of {digest} in {source.name} is not the blob", action="it is looked at by the scrub"
        ) from failure


async def store_blob(digest: Digest, size: int, pieces: AsyncIterator[bytes], target: Member) -> None:
    """From elsewhere. Raises `DigestMismatch`, and what the store or `pieces` fail with."""
    upload_id = upload_id_of(digest, target)
    await target.store.abort(upload_id)
    await target.store.create_upload(upload_id)
    try:
        await target.store.append(upload_id, 0, pieces, digest.algorithm)
        await target.store.commit(upload_id, digest)
    except BaseException:
        await target.store.abort(upload_id)
        raise


async def _resumed(target: Member, upload_id: str, size: int) -> int:
    """Where to go on."""
    try:
        held = await target.store.upload_size(upload_id)
    except UploadUnknown:
        held = -1
    if 0 <= held <= size:
        return held
    if held > size:
        await target.store.abort(upload_id)
    await target.store.create_upload(upload_id)
    return 0


def upload_id_of(digest: Digest, target: Member) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:longshore:copy:{digest}:{target.name}"))
