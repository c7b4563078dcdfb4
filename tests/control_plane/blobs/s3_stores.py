"""S3 stores for tests, and an independent look at what lies in the bucket."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from pathlib import Path

from common.clock import Clock, SystemClock
from common.digest import Digest
from control_plane.blobs.s3.calls import S3Options
from control_plane.blobs.s3.documents import parse_pointer
from control_plane.blobs.s3.layout import blob_key
from control_plane.blobs.s3.store import S3BlobStore
from tests.engines.ceph import S3Bucket

_OPENED: list[S3BlobStore] = []


def options(bucket: S3Bucket, **changes: object) -> S3Options:
    given: dict[str, object] = {
        "bucket": bucket.name,
        "endpoint": bucket.endpoint,
        "access_key_id": bucket.access_key_id,
        "secret_key": bucket.secret_key,
        "addressing": "path",
        "part_bytes": 5 << 20,
        **changes,
    }
    return S3Options(**given)  # type: ignore[arg-type]


def opened(bucket: S3Bucket, clock: Clock | None = None, spool: Path | None = None, **changes: object) -> S3BlobStore:
    """It is closed when the test ends (conftest.py). Delays between tries are a tenth of what they would be."""
    jitter, wall = (lambda: random.random() / 10), clock or SystemClock()
    store = S3BlobStore(options(bucket, **changes), wall, jitter, spool_directory=spool)
    _OPENED.append(store)
    return store


async def close_all() -> None:
    while _OPENED:
        await _OPENED.pop().close()


def content_of(bucket: S3Bucket, digest: Digest) -> str:
    """The key of the bytes that are the blob."""
    pointer = bucket.client().get_object(Bucket=bucket.name, Key=blob_key(digest))["Body"].read()
    return parse_pointer(pointer).content


def keys(bucket: S3Bucket, prefix: str = "") -> list[str]:
    answer = bucket.client().list_objects_v2(Bucket=bucket.name, Prefix=prefix)
    return [entry["Key"] for entry in answer.get("Contents", [])]


def multiparts(bucket: S3Bucket) -> list[str]:
    return [each["UploadId"] for each in bucket.client().list_multipart_uploads(Bucket=bucket.name).get("Uploads", [])]


class ClockAhead(SystemClock):
    def __init__(self, by: timedelta) -> None:
        self._by = by

    def now(self) -> datetime:
        return super().now() + self._by
