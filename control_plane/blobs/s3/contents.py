"""Which content is a blob: finding, publishing, discarding, moving aside. Blocking.

Publishing is one small write under a condition. Two that publish the same digest both have verified bytes: the one
that comes second replaces the first (that is how damage is repaired), or finds that it was overtaken and leaves its own
bytes to be removed. A content that is no longer named is not removed at once, because somebody may read it, or hold an
address of it: it is noted in `trash/` first, and `sweep` removes it later, unless it is named again.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

import structlog

from common.digest import Digest
from control_plane.blobs import BlobDamaged, BlobMissing, StorageFailed
from control_plane.blobs.s3 import objects
from control_plane.blobs.s3.calls import Changed, S3Calls
from control_plane.blobs.s3.documents import Discarded, Pointer, parse_discarded, parse_pointer
from control_plane.blobs.s3.layout import BLOBS, DAMAGED, TRASH, blob_key, digest_of, trash_key

_TRIES = 8
log = structlog.get_logger()


class Named(NamedTuple):
    pointer: Pointer
    etag: str


class Contents:
    def __init__(self, calls: S3Calls) -> None:
        self._calls = calls

    def find(self, digest: Digest) -> Named | None:
        found = objects.described(self._calls, blob_key(digest), "looking up the blob")
        if found is None:
            return None
        try:
            return Named(parse_pointer(found.note), found.etag)
        except ValueError as error:
            # Somebody else wrote into our bucket. Nothing is served of it; a push replaces it.
            log.error("a blob's name is not ours", digest=str(digest), error=str(error))
            return Named(Pointer("", -1), found.etag)

    def whole(self, digest: Digest, size: int) -> str:
        """The content's key. Raises `BlobMissing`, or `BlobDamaged` (and moves it aside) unless it has `size` bytes."""
        named = self.find(digest)
        if named is None:
            raise missing(digest)
        content = named.pointer.content
        stored = objects.size_of(self._calls, content, "looking at the blob") if content else None
        if stored == size:
            return content
        self.set_aside(digest, named)
        raise BlobDamaged(
            f"{digest} has {'no' if stored is None else stored} bytes in the object store instead of {size}; it was "
            "moved aside",
            action="push it again to repair it",
            digest=str(digest),
            stored_size=stored,
            recorded_size=size,
        )

    def publish(self, digest: Digest, pointer: Pointer, *, replace: bool) -> None:
        """`pointer` becomes the blob, or what somebody else published meanwhile does and ours is discarded. Without
        `replace` (an earlier try may have been overtaken long ago) whatever is there stays.
        """
        key, seen = blob_key(digest), None
        body = pointer.encode()
        for attempt in range(_TRIES):
            try:
                objects.write(self._calls, key, body, "publishing the blob", replacing=seen, note=body.decode("ascii"))
                return
            except Changed:
                named = self.find(digest)
            if named is None:
                seen = None
            elif named.pointer.content == pointer.content:
                return  # an answer of before was lost
            elif named.pointer.content and (attempt > 0 or not replace):
                self._discard(pointer.content, digest)
                return
            else:
                self._discard(named.pointer.content, digest)
                seen = named.etag
        raise StorageFailed(f"{digest} changes all the time", action="try again", retry_after_seconds=1)

    def delete(self, digest: Digest) -> None:
        named = self.find(digest)
        if named is not None:
            self._discard(named.pointer.content, digest)
            objects.remove(self._calls, blob_key(digest), "deleting the blob")

    def condemn(self, digest: Digest, content: str) -> None:
        """Move this content aside, if it still is the blob."""
        named = self.find(digest)
        if named is not None and named.pointer.content == content:
            self.set_aside(digest, named)

    def set_aside(self, digest: Digest, named: Named) -> None:
        """The content stays where it is; what it was is written down."""
        note = json.dumps({"digest": str(digest), "content": named.pointer.content, "size": named.pointer.size})
        aside = f"{DAMAGED}{digest.algorithm}-{digest.hex}-{secrets.token_hex(4)}"
        objects.put(self._calls, aside, note.encode(), "moving a damaged blob aside")
        current = self.find(digest)
        if current is not None and current.etag == named.etag:  # else it was repaired meanwhile
            objects.remove(self._calls, blob_key(digest), "moving a damaged blob aside")
        log.error("blob quarantined", digest=str(digest), moved_to=aside)

    def after(self, after: str) -> Iterator[Digest]:
        start = blob_key(Digest.parse(after)) if after else ""
        for entry in objects.listed(self._calls, BLOBS, "listing the blobs", start):
            digest = digest_of(entry.key)
            if digest is not None:
                yield digest

    def sweep(self, older_than: datetime) -> int:
        """Remove contents that were discarded before; returns how many."""
        removed = 0
        for entry in objects.listed(self._calls, TRASH, "sweeping discarded blobs"):
            if entry.modified >= older_than:
                continue
            found = objects.read(self._calls, entry.key, "sweeping discarded blobs")
            if found is None:
                continue
            content, digest = parse_discarded(found.data)
            named = self.find(digest)
            if named is None or named.pointer.content != content:
                objects.remove(self._calls, content, "removing a discarded blob")
                removed += 1
            objects.remove(self._calls, entry.key, "sweeping discarded blobs")
        return removed

    def _discard(self, content: str, digest: Digest) -> None:
        # Before the name changes: death in between leaves a note of a content that is still named, which sweep drops.
        if content:
            note = Discarded(content, str(digest)).encode()
            objects.put(self._calls, trash_key(content), note, "discarding a replaced blob")


def missing(digest: Digest) -> BlobMissing:
    return BlobMissing(f"nothing is stored as {digest}", action="push it again")
