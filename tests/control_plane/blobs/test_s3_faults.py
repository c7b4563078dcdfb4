"""The S3 store while the object store fails, and at every single request of a push."""

from __future__ import annotations

import uuid
from datetime import timedelta
from pathlib import Path

import pytest

from common.digest import Digest
from control_plane.blobs import BlobStore, DiskFull, StorageFailed, UploadUnknown
from tests.conformance.blob_store import FAR_AHEAD, content, ids, pieces, stored, uploaded, whole
from tests.control_plane.blobs.s3_faults import Fault, FaultyGateway, faulty_gateway
from tests.control_plane.blobs.s3_stores import ClockAhead, content_of, keys, multiparts, opened
from tests.engines.ceph import CephEngine, S3Bucket

DATA = content((5 << 20) + 7)
DIGEST = Digest.of(DATA)


async def push(store: BlobStore) -> None:
    """In two requests, with parts and a tail."""
    upload_id = await uploaded(store, DATA[: 3 << 20])
    await store.append(upload_id, 3 << 20, pieces(DATA[3 << 20 :]))
    assert await store.commit(upload_id, DIGEST) == len(DATA)


@pytest.mark.parametrize("fault", [*Fault])
async def test_trouble_that_passes_is_not_noticed(s3: S3Bucket, fault: Fault) -> None:
    every = 6 if fault is Fault.STALL else 3
    with faulty_gateway(s3) as gateway:
        gateway.rule = lambda _method, _target, number: fault if number % every == 0 else None
        store = opened(gateway.bucket, answer_seconds=0.3 if fault is Fault.STALL else 10)
        await push(store)
        assert await whole(store, DIGEST, len(DATA)) == DATA
        await store.delete(DIGEST)
        assert await store.stat(DIGEST) is None
        assert gateway.faults >= (3 if fault is Fault.STALL else 6)
        await store.close()
    # What was begun twice because an answer was lost is found by those who sweep.
    clean = opened(s3)
    assert ids(await clean.pending_uploads(FAR_AHEAD)) == set()
    await clean.sweep(FAR_AHEAD)
    assert (keys(s3), multiparts(s3)) == ([], [])


@pytest.mark.parametrize("fault", [Fault.ERROR_500, Fault.SLOW_DOWN, Fault.CUT_REQUEST, Fault.LOST_ANSWER])
async def test_trouble_that_stays_is_said_in_time_and_loses_nothing_acknowledged(s3: S3Bucket, fault: Fault) -> None:
    with faulty_gateway(s3) as gateway:
        store = opened(gateway.bucket, deadline_seconds=0.4)
        upload_id = await uploaded(store, DATA[: 3 << 20])
        gateway.rule = lambda _method, _target, _number: fault
        with pytest.raises(StorageFailed) as failed:
            await store.append(upload_id, 3 << 20, pieces(DATA[3 << 20 :]))
        assert failed.value.retry_after_seconds >= 1
        with pytest.raises(StorageFailed):
            await store.commit(upload_id, DIGEST)
        gateway.rule = lambda _method, _target, _number: None
        held = await store.upload_size(upload_id)
        assert held >= 3 << 20
        await store.append(upload_id, held, pieces(DATA[held:]))
        await store.commit(upload_id, DIGEST)
        assert await whole(store, DIGEST, len(DATA)) == DATA
        await store.close()


async def test_the_end_of_the_store_at_any_request_of_a_push_leaves_nothing_half_published(s3: S3Bucket) -> None:
    """It does what it is asked and nobody hears of it, from any request on: each state that death can leave."""
    with faulty_gateway(s3) as gateway:
        counting = opened(gateway.bucket)
        await push(counting)
        requests = len(gateway.requests)
        await counting.delete(DIGEST)
        await counting.close()
        for last in range(1, requests + 1):
            gateway.requests.clear()
            gateway.rule = lambda _method, _target, number, last=last: Fault.LOST_ANSWER if number >= last else None  # type: ignore[misc]
            dying = opened(gateway.bucket, deadline_seconds=0)
            # Only the very last request, which forgets the upload, may fail without being noticed.
            try:
                await push(dying)
                assert last == requests
            except StorageFailed:
                pass
            await dying.close()
            await _prove_legal(gateway)


