"""Uploads from their first request to their end: making, finding, finishing, aborting, sweeping. Blocking.

Commit, in this order: verify the hash; make the content whole (one object, or the parts put together by the store: no
byte is sent or read again); say in the upload's document what it is being published as; publish; remove the document.
Each step can be repeated, by this process or another one, so death between any two costs nothing but the repetition.
An upload that is aborted is marked first, under the same condition as every other change of it: a commit and an abort
that meet cannot both win, and a content that was published is never removed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from functools import partial

import structlog

from common.digest import Digest
from control_plane.blobs import PendingUpload, StorageFailed, UploadBusy
from control_plane.blobs.hash_state import BlobHasher, new_hasher
from control_plane.blobs.s3 import objects
from control_plane.blobs.s3.calls import Absent, Changed
from control_plane.blobs.s3.contents import Contents
from control_plane.blobs.s3.documents import Pointer, UploadDocument, parse_upload
from control_plane.blobs.s3.layout import CONTENTS, UPLOADS, content_key, upload_key
from control_plane.blobs.s3.upload import HeldUpload, Workshop, busy, unknown

_PIECE = 1 << 20
_PUBLISH_LEASE_SECONDS = 120.0
log = structlog.get_logger()


class Uploads:
    def __init__(self, shop: Workshop, contents: Contents) -> None:
        self._shop = shop
        self._calls = shop.calls
        self._contents = contents

    def create(self, upload_id: str) -> HeldUpload:
        document = UploadDocument(nonce=upload_id)
        key, doing = upload_key(upload_id), "making an upload"
        try:
            etag = objects.write(self._calls, key, document.line(), doing, replacing=None)
        except Changed:  # the answer to an earlier try was lost
            return self.load(upload_id)
        return HeldUpload(self._shop, upload_id, document, etag, self._shop.spool())

    def load(self, upload_id: str) -> HeldUpload:
        """Raises `UploadUnknown`, `StorageFailed`."""

        def get() -> HeldUpload:
            answer = self._calls.client.get_object(Bucket=self._calls.bucket, Key=upload_key(upload_id))
            tail = self._shop.spool()
            with closing(answer["Body"]) as body:
                document = parse_upload(body.readline())
                while piece := body.read(_PIECE):
                    tail.write(piece)
            return HeldUpload(self._shop, upload_id, document, objects.bare(answer["ETag"]), tail)

        try:
            held = self._calls.call("looking at the upload", get)
        except (Absent, ValueError):
            raise unknown(upload_id) from None
        if held.document.aborted:
            raise unknown(upload_id)
        return held

    def size(self, upload_id: str) -> int:
        document = self._document(upload_id)
        if document is None or document.aborted:
            raise unknown(upload_id)
        return document.size

    def commit(self, held: HeldUpload, digest: Digest) -> int:
        upload_id = held.upload_id
        digest.verify(self._digest(held, digest.algorithm))
        document, again = held.document, held.document.publishing is not None
        if document.parts and not document.complete:
            document = held.fill()
        elif not document.complete:
            objects.put(self._calls, content_key(upload_id), held.tail.body(), "storing the blob")
            document = replace(document, complete=True)
        until = self._shop.now() + _PUBLISH_LEASE_SECONDS
        held.store(replace(document, publishing=str(digest), holder=self._shop.instance, until=until), held.tail, 0)
        self._put_together(held)
        self._contents.publish(digest, Pointer(content_key(upload_id), document.size), replace=not again)
        self._forget(upload_id)
        return document.size

    def abort(self, upload_id: str) -> None:
        """Raises `UploadBusy` while it is being published elsewhere."""
        for _ in range(3):
            found = objects.read(self._calls, upload_key(upload_id), "aborting an upload")
            document = _parsed(found.data) if found is not None else None
            if found is None or document is None:
                return
            elsewhere = document.publishing is not None and document.holder != self._shop.instance
            if elsewhere and document.until > self._shop.now():
                raise busy(upload_id, document.until - self._shop.now())
            marked = replace(document, aborted=True, nonce=f"{document.nonce}-aborted")
            try:
                objects.write(
                    self._calls, upload_key(upload_id), marked.line(), "aborting an upload", replacing=found.etag
                )
            except Changed:
                continue  # somebody wrote to it, or we did and never heard of it
            self._remove(upload_id, document)
            return
        raise UploadBusy(f"upload {upload_id} is being written to", action="try again when it has ended")

    def pending(self, older_than: datetime) -> Iterator[PendingUpload]:
        for entry in objects.listed(self._calls, UPLOADS, "listing the uploads"):
            if entry.modified < older_than:
                upload_id = entry.key.removeprefix(UPLOADS)
                document = self._document(upload_id)
                if document is not None:
                    yield PendingUpload(upload_id, document.size, entry.modified)

    def sweep_multiparts(self, older_than: datetime) -> int:
        """End multipart uploads that no document knows of (death right after one was begun): their parts cost money."""
        ended = 0
        for upload_id, multipart in self._multiparts(older_than):
            document = self._document(upload_id)
            if document is None or document.multipart != multipart:
                self._end_multipart(upload_id, multipart)
                ended += 1
        return ended

    def _multiparts(self, older_than: datetime) -> Iterator[tuple[str, str]]:
        key, multipart = "", ""
        while True:
            ask = partial(
                self._calls.client.list_multipart_uploads,
                Bucket=self._calls.bucket,
                Prefix=CONTENTS,
                KeyMarker=key,
                UploadIdMarker=multipart,
            )
            answer = self._calls.call("listing unfinished uploads", ask)
            for entry in answer.get("Uploads", []):
                if entry["Initiated"] < older_than:
                    yield entry["Key"].removeprefix(CONTENTS), entry["UploadId"]
            if not answer["IsTruncated"]:
                return
            key, multipart = answer["NextKeyMarker"], answer["NextUploadIdMarker"]

    def _document(self, upload_id: str) -> UploadDocument | None:
        def get() -> bytes:
            answer = self._calls.client.get_object(Bucket=self._calls.bucket, Key=upload_key(upload_id))
            with closing(answer["Body"]) as body:
                return body.readline()

        try:
            return _parsed(self._calls.call("looking at the upload", get))
        except Absent:
            return None

    def _digest(self, held: HeldUpload, algorithm: str) -> Digest:
        hasher = held.hasher
        if hasher is not None and hasher.algorithm == algorithm:
            return hasher.digest()
        # Another algorithm than was announced, or a platform that cannot write hashes down.
        hasher = new_hasher(algorithm)
        if held.size == 0:
            return hasher.digest()
        if not held.document.parts and not held.document.complete:
            for piece in held.tail.pieces():
                hasher.update(piece)
            return hasher.digest()
        if not held.document.complete:
            held.store(held.fill(), held.tail, 0)
            self._put_together(held)
            held.store(replace(held.document, complete=True), held.tail, 0)
        return self._read_again(held, hasher)

    def _read_again(self, held: HeldUpload, hasher: BlobHasher) -> Digest:
        position = 0
        while position < held.size:
            end = min(position + 8 * _PIECE, held.size)
            asked = f"bytes={position}-{end - 1}"

            def get(asked: str = asked) -> bytes:
                key = content_key(held.upload_id)
                answer = self._calls.client.get_object(Bucket=self._calls.bucket, Key=key, Range=asked)
                with closing(answer["Body"]) as body:
                    return body.read()

            hasher.update(self._calls.call("reading the upload again", get))
            position = end
        return hasher.digest()

    def _put_together(self, held: HeldUpload) -> None:
        """The parts become the content, unless they did so before."""
        document, key = held.document, content_key(held.upload_id)
        if document.parts and not document.complete:
            parts = [{"PartNumber": part.number, "ETag": part.etag} for part in document.parts]
            try:
                self._calls.call(
                    "putting the parts together",
                    lambda: self._calls.client.complete_multipart_upload(
                        Bucket=self._calls.bucket,
                        Key=key,
                        UploadId=document.multipart or "",
                        MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
                    ),
                )
            except Absent:
                log.info("the parts were put together before", upload=held.upload_id)
        stored = objects.size_of(self._calls, key, "looking at the content")
        if stored is None:
            raise unknown(held.upload_id)
        if stored != document.size:
            raise StorageFailed(
                f"the object store put {stored} bytes together instead of {document.size}", action="push it again"
            )

    def _remove(self, upload_id: str, document: UploadDocument) -> None:
        key = content_key(upload_id)
        named = self._contents.find(Digest.parse(document.publishing)) if document.publishing is not None else None
        if named is None or named.pointer.content != key:
            if document.multipart is not None:
                self._end_multipart(upload_id, document.multipart)
            objects.remove(self._calls, key, "aborting an upload")
        objects.remove(self._calls, upload_key(upload_id), "aborting an upload")

    def _end_multipart(self, upload_id: str, multipart: str) -> None:
        try:
            self._calls.call(
                "aborting an upload",
                lambda: self._calls.client.abort_multipart_upload(
                    Bucket=self._calls.bucket, Key=content_key(upload_id), UploadId=multipart
                ),
            )
        except Absent:
            return

    def _forget(self, upload_id: str) -> None:
        try:
            objects.remove(self._calls, upload_key(upload_id), "forgetting a finished upload")
        except StorageFailed as failure:  # it is published; the expiry of uploads takes the document
            log.warning("a finished upload's document stays for now", upload=upload_id, error=str(failure))


def _parsed(data: bytes) -> UploadDocument | None:
    try:
        return parse_upload(data.partition(b"\n")[0])
    except (ValueError, json.JSONDecodeError):
        return None
