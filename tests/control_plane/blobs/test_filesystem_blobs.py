"""The filesystem store keeps the contract; what only it can prove: restart, crash points, full and failing disks."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import signal
import sys
import uuid
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.digest import Digest
from control_plane.blobs import BlobDamaged, DiskFull, StorageFailed, UploadUnknown
from control_plane.blobs.filesystem import FilesystemBlobStore
from tests.conformance.blob_store import (
    FAR_AHEAD,
    BlobStoreContract,
    Rot,
    content,
    ids,
    pieces,
    stored,
    uploaded,
    whole,
)
from tests.control_plane.blobs.faults import Died, DyingDisk, FaultyDisk, SmallDisk, fail


def path_of(root: Path, digest: Digest) -> Path:
    return root / "blobs" / digest.algorithm / digest.hex[:2] / digest.hex


def blob_files(root: Path) -> list[Path]:
    return [path for path in (root / "blobs").rglob("*") if path.is_file()]


class TestFilesystemBlobStore(BlobStoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[FilesystemBlobStore]:
        store = FilesystemBlobStore(tmp_path, reserve_bytes=0)
        yield store
        await store.close()

    @pytest.fixture
    def rot(self, tmp_path: Path) -> Rot:
        return lambda digest, data: (path_of(tmp_path, digest).write_bytes(data), None)[1]


async def test_one_content_is_one_file_however_often_it_was_committed(tmp_path: Path) -> None:
    store = FilesystemBlobStore(tmp_path, reserve_bytes=0)
    data = content(100_000)
    uploads = [await uploaded(store, data) for _ in range(5)]
    await asyncio.gather(*(store.commit(each, Digest.of(data)) for each in uploads))
    assert blob_files(tmp_path) == [path_of(tmp_path, Digest.of(data))]
    assert list((tmp_path / "uploads").iterdir()) == []
    assert oct(path_of(tmp_path, Digest.of(data)).stat().st_mode & 0o777) == "0o640"


async def test_a_damaged_blob_is_kept_aside_for_an_investigation(tmp_path: Path) -> None:
    store = FilesystemBlobStore(tmp_path, reserve_bytes=0)
    digest = await stored(store, content(4096))
    path_of(tmp_path, digest).write_bytes(b"rotten")
    with pytest.raises(BlobDamaged):
        await whole(store, digest, 4096)
    [aside] = (tmp_path / "damaged").iterdir()
    assert aside.read_bytes() == b"rotten"
    assert digest.hex in aside.name


async def test_a_blob_truncated_while_it_is_read_never_looks_whole(tmp_path: Path) -> None:
    store = FilesystemBlobStore(tmp_path, reserve_bytes=0)
    digest = await stored(store, content(3 << 20))
    async with store.open(digest, 3 << 20) as reader:
        os.truncate(path_of(tmp_path, digest), (1 << 20) + 5)
        with pytest.raises(BlobDamaged):
            async for _ in reader.read(0, 3 << 20):
                pass


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_an_upload_goes_on_in_another_process_that_never_saw_it(tmp_path: Path, algorithm: str) -> None:
    data = content((3 << 20) + 11)
    first = FilesystemBlobStore(tmp_path, reserve_bytes=0)
    upload_id = await uploaded(first, data[: (2 << 20) + 3], algorithm)
    second = FilesystemBlobStore(tmp_path, reserve_bytes=0)
    held = await second.upload_size(upload_id)
    await second.append(upload_id, held, pieces(data[held:]), algorithm)
    await second.commit(upload_id, Digest.of(data, algorithm))
    assert await whole(second, Digest.of(data, algorithm), len(data)) == data


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_another_process_goes_on_hashing_without_reading_again(
    tmp_path: Path, algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = content((2 << 20) + 77)
    upload_id = await uploaded(FilesystemBlobStore(tmp_path, reserve_bytes=0), data[: 1 << 20], algorithm)
    with monkeypatch.context() as without_reading:
        without_reading.delattr("control_plane.blobs.filesystem_upload.chunks_of")
        await FilesystemBlobStore(tmp_path, reserve_bytes=0).append(upload_id, 1 << 20, pieces(data[1 << 20 :]))
        await FilesystemBlobStore(tmp_path, reserve_bytes=0).commit(upload_id, Digest.of(data, algorithm))
    assert list((tmp_path / "uploads").iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"rotten", None])
async def test_a_hash_beside_the_upload_that_is_damaged_or_of_another_size_is_not_trusted(
    tmp_path: Path, damage: bytes | None
) -> None:
    data = content(100_000)
    upload_id = await uploaded(FilesystemBlobStore(tmp_path, reserve_bytes=0), data)
    beside = tmp_path / "uploads" / f"{upload_id}.hash"
    if damage is not None:
        beside.write_bytes(damage)
    else:  # as if the process had died before it wrote the newer one
        with (tmp_path / "uploads" / upload_id).open("ab") as upload:
            upload.write(b"more")
        data += b"more"
    await FilesystemBlobStore(tmp_path, reserve_bytes=0).commit(upload_id, Digest.of(data))


async def test_hashes_of_uploads_that_are_no_more_are_swept(tmp_path: Path) -> None:
    store = FilesystemBlobStore(tmp_path, reserve_bytes=0)
    kept = await uploaded(store, b"abc")
    (tmp_path / "uploads" / f"{uuid.uuid4()}.hash").write_bytes(b"left over")
    assert ids(await store.pending_uploads(FAR_AHEAD)) == {kept}
    assert {path.name for path in (tmp_path / "uploads").iterdir()} == {kept, f"{kept}.hash"}


async def test_replicas_may_take_turns_on_one_upload(tmp_path: Path) -> None:
    data = content(400_000)
    replicas = [FilesystemBlobStore(tmp_path, reserve_bytes=0) for _ in range(2)]
    upload_id = await uploaded(replicas[0], data[:100_000])
    for turn in range(1, 4):
        at = turn * 100_000
        await replicas[turn % 2].append(upload_id, at, pieces(data[at : at + 100_000]))
    await replicas[0].commit(upload_id, Digest.of(data))


_KILLED = """
import asyncio, pathlib, sys
from control_plane.blobs.filesystem import FilesystemBlobStore

