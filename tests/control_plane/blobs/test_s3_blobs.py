"""The S3 store keeps the contract on a real Ceph gateway; what only it can prove: restarts, replicas, call counts."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import sys
import uuid
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from common.digest import Digest, DigestMismatch
from control_plane.blobs import BlobDamaged, BlobTooLarge, StorageFailed, UploadBusy, UploadUnknown
from control_plane.blobs.hash_state import PlainHasher
from control_plane.blobs.s3.documents import Discarded
from control_plane.blobs.s3.layout import (
    LARGEST_OBJECT,
    LARGEST_PART,
    MOST_PARTS,
    SMALLEST_PART,
    blob_key,
    part_bytes,
)
from control_plane.blobs.s3.store import S3BlobStore
from tests.conformance.blob_store import (
    FAR_AHEAD,
    LONG_AGO,
    BlobStoreContract,
    Rot,
    content,
    ids,
    pieces,
    stored,
    uploaded,
    whole,
)
from tests.control_plane.blobs.s3_faults import Fault, faulty_gateway
from tests.control_plane.blobs.s3_stores import ClockAhead, content_of, keys, multiparts, opened
from tests.engines.ceph import S3Bucket


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


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_an_upload_goes_on_at_another_replica_without_reading_again(s3: S3Bucket, algorithm: str) -> None:
    data = content((13 << 20) + 11)
    replicas = [opened(s3) for _ in range(2)]
    upload_id = await uploaded(replicas[0], data[: 6 << 20], algorithm)
    for turn, start in enumerate(range(6 << 20, len(data), 3 << 20), 1):
        replica = replicas[turn % 2]
        assert await replica.upload_size(upload_id) == start
        await replica.append(upload_id, start, pieces(data[start : start + (3 << 20)]), algorithm)
    await opened(s3).commit(upload_id, Digest.of(data, algorithm))
    assert await whole(replicas[0], Digest.of(data, algorithm), len(data)) == data
    assert (keys(s3, "uploads/"), multiparts(s3)) == ([], [])


async def test_parts_that_the_buckets_owner_removed_end_the_upload(s3: S3Bucket) -> None:
    data = content((6 << 20) + 11)
    store = opened(s3)
    upload_id = await uploaded(store, data)
    (multipart,) = s3.client().list_multipart_uploads(Bucket=s3.name)["Uploads"]
    s3.client().abort_multipart_upload(Bucket=s3.name, Key=multipart["Key"], UploadId=multipart["UploadId"])
    with pytest.raises(UploadUnknown):
        await store.commit(upload_id, Digest.of(data))


async def test_two_replicas_that_finish_one_upload_at_once_finish_it_once(s3: S3Bucket) -> None:
    for turn in range(8):
        data = content((6 << 20) + turn)
        replicas = [opened(s3) for _ in range(2)]
        upload_id = await uploaded(replicas[0], data)
        ends = await asyncio.gather(
            *(replica.commit(upload_id, Digest.of(data)) for replica in replicas), return_exceptions=True
        )
        assert len(data) in ends
        assert all(end == len(data) or isinstance(end, UploadUnknown | UploadBusy) for end in ends), ends
        assert await whole(replicas[1], Digest.of(data), len(data)) == data


async def test_an_algorithm_that_nobody_announced_is_read_again_and_a_false_digest_can_be_mended(s3: S3Bucket) -> None:
    data = content((11 << 20) + 3)
    store = opened(s3)
    upload_id = await uploaded(store, data)
    with pytest.raises(DigestMismatch):
        await store.commit(upload_id, Digest.of(b"", "sha512"))
    assert await opened(s3).upload_size(upload_id) == len(data)
    await opened(s3).commit(upload_id, Digest.of(data, "sha512"))
    assert await whole(store, Digest.of(data, "sha512"), len(data)) == data


async def test_where_hashes_cannot_be_written_down_the_content_is_read_again(
    s3: S3Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control_plane.blobs.s3.upload.new_hasher", PlainHasher)
    data = content((11 << 20) + 3)
    upload_id = await uploaded(opened(s3), data[: 6 << 20])
    await opened(s3).append(upload_id, 6 << 20, pieces(data[6 << 20 :]))
    with pytest.raises(DigestMismatch):
        await opened(s3).commit(upload_id, Digest.of(b"false"))
    await opened(s3).commit(upload_id, Digest.of(data))
    assert await whole(opened(s3), Digest.of(data), len(data)) == data


async def test_a_commit_sends_and_reads_no_byte_of_what_lies_in_parts(s3: S3Bucket) -> None:
    data = content((31 << 20) + 5)
    with faulty_gateway(s3) as gateway:
        store = opened(gateway.bucket)
        upload_id = await uploaded(store, data)
        gateway.requests.clear()
        await store.commit(upload_id, Digest.of(data))
        # The tail as last part, the document, the pointer; then the document goes.
        assert [method for method, _ in gateway.requests] == ["PUT", "PUT", "POST", "HEAD", "PUT", "DELETE"]
        assert not [target for _, target in gateway.requests if "copy" in target.lower()]
        await store.close()
    assert await whole(opened(s3), Digest.of(data), len(data)) == data


async def test_a_small_blob_costs_six_writes_in_all(s3: S3Bucket) -> None:
    with faulty_gateway(s3) as gateway:
        store = opened(gateway.bucket)
        await stored(store, content(2000))
        assert [method for method, _ in gateway.requests] == ["PUT"] * 4 + ["HEAD", "PUT", "DELETE"]
        await store.close()


async def test_concurrent_pushes_of_one_blob_leave_one_content(s3: S3Bucket) -> None:
    data = content(6 << 20)
    replicas = [opened(s3) for _ in range(3)]
    uploads = [await uploaded(replicas[turn % 3], data) for turn in range(6)]
    commits = (replicas[turn % 3].commit(each, Digest.of(data)) for turn, each in enumerate(uploads))
    assert await asyncio.gather(*commits) == [len(data)] * 6
    assert await replicas[0].sweep(FAR_AHEAD) == 5
    assert keys(s3) == [blob_key(Digest.of(data)), content_of(s3, Digest.of(data))]
    assert await whole(replicas[1], Digest.of(data), len(data)) == data


async def test_what_is_deleted_is_readable_to_its_readers_and_swept_later(s3: S3Bucket) -> None:
    store, data = opened(s3), content(3 << 20)
    digest = await stored(store, data)
    await store.delete(digest)
    assert await store.sweep(LONG_AGO) == 0
    assert len(keys(s3, "contents/")) == 1
    assert await store.sweep(FAR_AHEAD) == 1
    assert keys(s3) == []


async def test_a_content_that_is_still_named_is_never_swept(s3: S3Bucket) -> None:
    store, data = opened(s3), content(1000)
    digest = await stored(store, data)
    note = Discarded(content_of(s3, digest), str(digest)).encode()  # death between the note and the new name
    s3.client().put_object(Bucket=s3.name, Key="trash/left", Body=note)
    assert await store.sweep(FAR_AHEAD) == 0
    assert await whole(store, digest, 1000) == data
    assert keys(s3, "trash/") == []


async def test_a_reader_goes_on_in_what_replaced_its_content(s3: S3Bucket) -> None:
    store, data = opened(s3), content(6 << 20)
    digest = await stored(store, data)
    async with store.open(digest, len(data)) as reader:
        await stored(store, data)
        await store.sweep(FAR_AHEAD)
        assert b"".join([piece async for piece in reader.read(5, len(data))]) == data[5:]


async def test_an_abort_after_the_publication_leaves_the_blob(s3: S3Bucket) -> None:
    data = content(6 << 20)
    with faulty_gateway(s3) as gateway:
        store = opened(gateway.bucket, deadline_seconds=0.5)
        upload_id = await uploaded(store, data)
        gateway.rule = lambda method, target, _: Fault.ERROR_500 if method == "DELETE" else None
        await store.commit(upload_id, Digest.of(data))  # the document stays
        gateway.rule = lambda method, target, _: None
        assert ids(await store.pending_uploads(FAR_AHEAD)) == {upload_id}
        await store.abort(upload_id)
    assert keys(s3, "uploads/") == []
    assert await whole(opened(s3), Digest.of(data), len(data)) == data


async def test_aborted_and_orphaned_multipart_uploads_are_ended(s3: S3Bucket) -> None:
    store = opened(s3)
    upload_id = await uploaded(store, content(6 << 20))
    s3.client().create_multipart_upload(Bucket=s3.name, Key=f"contents/{uuid.uuid4()}")  # death before the document
    assert len(multiparts(s3)) == 2
    assert ids(await store.pending_uploads(FAR_AHEAD)) == {upload_id}
    assert len(multiparts(s3)) == 1
    await store.abort(upload_id)
    assert (keys(s3), multiparts(s3)) == ([], [])


async def test_a_blob_that_is_not_ours_is_quarantined_and_repaired_by_a_push(s3: S3Bucket) -> None:
    store, data = opened(s3), content(5000)
    digest = Digest.of(data)
    s3.client().put_object(Bucket=s3.name, Key=blob_key(digest), Body=data)  # somebody meant well
    with pytest.raises(BlobDamaged):
        await whole(store, digest, 5000)
    await stored(store, data)
    assert await whole(store, digest, 5000) == data


async def test_without_the_bucket_nothing_is_said_to_be_missing(s3: S3Bucket) -> None:
    store = opened(replace(s3, name="no-such-bucket"))
    with pytest.raises(StorageFailed, match="NoSuchBucket"):
        await store.stat(Digest.of(b""))
    with pytest.raises(StorageFailed, match="no bucket"):
        await store.check()


async def test_a_false_key_is_said_to_be_refused(s3: S3Bucket) -> None:
    with pytest.raises(StorageFailed, match="403"):
        await opened(replace(s3, secret_key="false")).stat(Digest.of(b""))


def test_parts_grow_so_that_ten_thousand_reach_five_tebibytes() -> None:
    for base in (SMALLEST_PART, 8 << 20, 64 << 20):
        offset, count = 0, 0
        while offset < LARGEST_OBJECT:
            length = part_bytes(offset, base)
            assert SMALLEST_PART <= length <= LARGEST_PART
            offset, count = offset + length, count + 1
        assert count <= MOST_PARTS
    assert {part_bytes(offset << 30, 8 << 20) for offset in range(10)} == {8 << 20}
    assert part_bytes(1 << 42, 8 << 20, equal=True) == 8 << 20


async def test_more_parts_than_the_store_takes_are_refused(s3: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control_plane.blobs.s3.upload.MOST_PARTS", 2)
    store = opened(s3, equal_parts=True)
    with pytest.raises(BlobTooLarge):
        await uploaded(store, content(16 << 20))


_PUSHING = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from tests.control_plane.blobs.s3_stores import opened
from tests.engines.ceph import S3Bucket

async def endless():
    for sent in range(3000):
        yield sent.to_bytes(4, "big") * 16384
        if sent == 2000:
            print("under way", flush=True)
            await asyncio.Event().wait()

async def main():
    store = opened(S3Bucket(*sys.argv[2:6]))
    await store.append(sys.argv[6], 3, endless())

asyncio.run(main())
"""


