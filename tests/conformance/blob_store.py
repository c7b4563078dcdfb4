"""What every BlobStore keeps; a test subclasses `BlobStoreContract` and supplies `store` and `rot`."""

from __future__ import annotations

import asyncio
import hashlib
import random
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest

from common.digest import Digest, DigestMismatch
from control_plane.blobs import (
    BlobDamaged,
    BlobMissing,
    BlobStore,
    UploadBusy,
    UploadOffsetWrong,
    UploadUnknown,
)

Rot = Callable[[Digest, bytes], None]
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
FAR_AHEAD = datetime(2100, 1, 1, tzinfo=UTC)


def content(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


async def pieces(data: bytes, size: int = 64 << 10) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def uploaded(store: BlobStore, data: bytes, algorithm: str = "sha256") -> str:
    upload_id = str(uuid.uuid4())
    await store.create_upload(upload_id)
    await store.append(upload_id, 0, pieces(data), algorithm)
    return upload_id


async def stored(store: BlobStore, data: bytes, algorithm: str = "sha256") -> Digest:
    digest = Digest.of(data, algorithm)
    await store.commit(await uploaded(store, data, algorithm), digest)
    return digest


async def whole(store: BlobStore, digest: Digest, size: int) -> bytes:
    return await part(store, digest, size, 0, size)


async def part(store: BlobStore, digest: Digest, size: int, start: int, end: int) -> bytes:
    async with store.open(digest, size) as reader:
        return b"".join([piece async for piece in reader.read(start, end)])


def ids(uploads: Iterable[object]) -> set[str]:
    return {upload.upload_id for upload in uploads}  # type: ignore[attr-defined]


class BlobStoreContract:
    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    @pytest.mark.parametrize("size", [0, 1, 2, 64 << 10, (1 << 20) - 1, 1 << 20, (3 << 20) + 17, 9 << 20])
    async def test_what_was_committed_is_read_back(self, store: BlobStore, size: int, algorithm: str) -> None:
        data = content(size)
        digest = await stored(store, data, algorithm)
        assert await store.stat(digest) == size
        assert await whole(store, digest, size) == data

    async def test_nothing_is_readable_before_commit(self, store: BlobStore) -> None:
        data = content(1000)
        await uploaded(store, data)
        assert await store.stat(Digest.of(data)) is None
        with pytest.raises(BlobMissing):
            await whole(store, Digest.of(data), 1000)

    async def test_a_false_digest_publishes_nothing_and_keeps_the_upload(self, store: BlobStore) -> None:
        data = content(5000)
        false = Digest.of(b"something else")
        upload_id = await uploaded(store, data)
        with pytest.raises(DigestMismatch):
            await store.commit(upload_id, false)
        assert await store.stat(false) is None
        assert await store.stat(Digest.of(data)) is None
        assert await store.upload_size(upload_id) == 5000
        await store.commit(upload_id, Digest.of(data))

    async def test_a_digest_of_another_algorithm_than_announced_is_verified_too(self, store: BlobStore) -> None:
        data = content(2 << 20)
        upload_id = await uploaded(store, data, "sha256")
        with pytest.raises(DigestMismatch):
            await store.commit(upload_id, Digest.of(b"", "sha512"))
        await store.commit(upload_id, Digest.of(data, "sha512"))
        assert await whole(store, Digest.of(data, "sha512"), len(data)) == data

    async def test_an_upload_grows_only_at_its_end(self, store: BlobStore) -> None:
        data = content(3000)
        upload_id = await uploaded(store, data[:1000])
        for wrong in (0, 999, 1001, 5000):
            with pytest.raises(UploadOffsetWrong) as refused:
                await store.append(upload_id, wrong, pieces(b"x"))
            assert refused.value.facts["size"] == 1000
        assert await store.append(upload_id, 1000, pieces(data[1000:])) == 3000
        assert await store.commit(upload_id, Digest.of(data)) == 3000

    async def test_an_empty_append_changes_nothing(self, store: BlobStore) -> None:
        upload_id = await uploaded(store, b"abc")
        assert await store.append(upload_id, 3, pieces(b"")) == 3
        await store.commit(upload_id, Digest.of(b"abc"))

    async def test_what_arrived_before_the_sender_failed_is_kept(self, store: BlobStore) -> None:
        data = content(3 << 20)
        upload_id = str(uuid.uuid4())
        await store.create_upload(upload_id)

        async def broken() -> AsyncIterator[bytes]:
            async for piece in pieces(data[: (2 << 20) + 77]):
                yield piece
            raise ConnectionResetError

        with pytest.raises(ConnectionResetError):
            await store.append(upload_id, 0, broken())
        held = await store.upload_size(upload_id)
        assert held == (2 << 20) + 77
        await store.append(upload_id, held, pieces(data[held:]))
        await store.commit(upload_id, Digest.of(data))

    async def test_what_arrived_before_a_cancellation_is_kept(self, store: BlobStore) -> None:
        data = content(3 << 20)
        upload_id = str(uuid.uuid4())
        await store.create_upload(upload_id)
        arrived = asyncio.Event()

        async def stalling() -> AsyncIterator[bytes]:
            async for piece in pieces(data[: (1 << 20) + 5]):
                yield piece
            arrived.set()
            await asyncio.Event().wait()

        async with asyncio.TaskGroup() as group:
            appending = group.create_task(store.append(upload_id, 0, stalling()))
            await arrived.wait()
            appending.cancel()
        held = await store.upload_size(upload_id)
        assert held == (1 << 20) + 5
        await store.append(upload_id, held, pieces(data[held:]))
        await store.commit(upload_id, Digest.of(data))

    async def test_only_one_request_writes_at_a_time(self, store: BlobStore) -> None:
        upload_id = await uploaded(store, b"")
        holding, release = asyncio.Event(), asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield b"abc"
            holding.set()
            await release.wait()

        async with asyncio.TaskGroup() as group:
            group.create_task(store.append(upload_id, 0, slow()))
            await holding.wait()
            with pytest.raises(UploadBusy):
                await store.append(upload_id, 0, pieces(b"xyz"))
            with pytest.raises(UploadBusy):
                await store.commit(upload_id, Digest.of(b"abc"))
            release.set()
        await store.commit(upload_id, Digest.of(b"abc"))

    async def test_an_upload_is_gone_once_committed_or_aborted(self, store: BlobStore) -> None:
        committed = await uploaded(store, b"abc")
        await store.commit(committed, Digest.of(b"abc"))
        aborted = await uploaded(store, b"abc")
        await store.abort(aborted)
        await store.abort(aborted)
        for gone in (committed, aborted, str(uuid.uuid4()), "../../etc/passwd", "a/b", ""):
            with pytest.raises(UploadUnknown):
                await store.upload_size(gone)
            with pytest.raises(UploadUnknown):
                await store.append(gone, 0, pieces(b"x"))
            with pytest.raises(UploadUnknown):
                await store.commit(gone, Digest.of(b"abc"))
            await store.abort(gone)
        assert await whole(store, Digest.of(b"abc"), 3) == b"abc"

    async def test_concurrent_commits_of_one_content_all_succeed_and_store_it_once(self, store: BlobStore) -> None:
        data = content(1 << 20)
        uploads = [await uploaded(store, data) for _ in range(8)]
        sizes = await asyncio.gather(*(store.commit(each, Digest.of(data)) for each in uploads))
        assert sizes == [len(data)] * 8
        assert await whole(store, Digest.of(data), len(data)) == data

    async def test_ranges_are_exact(self, store: BlobStore) -> None:
        data = content((2 << 20) + 1000)
        digest = await stored(store, data)
        for start, end in ((0, 1), (5, 5), (1, 2 << 20), ((1 << 20) - 1, (1 << 20) + 1), (len(data) - 1, len(data))):
            assert await part(store, digest, len(data), start, end) == data[start:end]

    async def test_pieces_are_large(self, store: BlobStore) -> None:
        digest = await stored(store, content(3 << 20))
        async with store.open(digest, 3 << 20) as reader:
            assert [len(piece) async for piece in reader.read(0, 3 << 20)] == [1 << 20] * 3

    async def test_many_readers_read_at_once(self, store: BlobStore) -> None:
        data = content(2 << 20)
        digest = await stored(store, data)
        assert await asyncio.gather(*(whole(store, digest, len(data)) for _ in range(10))) == [data] * 10

    async def test_a_blob_of_the_wrong_size_is_never_served_and_a_new_push_repairs_it(
        self, store: BlobStore, rot: Rot
    ) -> None:
        data = content(4096)
        digest = await stored(store, data)
        for rotten in (data[:-1], b"", data + b"x"):
            rot(digest, rotten)
            with pytest.raises(BlobDamaged):
                await whole(store, digest, 4096)
            assert await store.stat(digest) is None
            with pytest.raises(BlobMissing):
                await whole(store, digest, 4096)
            await stored(store, data)
            assert await whole(store, digest, 4096) == data

    async def test_no_path_to_a_blob_of_the_wrong_size_is_given_out(self, store: BlobStore, rot: Rot) -> None:
        digest = await stored(store, content(4096))
        rot(digest, b"short")
        with pytest.raises(BlobDamaged):
            await store.local_path(digest, 4096)

    async def test_damage_that_keeps_the_size_is_repaired_by_a_new_push(self, store: BlobStore, rot: Rot) -> None:
        data = content(4096)
        digest = await stored(store, data)
        rot(digest, bytes(4096))
        await stored(store, data)
        assert await whole(store, digest, 4096) == data

    async def test_what_was_read_and_found_wrong_is_moved_aside(self, store: BlobStore, rot: Rot) -> None:
        data = content(4096)
        digest = await stored(store, data)
        rot(digest, bytes(4096))
        async with store.open(digest, 4096) as reader:
            await store.quarantine(digest, reader)
            await store.quarantine(digest, reader)
        assert await store.stat(digest) is None
        with pytest.raises(BlobMissing):
            await whole(store, digest, 4096)
        await stored(store, data)
        assert await whole(store, digest, 4096) == data

    async def test_what_replaced_a_damaged_blob_is_not_moved_aside(self, store: BlobStore, rot: Rot) -> None:
        data = content(4096)
        digest = await stored(store, data)
        rot(digest, bytes(4096))
        async with store.open(digest, 4096) as reader:
            await stored(store, data)
            await store.quarantine(digest, reader)
        assert await whole(store, digest, 4096) == data

    async def test_a_local_path_holds_the_content(self, store: BlobStore) -> None:
        data = content(4096)
        digest = await stored(store, data)
        path = await store.local_path(digest, 4096)
        if path is not None:
            assert hashlib.sha256(path.read_bytes()).hexdigest() == digest.hex
        with pytest.raises(BlobMissing):
            await store.local_path(Digest.of(b"absent"), 6)

    async def test_a_deleted_blob_is_gone_and_deleting_again_is_harmless(self, store: BlobStore) -> None:
        data = content(3 << 20)
        digest = await stored(store, data)
        async with store.open(digest, len(data)) as reader:
            await store.delete(digest)
            assert b"".join([piece async for piece in reader.read(0, len(data))]) == data
        await store.delete(digest)
        await store.delete(Digest.of(b"never stored"))
        assert await store.stat(digest) is None

    async def test_pending_uploads_are_listed_by_when_they_were_touched(self, store: BlobStore) -> None:
        waiting = await uploaded(store, b"abc")
        await store.commit(await uploaded(store, b"done"), Digest.of(b"done"))
        assert ids(await store.pending_uploads(LONG_AGO)) == set()
        [pending] = await store.pending_uploads(FAR_AHEAD)
        assert (pending.upload_id, pending.size) == (waiting, 3)
        assert pending.touched_at + timedelta(days=1) > LONG_AGO

    async def test_all_blobs_are_listed_in_the_order_of_their_digests_whatever_the_page(self, store: BlobStore) -> None:
        assert await store.list() == []
        sizes = {await stored(store, content(size, size)): size for size in range(7)}
        sizes[await stored(store, b"five hundred and twelve", "sha512")] = 23
        await uploaded(store, b"not committed")
        for limit in (1, 3, 8, 1000):
            listed: dict[Digest, int] = {}
            after = ""
            while page := await store.list(after, limit):
                assert len(page) <= limit
                listed.update(page)
                after = str(page[-1].digest)
            assert list(listed) == sorted(sizes)
            assert listed == sizes

    async def test_a_page_begins_after_a_digest_that_is_gone(self, store: BlobStore) -> None:
        digests = sorted([await stored(store, content(10, seed)) for seed in range(6)])
        await store.delete(digests[2])
        assert [each.digest for each in await store.list(str(digests[2]), 2)] == digests[3:5]

    async def test_no_address_of_an_absent_or_damaged_blob_is_given_out(self, store: BlobStore, rot: Rot) -> None:
        with pytest.raises(BlobMissing):
            await store.presigned_url(Digest.of(b"absent"), 6, expires_seconds=60)
        digest = await stored(store, content(4096))
        rot(digest, b"short")
        with pytest.raises(BlobDamaged):
            await store.presigned_url(digest, 4096, expires_seconds=60)

    async def test_an_address_serves_the_bytes_and_ranges_of_them(self, store: BlobStore) -> None:
        data = content(100_000)
        digest = await stored(store, data)
        url = await store.presigned_url(digest, len(data), expires_seconds=60)
        if url is not None:
            async with aiohttp.ClientSession() as session:
                async with session.get(url) as answer:
                    assert (answer.status, await answer.read()) == (200, data)
                async with session.get(url, headers={"Range": "bytes=10-19"}) as answer:
                    assert (answer.status, await answer.read()) == (206, data[10:20])
