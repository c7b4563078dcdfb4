"""One upload held for writing by this process: its document, the bytes that do not fill a part, its hash. Blocking.

How the bytes go. `write` fills a spool to the length of the part; full ones are sent by threads of their own, at most
two at a time, while the next fills. The document is saved when an append ends, and every 64 MiB between
(`_CHECKPOINT`), so that kill -9 costs at most those. It is saved under the condition that it is what we read: of two
replicas that write to one upload, one gets `UploadBusy` and has changed nothing that counts. Parts are not written
under a condition: where a part begins and ends depends on nothing but its number, so that a late one of a writer that
was given up has the same bytes as ours of that number. If a client sent other bytes the second time, putting the parts
together fails by their ETags; and none is left out, which Ceph would refuse (InvalidPart).
"""

from __future__ import annotations

import base64
import contextlib
import secrets
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from common.clock import Clock
from control_plane.blobs import BlobTooLarge, StorageFailed, UploadBusy, UploadUnknown
from control_plane.blobs.hash_state import BlobHasher, new_hasher, resumed
from control_plane.blobs.s3 import objects
from control_plane.blobs.s3.calls import Absent, Changed, S3Calls
from control_plane.blobs.s3.documents import Part, UploadDocument
from control_plane.blobs.s3.layout import LARGEST_OBJECT, MOST_PARTS, content_key, part_bytes, upload_key
from control_plane.blobs.s3.spool import Spool
from control_plane.blobs.threads import BlobThreads

_CHECKPOINT = 64 << 20
_IN_FLIGHT = 2
_LEASE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Workshop:
    """What the uploads of one store share. `senders` send parts and never wait for each other."""

    calls: S3Calls
    senders: BlobThreads
    clock: Clock
    instance: str
    part_bytes: int
    equal_parts: bool
    spool_directory: Path | None

    def spool(self) -> Spool:
        return Spool(self.spool_directory)

    def now(self) -> float:
        return self.clock.now().timestamp()


class _Sent(NamedTuple):
    part: Future[Part]
    hash: str | None
    spool: Spool