async def test_an_upload_survives_kill_9_of_its_process(s3: S3Bucket) -> None:
    first, root = opened(s3), str(Path(__file__).parents[3])
    upload_id = await uploaded(first, b"abc")
    given = (s3.endpoint, s3.access_key_id, s3.secret_key, s3.name, upload_id)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _PUSHING, root, *given, stdout=PIPE)
    assert process.stdout is not None
    async with asyncio.timeout(30):
        await process.stdout.readline()  # 125 MiB were taken: one checkpoint at least
    process.send_signal(signal.SIGKILL)
    await process.wait()
    held = await first.upload_size(upload_id)
    assert held >= 64 << 20
    with pytest.raises(UploadBusy) as refused:  # until the dead one's lease ends
        await first.append(upload_id, held, pieces(b"more"))
    assert 1 <= refused.value.retry_after_seconds <= 30
    data = b"abc" + b"".join(number.to_bytes(4, "big") * 16384 for number in range(3000))
    later = opened(s3, clock=ClockAhead(timedelta(minutes=1)))
    await later.append(upload_id, held, pieces(data[held:]))
    await later.commit(upload_id, Digest.of(data))
    async with later.open(Digest.of(data), len(data)) as reader:
        hasher = hashlib.sha256()
        async for piece in reader.read(0, len(data)):
            hasher.update(piece)
    assert hasher.hexdigest() == Digest.of(data).hex