async def endless(seed):
    import random
    source = random.Random(7)
    for sent in range(1 << 20):
        yield source.randbytes(65536)
        if sent == 100:
            print("under way", flush=True)

async def main():
    store = FilesystemBlobStore(pathlib.Path(sys.argv[1]), reserve_bytes=0)
    await store.create_upload(sys.argv[2])
    await store.append(sys.argv[2], 0, endless(7))

asyncio.run(main())
"""


async def test_an_upload_survives_kill_9_of_its_process(tmp_path: Path) -> None:
    upload_id = str(uuid.uuid4())
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _KILLED, str(tmp_path), upload_id, stdout=PIPE)
    assert process.stdout is not None
    async with asyncio.timeout(30):
        await process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    await process.wait()
    store = FilesystemBlobStore(tmp_path, reserve_bytes=0)
    held = await store.upload_size(upload_id)
    source = random.Random(7)
    data = b"".join(source.randbytes(65536) for _ in range(held // 65536 + 2))
    await store.append(upload_id, held, pieces(data[held:]))
    await store.commit(upload_id, Digest.of(data))
    assert await whole(store, Digest.of(data), len(data)) == data


async def test_death_at_any_call_of_a_push_leaves_nothing_half_published(tmp_path: Path) -> None:
    data = content((1 << 20) + 500)
    digest = Digest.of(data)
    counting = FaultyDisk()
    await stored(FilesystemBlobStore(tmp_path / "counted", reserve_bytes=0, disk=counting), data)
    made_by_start = FaultyDisk()
    FilesystemBlobStore(tmp_path / "started", disk=made_by_start)
    calls, start = len(counting.called), len(made_by_start.called)
    assert {"create", "write", "sync", "publish", "sync_directory"} <= set(counting.called)
    for last in range(start + 1, calls + 1):
        root = tmp_path / str(last)
        with pytest.raises(Died):
            await stored(FilesystemBlobStore(root, reserve_bytes=0, disk=DyingDisk(last)), data)
        await _prove_legal(root, digest, data)


async def _prove_legal(root: Path, digest: Digest, data: bytes) -> None:
    """After a death: the blob is whole or absent; what was uploaded goes on; pushing again works."""
    store = FilesystemBlobStore(root, reserve_bytes=0)
    if await store.stat(digest) is not None:
        assert await whole(store, digest, len(data)) == data
    for pending in await store.pending_uploads(FAR_AHEAD):
        await store.append(pending.upload_id, pending.size, pieces(data[pending.size :]))
        await store.commit(pending.upload_id, digest)
        assert await whole(store, digest, len(data)) == data
    await stored(store, data)
    assert await whole(store, digest, len(data)) == data
    assert blob_files(root) == [path_of(root, digest)]
    assert list((root / "uploads").iterdir()) == []


@pytest.mark.parametrize("room", [0, 1, 70_000, 1 << 20, (2 << 20) + 333])
async def test_a_full_disk_keeps_what_fitted_and_the_upload_goes_on(tmp_path: Path, room: int) -> None:
    data = content(3 << 20)
    disk = SmallDisk(room)
    store = FilesystemBlobStore(tmp_path, reserve_bytes=0, disk=disk)
    upload_id = str(uuid.uuid4())
    await store.create_upload(upload_id)
    with pytest.raises(DiskFull) as full:
        await store.append(upload_id, 0, pieces(data))
    assert full.value.code == "disk_full"
    assert await store.upload_size(upload_id) == room
    assert blob_files(tmp_path) == []
    disk.room = 10 << 20
    await store.append(upload_id, room, pieces(data[room:]))
    await store.commit(upload_id, Digest.of(data))
    assert await whole(store, Digest.of(data), len(data)) == data


async def test_a_disk_that_is_really_full_keeps_what_fitted(small_disk: Path) -> None:
    store = FilesystemBlobStore(small_disk, reserve_bytes=0)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2 << 20))
    data = content(3 << 20)
    upload_id = str(uuid.uuid4())
    await store.create_upload(upload_id)
    with pytest.raises(DiskFull):
        await store.append(upload_id, 0, pieces(data))
    held = await store.upload_size(upload_id)
    assert 1 << 20 < held <= 2 << 20
    ballast.unlink()
    await store.append(upload_id, held, pieces(data[held:]))
    await store.commit(upload_id, Digest.of(data))
    assert await whole(store, Digest.of(data), len(data)) == data
    await store.close()


async def test_the_reserve_is_not_used_up(tmp_path: Path) -> None:
    store = FilesystemBlobStore(tmp_path, reserve_bytes=1 << 60)
    upload_id = str(uuid.uuid4())
    await store.create_upload(upload_id)
    with pytest.raises(DiskFull):
        await store.append(upload_id, 0, pieces(b"abc"))
    assert await store.upload_size(upload_id) == 0


@pytest.mark.parametrize("call", ["create", "publish", "make_directory", "sync"])
async def test_no_room_at_any_other_call_publishes_nothing(tmp_path: Path, call: str) -> None:
    disk = FaultyDisk()
    store = FilesystemBlobStore(tmp_path, reserve_bytes=0, disk=disk)
    disk.before = fail(call, errno.ENOSPC)
    with pytest.raises(DiskFull):
        await stored(store, content(100))
    assert blob_files(tmp_path) == []
    disk.before = lambda name, number: None
    await stored(store, content(100))


async def test_an_upload_that_could_not_be_made_durable_is_given_up(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = FilesystemBlobStore(tmp_path, reserve_bytes=0, disk=disk)
    upload_id = await uploaded(store, content(100))
    disk.before = fail("sync", errno.EIO)
    with pytest.raises(StorageFailed):
        await store.commit(upload_id, Digest.of(content(100)))
    disk.before = lambda name, number: None
    with pytest.raises(UploadUnknown):
        await store.commit(upload_id, Digest.of(content(100)))
    assert blob_files(tmp_path) == []


async def test_a_failing_disk_is_said_to_fail(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = FilesystemBlobStore(tmp_path, reserve_bytes=0, disk=disk)
    upload_id = await uploaded(store, b"abc")
    disk.before = fail("write", errno.EIO)
    with pytest.raises(StorageFailed):
        await store.append(upload_id, 3, pieces(b"def"))
    assert await store.upload_size(upload_id) == 3


async def test_a_mount_that_was_lost_is_no_empty_store(tmp_path: Path) -> None:
    store = FilesystemBlobStore(tmp_path / "store", reserve_bytes=0)
    digest = await stored(store, b"kept")
    upload_id = await uploaded(store, b"abc")
    (tmp_path / "store").rename(tmp_path / "away")
    for asked in (
        lambda: store.stat(digest),
        lambda: store.list(),
        lambda: store.local_path(digest, 4),
        lambda: store.upload_size(upload_id),
        lambda: store.append(upload_id, 3, pieces(b"d")),
        lambda: store.commit(upload_id, digest),
        lambda: store.pending_uploads(FAR_AHEAD),
    ):
        with pytest.raises(StorageFailed):
            await asked()
    (tmp_path / "away").rename(tmp_path / "store")
    assert await store.stat(digest) == 4
    assert await store.upload_size(upload_id) == 3
    await store.close()


async def test_strangers_among_the_uploads_are_left_alone(tmp_path: Path) -> None:
    store = FilesystemBlobStore(tmp_path, reserve_bytes=0)
    (tmp_path / "uploads" / "README").write_text("not ours")
    upload_id = await uploaded(store, b"abc")
    assert ids(await store.pending_uploads(FAR_AHEAD)) == {upload_id}


async def test_a_cold_blob_is_read_through_a_thread(tmp_path: Path) -> None:
    store = FilesystemBlobStore(tmp_path, reserve_bytes=0)
    data = content(3 << 20)
    digest = await stored(store, data)
    descriptor = os.open(path_of(tmp_path, digest), os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    assert await whole(store, digest, len(data)) == data
