"""The S3 store keeps the contract on a real Ceph gateway; what only it can prove: restarts, replicas, call counts."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

from common.clock import SystemClock
from common.digest import Digest
from control_plane.blobs.s3.calls import S3Options
from control_plane.blobs.s3.documents import parse_pointer
from control_plane.blobs.s3.layout import blob_key
from control_plane.blobs.s3.store import S3BlobStore
from tests.conformance.blob_store import BlobStoreContract, Rot
from tests.engines.ceph import S3Bucket


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


def opened(bucket: S3Bucket, **changes: object) -> S3BlobStore:
    return S3BlobStore(options(bucket, **changes), SystemClock(), random.random)


def content_of(bucket: S3Bucket, digest: Digest) -> str:
    """The key of the bytes that are the blob."""
    pointer = bucket.client().get_object(Bucket=bucket.name, Key=blob_key(digest))["Body"].read()
    return parse_pointer(pointer).content


class TestS3BlobStore(BlobStoreContract):
    @pytest.fixture
    async def store(self, s3: S3Bucket) -> AsyncIterator[S3BlobStore]:
        store = opened(s3)
        yield store
        await store.close()

    @pytest.fixture
    def rot(self, s3: S3Bucket) -> Rot:
        def damage(digest: Digest, data: bytes) -> None:
            s3.client().put_object(Bucket=s3.name, Key=content_of(s3, digest), Body=data)

        return damage
