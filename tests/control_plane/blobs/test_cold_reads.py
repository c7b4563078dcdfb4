"""A blob whose bytes changed on the disk, but not its length: what is sent whole never ends as if it were right."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from common.clock import SystemClock
from common.digest import Digest
from control_plane.blobs import BlobMissing, BlobReader, BlobUntrue, FileBacked
from control_plane.blobs.filesystem import FilesystemBlobStore
from control_plane.blobs.store_set.members import Member, Tier
from control_plane.blobs.store_set.store import StoreSet
from tests.conformance.blob_store import content, stored
from tests.control_plane.blobs.cooling import cool, folder_on_a_disk, rot

SIZE = 9 << 20  # two pieces of 4 MiB and one of 1


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with folder_on_a_disk() as folder:
        yield folder


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FilesystemBlobStore]:
    opened = FilesystemBlobStore(tmp_path, reserve_bytes=0)
    yield opened
    await opened.close()


def path_of(root: Path, digest: Digest) -> Path:
    return root / "blobs" / digest.algorithm / digest.hex[:2] / digest.hex


async def sent(reader: BlobReader, start: int, end: int, into: bytearray) -> None:
    """What the kernel would send."""
    assert isinstance(reader, FileBacked)
    async for piece in reader.file_pieces(start, end):
        into += os.pread(piece.descriptor, piece.length, piece.offset)


@pytest.mark.parametrize("at", [0, SIZE // 2, SIZE - 1])
async def test_damage_that_keeps_the_size_is_found_when_the_disk_is_read(
    store: FilesystemBlobStore, tmp_path: Path, at: int
) -> None:
    data = content(SIZE)
    digest = await stored(store, data)
    rot(path_of(tmp_path, digest), at)
    cool(path_of(tmp_path, digest))
    got = bytearray()
    async with store.open(digest, SIZE) as reader:
        with pytest.raises(BlobUntrue):
            await sent(reader, 0, SIZE, got)
    assert len(got) == 8 << 20, "never to the end"
    [aside] = (tmp_path / "damaged").iterdir()
    assert digest.hex in aside.name
    with pytest.raises(BlobMissing):
        async with store.open(digest, SIZE):
            pass
    assert await stored(store, data) == digest
    got.clear()
    async with store.open(digest, SIZE) as reader:
        await sent(reader, 0, SIZE, got)
    assert got == data


async def test_of_a_small_damaged_blob_no_byte_is_sent(store: FilesystemBlobStore, tmp_path: Path) -> None:
    digest = await stored(store, content(5000))
    rot(path_of(tmp_path, digest), 17)
    cool(path_of(tmp_path, digest))
    got = bytearray()
    async with store.open(digest, 5000) as reader:
        with pytest.raises(BlobUntrue):
            await sent(reader, 0, 5000, got)
    assert not got


@pytest.mark.parametrize("size", [1, 1 << 20, (4 << 20) + 1, SIZE])
async def test_a_good_blob_comes_whole_from_the_disk_and_from_memory(
    store: FilesystemBlobStore, tmp_path: Path, size: int
) -> None:
    data = content(size)
    digest = await stored(store, data)
    cool(path_of(tmp_path, digest))
    for _ in range(2):
        got = bytearray()
        async with store.open(digest, size) as reader:
            await sent(reader, 0, size, got)
        assert got == data


async def test_parts_and_what_is_in_memory_are_not_hashed(store: FilesystemBlobStore, tmp_path: Path) -> None:
    """What cannot be checked, or was when it came, is handed out; clients and the scrub check it."""
    data = content(SIZE)
    digest = await stored(store, data)
    rot(path_of(tmp_path, digest), SIZE - 1)
    got = bytearray()
    async with store.open(digest, SIZE) as reader:
        await sent(reader, 0, SIZE, got)
        cool(path_of(tmp_path, digest))
        await sent(reader, SIZE - 100, SIZE, got)
    assert len(got) == SIZE + 100
    assert not list((tmp_path / "damaged").iterdir())


async def test_it_can_be_turned_off(tmp_path: Path) -> None:
    store = FilesystemBlobStore(tmp_path, reserve_bytes=0, hash_cold=False)
    digest = await stored(store, content(SIZE))
    rot(path_of(tmp_path, digest), 0)
    cool(path_of(tmp_path, digest))
    got = bytearray()
    async with store.open(digest, SIZE) as reader:
        await sent(reader, 0, SIZE, got)
    assert len(got) == SIZE
    await store.close()


async def test_no_other_copy_ends_what_a_wrong_one_began(tmp_path: Path) -> None:
    """It would be as long as it must be, and wrong. Who asks again gets the other copy from its beginning."""
    stores = [FilesystemBlobStore(tmp_path / name, reserve_bytes=0) for name in ("one", "two")]
    both = StoreSet([Member("one", stores[0], Tier.HOT, ""), Member("two", stores[1], Tier.WARM, "")], SystemClock())
    data = content(SIZE)
    for store in stores:
        digest = await stored(store, data)
    rot(path_of(tmp_path / "one", digest), 0)
    cool(path_of(tmp_path / "one", digest))
    got = bytearray()
    async with both.open(digest, SIZE) as reader:
        with pytest.raises(BlobUntrue):
            await sent(reader, 0, SIZE, got)
    got.clear()
    async with both.open(digest, SIZE) as reader:
        await sent(reader, 0, SIZE, got)
    assert got == data
    await both.close()
