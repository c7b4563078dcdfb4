"""A descriptor that is used again is always that of the blob's own file, and none is leaked."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.digest import Digest
from control_plane.blobs import BlobDamaged, BlobMissing
from control_plane.blobs.filesystem import FilesystemBlobStore

DATA = os.urandom(100_000)
DIGEST = Digest.of(DATA)


async def pieces_of(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def put(store: FilesystemBlobStore, data: bytes, number: int = 1) -> Digest:
    upload, digest = f"0190a0a0-0000-7000-8000-{number:012}", Digest.of(data)
    await store.create_upload(upload)
    await store.append(upload, 0, pieces_of(data))
    await store.commit(upload, digest)
    return digest


async def read(store: FilesystemBlobStore, digest: Digest = DIGEST, size: int = len(DATA)) -> bytes:
    async with store.open(digest, size) as reader:
        return b"".join([piece async for piece in reader.read(0, size)])


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FilesystemBlobStore]:
    opened = FilesystemBlobStore(tmp_path)
    await put(opened, DATA)
    yield opened
    await opened.close()


async def test_a_blob_is_opened_once_for_many_readers(store, tmp_path: Path):
    assert await read(store) == DATA
    before = open_descriptors()
    for _ in range(50):
        assert await read(store) == DATA
    assert open_descriptors() == before


async def test_a_deleted_blob_is_missing_at_once(store):
    await read(store)
    await store.delete(DIGEST)
    with pytest.raises(BlobMissing):
        await read(store)


async def test_a_blob_that_another_process_deleted_is_missing_at_once(store, tmp_path: Path):
    await read(store)
    path = await store.local_path(DIGEST, len(DATA))
    path.unlink()
    with pytest.raises(BlobMissing):
        await read(store)


async def test_a_blob_that_was_cut_is_noticed_though_it_is_open(store):
    await read(store)
    path = await store.local_path(DIGEST, len(DATA))
    os.truncate(path, 10)
    with pytest.raises(BlobDamaged):
        await read(store)


async def test_a_repaired_blob_is_read_from_its_new_file(store, tmp_path: Path):
    path = await store.local_path(DIGEST, len(DATA))
    path.write_bytes(bytes(len(DATA)))
    assert await read(store) != DATA
    await put(store, DATA, 2)
    assert await read(store) == DATA


async def test_a_file_replaced_by_another_process_is_read_anew(store, tmp_path: Path):
    await read(store)
    path = await store.local_path(DIGEST, len(DATA))
    shutil.copy(path, tmp_path / "copy")
    os.replace(tmp_path / "copy", path)
    await read(store)
    async with store.open(DIGEST, len(DATA)) as reader:
        [piece] = [piece async for piece in reader.file_pieces(0, 10)]
        assert os.fstat(piece.descriptor).st_ino == path.stat().st_ino


async def test_a_reader_reads_on_when_the_blob_is_deleted(store):
    async with store.open(DIGEST, len(DATA)) as reader:
        await store.delete(DIGEST)
        assert b"".join([piece async for piece in reader.read(0, len(DATA))]) == DATA


async def test_few_descriptors_stay_open_and_none_after_close(store):
    before = open_descriptors()
    digests = [await put(store, f"blob {number}".encode(), number + 10) for number in range(300)]
    for number, digest in enumerate(digests):
        await read(store, digest, len(f"blob {number}"))
    assert open_descriptors() <= before + 260
    await store.close()
    assert open_descriptors() < before + 5