class HeldUpload:
    """`size` is that of all bytes taken; `document` is what the store knows. Not usable after a call failed."""

    def __init__(self, shop: Workshop, upload_id: str, document: UploadDocument, etag: str, tail: Spool) -> None:
        self.upload_id = upload_id
        self.document = document
        self.etag = etag
        self.tail = tail
        self.size = document.size
        self.hasher = _hasher_of(document)
        self.usable = True
        self._shop = shop
        self._parts = list(document.parts)
        self._hash = document.hash  # of the bytes in `_parts`, once there are new ones
        self._saved_tail = tail.size
        self._pending: deque[_Sent] = deque()
        self._claimed = False
        self._number = len(document.parts) + 1
        self._length = self._part_length()

    def require_free(self) -> None:
        """Raises `UploadBusy` while another process writes to it or publishes it."""
        document, now = self.document, self._shop.now()
        if document.holder not in ("", self._shop.instance) and document.until > now:
            raise busy(self.upload_id, document.until - now)

    def prepare(self, algorithm: str) -> None:
        """Hash what comes by `algorithm`, unless there is a hash already."""
        if self.document.complete or self.document.publishing is not None:
            raise UploadBusy(f"upload {self.upload_id} is being published", action="finish it, or start a new one")
        if self.size == 0:
            self.hasher = new_hasher(algorithm)

    def write(self, chunks: Sequence[bytes]) -> None:
        """Raises `UploadBusy`, `UploadUnknown`, `BlobTooLarge`, `DiskFull`, `StorageFailed`."""
        with self._broken_by_failure():
            for chunk in chunks:
                rest = memoryview(chunk)
                while rest:
                    piece = rest[: self._length - self.tail.size]
                    self.tail.write(piece)
                    if self.hasher is not None:
                        self.hasher.update(piece)
                    self.size += len(piece)
                    rest = rest[len(piece) :]
                    if self.tail.size == self._length:
                        self._send_tail()

    def save(self) -> None:
        """Let the store know all that was taken; afterwards anybody may go on. Raises like `write`."""
        if not self.usable:
            self._save_what_is_whole()
            return
        with self._broken_by_failure():
            self._collect_all()
            if self.size != self.document.size or self._claimed:
                document = self._described(self.size, _written(self.hasher))
                self.store(replace(document, holder="", until=0.0), self.tail, self.tail.size)
                self._claimed = False

    def fill(self) -> UploadDocument:
        """What is left becomes the last part, for uploads that have parts; the document that is then to be stored."""
        with self._broken_by_failure():
            if self.tail.size:
                self._parts.append(self._put_part(self._number, self.tail))
                self._number += 1
            return self._described(self.size, _written(self.hasher))

    def store(self, document: UploadDocument, tail: Spool, tail_bytes: int) -> None:
        """Write the document with the first bytes of `tail`, if it is still what we read."""
        document = replace(document, nonce=secrets.token_hex(8))
        key, doing = upload_key(self.upload_id), "saving the upload"
        body = tail.after(document.line(), tail_bytes)
        try:
            etag = objects.write(self._shop.calls, key, body.body(), doing, replacing=self.etag)
        except Changed:
            etag = self._own_work(document)
        finally:
            body.close()
        self.document, self.etag, self._saved_tail = document, etag, tail_bytes

    def close(self) -> None:
        self.tail.close()

    def _own_work(self, document: UploadDocument) -> str:
        """The ETag, if what is there is what we wrote: the answer to an earlier try was lost."""
        found = objects.read(self._shop.calls, upload_key(self.upload_id), "looking at the upload")
        if found is None:
            raise unknown(self.upload_id)
        if not found.data.startswith(document.line()):
            raise busy(self.upload_id, 1.0)
        return found.etag

    def _described(self, size: int, hash_state: str | None) -> UploadDocument:
        return replace(self.document, size=size, parts=tuple(self._parts), hash=hash_state)

    def _part_length(self) -> int:
        return part_bytes(self.size - self.tail.size, self._shop.part_bytes, equal=self._shop.equal_parts)

    def _send_tail(self) -> None:
        if not self._claimed:
            self._claim()
        while len(self._pending) >= _IN_FLIGHT:
            self._collect()
        if self._number > MOST_PARTS or self.size > LARGEST_OBJECT:
            raise BlobTooLarge(
                f"the object store takes no blob of more than {self.size} bytes in parts like these",
                action="push a smaller one, or set larger parts (blobs.s3.part_bytes)",
            )
        number, spool, self.tail = self._number, self.tail, self._shop.spool()
        self._number += 1
        self._pending.append(
            _Sent(self._shop.senders.submit(self._put_part, number, spool), _written(self.hasher), spool)
        )
        self._length = self._part_length()

    def _claim(self) -> None:
        """Before the first part: say who writes, so that others keep away, and to which multipart upload."""
        document = self.document
        if document.multipart is None:
            document = replace(document, multipart=self._new_multipart())
        until = self._shop.now() + _LEASE_SECONDS
        document = replace(document, holder=self._shop.instance, until=until)
        self.store(document, self.tail, self._saved_tail)
        self._claimed = True

    def _new_multipart(self) -> str:
        calls, key = self._shop.calls, content_key(self.upload_id)
        return calls.call(
            "beginning the upload",
            lambda: calls.client.create_multipart_upload(Bucket=calls.bucket, Key=key)["UploadId"],
        )

    def _put_part(self, number: int, spool: Spool) -> Part:
        calls, multipart = self._shop.calls, self.document.multipart or ""

        def put() -> str:
            return calls.client.upload_part(
                Bucket=calls.bucket,
                Key=content_key(self.upload_id),
                UploadId=multipart,
                PartNumber=number,
                Body=spool.body(),
            )["ETag"]

        try:
            return Part(number, spool.size, calls.call("sending a part", put))
        except Absent:
            raise self._taken_away() from None

    def _taken_away(self) -> UploadUnknown | UploadBusy:
        """The multipart upload is gone: another replica finishes it just now, or the bucket's owner removed it."""
        found = objects.read(self._shop.calls, upload_key(self.upload_id), "looking at the upload")
        if found is None or found.etag == self.etag:
            return unknown(self.upload_id)
        return busy(self.upload_id, 1.0)

    def _collect(self) -> None:
        sent = self._pending[0]
        part = sent.part.result()
        self._pending.popleft()
        sent.spool.close()
        self._parts.append(part)
        self._hash = sent.hash
        known = self.document.parts_size
        whole = known + sum(each.size for each in self._parts[len(self.document.parts) :])
        if whole - known >= _CHECKPOINT or self._shop.now() > self.document.until - _LEASE_SECONDS / 2:
            until = self._shop.now() + _LEASE_SECONDS
            self.store(replace(self._described(whole, self._hash), until=until), self.tail, 0)

    def _collect_all(self) -> None:
        while self._pending:
            self._collect()

    @contextlib.contextmanager
    def _broken_by_failure(self) -> Iterator[None]:
        if not self.usable:
            raise UploadUnknown(f"upload {self.upload_id} was closed", action="ask for its size and go on there")
        try:
            yield
        except BaseException:
            self.usable = False
            raise

    def _save_what_is_whole(self) -> None:
        """After a failure: the parts that arrived one after the other count, if the store can be told."""
        for sent in self._pending:
            sent.part.exception()
        with contextlib.suppress(Exception):
            self._collect_all()
        with contextlib.suppress(StorageFailed, UploadBusy, UploadUnknown):
            if len(self._parts) > len(self.document.parts):
                whole = sum(part.size for part in self._parts)
                self.store(replace(self._described(whole, self._hash), holder="", until=0.0), self.tail, 0)
        for sent in self._pending:
            sent.spool.close()


def _hasher_of(document: UploadDocument) -> BlobHasher | None:
    """None where the hash cannot be gone on with: then the content is read when it is committed."""
    if document.hash is not None:
        hasher = resumed(base64.b64decode(document.hash))
        if hasher is not None and hasher.size == document.size:
            return hasher
    return None


def _written(hasher: BlobHasher | None) -> str | None:
    state = hasher.state() if hasher is not None else None
    return base64.b64encode(state).decode() if state is not None else None


def unknown(upload_id: str) -> UploadUnknown:
    return UploadUnknown(f"there is no upload {upload_id[:64]!r}", action="start a new upload")


def busy(upload_id: str, seconds: float) -> UploadBusy:
    return UploadBusy(
        f"another request writes to upload {upload_id}",
        action="try again when it has ended",
        retry_after_seconds=max(1.0, seconds),
    )
