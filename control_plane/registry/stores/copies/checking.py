"""Whether a copy is the blob: all its bytes are read, from the disk where the kernel lets us, and hashed.

What is not the blob is moved aside in its store before anything else, so it is never served again; what was put in its
place meanwhile is left alone (`BlobStore.quarantine`).
"""

from __future__ import annotations

import contextlib
from enum import StrEnum

from common.digest import Digest
from control_plane.blobs import BlobDamaged, BlobMissing, DiskBacked
from control_plane.blobs.store_set.members import Member
from control_plane.registry.stores.copies.pace import ByteBudget


class Finding(StrEnum):
    GOOD = "good"
    WRONG = "wrong"  # other bytes, and as many
    CUT = "cut"  # of another length
    MISSING = "missing"


async def check_copy(member: Member, digest: Digest, size: int, budget: ByteBudget) -> Finding:
    """Raises `Unavailable` if the store is away: then nothing is known."""
    try:
        async with member.store.open(digest, size) as reader:
            if isinstance(reader, DiskBacked):
                await reader.forget_cached()
            hasher = digest.hasher()
            async with contextlib.aclosing(budget.paced(reader.read(0, size))) as pieces:
                async for piece in pieces:
                    hasher.update(piece)
            if hasher.digest() == digest:
                return Finding.GOOD
            await member.store.quarantine(digest, reader)
            return Finding.WRONG
    except BlobMissing:
        return Finding.MISSING
    except BlobDamaged:
        with contextlib.suppress(BlobDamaged, BlobMissing):
            # Cut while it was read: opening it anew moves it aside.
            async with member.store.open(digest, size):
                pass
        return Finding.CUT
