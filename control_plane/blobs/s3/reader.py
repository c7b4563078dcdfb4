"""Reading one content in 1 MiB pieces, the next one fetched while the client takes the last.

A connection that breaks is replaced and goes on where it broke, as long as it makes progress; a content that is shorter
than it should be is `BlobDamaged`, never a short answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from botocore.response import StreamingBody

from common.digest import Digest
from control_plane.blobs import BlobDamaged, StorageFailed
from control_plane.blobs.s3.calls import BROKEN, Absent, S3Calls
from control_plane.blobs.s3.contents import Contents
from control_plane.blobs.threads import BlobThreads, finished

_PIECE = 1 << 20


class S3Reader:
    """Reads of one reader may overlap: each has a connection of its own."""

    def __init__(
        self, calls: S3Calls, contents: Contents, threads: BlobThreads, digest: Digest, size: int, key: str
    ) -> None:
        self.size = size
        self._calls = calls
        self._contents = contents
        self._threads = threads
        self._digest = digest
        self._key = key

    @property
    def key(self) -> str:
        """Of the content that is read."""
        return self._key

    async def read(self, start: int, end: int) -> AsyncIterator[bytes]:
        if start >= end:
            return
        stream = _Stream(self, start, end)
        coming: asyncio.Future[bytes] | None = self._threads.start(stream.next)
        try:
            while coming is not None:
                piece = await finished(coming)
                coming = self._threads.start(stream.next) if stream.position < end else None
                yield piece
        finally:
            if coming is not None:
                await asyncio.wait([coming])
                if not coming.cancelled():
                    coming.exception()
            await self._threads.run(stream.close)

    def fetch(self, start: int, end: int) -> StreamingBody:
        """Raises `BlobDamaged` if the content is not `size` bytes long, `BlobMissing`, `StorageFailed`."""
        asked = f"bytes={start}-{end - 1}"
        try:
            answer = self._calls.call(
                "reading the blob",
                lambda: self._calls.client.get_object(Bucket=self._calls.bucket, Key=self._key, Range=asked),
            )
        except Absent:
            # It was replaced and the old content swept: the new one has the same bytes.
            self._key = self._contents.whole(self._digest, self.size)
            return self.fetch(start, end)
        if answer["ContentRange"] != f"bytes {start}-{end - 1}/{self.size}":
            answer["Body"].close()
            raise self.damaged(f"the object store has {answer['ContentRange']}")
        return answer["Body"]

    def damaged(self, what: str) -> BlobDamaged:
        return BlobDamaged(
            f"{self._digest} is not {self.size} bytes long: {what}",
            action="push it again to repair it",
            digest=str(self._digest),
            recorded_size=self.size,
        )


class _Stream:
    """One answer of the store after the other, as long as each brings something. Blocking; one call at a time."""

    def __init__(self, reader: S3Reader, start: int, end: int) -> None:
        self.position = start
        self._reader = reader
        self._end = end
        self._body: StreamingBody | None = None

    def next(self) -> bytes:
        wanted = min(_PIECE, self._end - self.position)
        held = bytearray()
        barren = 0
        while len(held) < wanted:
            if self._body is None:
                self._body = self._reader.fetch(self.position + len(held), self._end)
            piece = _read(self._body, wanted - len(held))
            held += piece
            if len(held) < wanted:
                self.close()
                barren = 0 if piece else barren + 1
                if barren > 3:
                    raise StorageFailed(
                        f"reading the blob failed: the object store broke off {barren} times at "
                        f"{self.position + len(held)}",
                        action="try again",
                        retry_after_seconds=5,
                    )
        self.position += wanted
        return bytes(held)

    def close(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.close()


def _read(body: StreamingBody, length: int) -> bytes:
    """Less than `length`, perhaps nothing, where the connection broke."""
    try:
        return body.read(length)
    except BROKEN:
        return b""