async def _prove_legal(gateway: FaultyGateway) -> None:
    """For a process that comes a minute later: the blob is whole or absent, the upload goes on or is swept, a new push
    works, and nothing is left over in the end.
    """
    gateway.rule = lambda _method, _target, _number: None
    s3 = gateway.upstream
    store = opened(s3, clock=ClockAhead(timedelta(minutes=5)))
    if await store.stat(DIGEST) is not None:
        assert await whole(store, DIGEST, len(DATA)) == DATA
    for number, upload_id in enumerate(ids(await store.pending_uploads(FAR_AHEAD))):
        held = await store.upload_size(upload_id)
        try:
            if held < len(DATA):
                await store.append(upload_id, held, pieces(DATA[held:]))
            await store.commit(upload_id, DIGEST)
        except UploadUnknown:
            assert number == 0
        assert await whole(store, DIGEST, len(DATA)) == DATA
    await stored(store, DATA)
    assert await whole(store, DIGEST, len(DATA)) == DATA
    await store.pending_uploads(FAR_AHEAD)
    await store.sweep(FAR_AHEAD)
    assert keys(s3) == [f"blobs/sha256/{DIGEST.hex[:2]}/{DIGEST.hex}", content_of(s3, DIGEST)]
    assert multiparts(s3) == []
    await store.delete(DIGEST)
    await store.sweep(FAR_AHEAD)
    await store.close()


async def test_an_upload_outlives_the_gateway_and_the_osd(own_ceph: CephEngine) -> None:
    store = opened(own_ceph.new_bucket(), deadline_seconds=1, answer_seconds=1)
    upload_id = str(uuid.uuid4())
    await store.create_upload(upload_id)
    await store.append(upload_id, 0, pieces(DATA[: 3 << 20]))
    own_ceph.gateway.kill()
    with pytest.raises(StorageFailed):
        await store.append(upload_id, 3 << 20, pieces(DATA[3 << 20 :]))
    own_ceph.start_gateway()
    own_ceph.osd.pause()
    with pytest.raises(StorageFailed):
        await store.append(upload_id, 3 << 20, pieces(DATA[3 << 20 :]))
    own_ceph.osd.resume()
    own_ceph.osd.stop(30)
    own_ceph.start_osd()
    patient = opened(own_ceph.new_bucket())
    await stored(patient, b"the cluster is whole again")
    held = await store.upload_size(upload_id)
    assert held >= 3 << 20
    await store.append(upload_id, held, pieces(DATA[held:]))
    await store.commit(upload_id, DIGEST)
    assert await whole(store, DIGEST, len(DATA)) == DATA


async def test_a_full_bucket_is_said_to_be_full_and_the_upload_goes_on_when_there_is_room(own_ceph: CephEngine) -> None:
    store, data = opened(own_ceph.new_bucket()), content(16 << 20)
    upload_id = await uploaded(store, data[: 6 << 20])
    own_ceph.limit(8 << 20)
    with pytest.raises(DiskFull) as full:
        await store.append(upload_id, 6 << 20, pieces(data[6 << 20 :]))
    assert full.value.retry_after_seconds >= 1
    own_ceph.limit(-1)
    held = await store.upload_size(upload_id)
    assert held >= 6 << 20
    await store.append(upload_id, held, pieces(data[held:]))
    await store.commit(upload_id, Digest.of(data))
    assert await whole(store, Digest.of(data), len(data)) == data


async def test_a_full_disk_beneath_the_bytes_on_their_way_is_said_to_be_full(s3: S3Bucket, small_disk: Path) -> None:
    store = opened(s3, spool=small_disk)
    upload_id = await uploaded(store, DATA[: 1 << 20])
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2 << 20))
    with pytest.raises(DiskFull):
        await store.append(upload_id, 1 << 20, pieces(DATA[1 << 20 : 4 << 20]))
    ballast.unlink()
    assert await store.upload_size(upload_id) == 1 << 20
    await store.append(upload_id, 1 << 20, pieces(DATA[1 << 20 : 3 << 19]))
    assert await store.upload_size(upload_id) == 3 << 19
