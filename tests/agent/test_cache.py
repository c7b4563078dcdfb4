from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from agent.cache import ContentCache, DiskFull, full_disk_is_a_failure
from common.digest import Digest, DigestMismatch
from tests.agent.samples import noise

DATA = noise(3 << 20)
DIGEST = Digest.of(DATA)


@pytest.fixture
async def cache(tmp_path: Path) -> ContentCache:
    cache = ContentCache(tmp_path / "content", reserve_bytes=0)
    await cache.open()
    return cache


async def put(cache: ContentCache, data: bytes) -> Digest:
    digest = Digest.of(data)
    cache.partial(digest).write_bytes(data)
    await cache.publish(digest, len(data), cache.partial(digest))
    cache.partial(digest).unlink()
    return digest


def names(cache: ContentCache) -> set[str]:
    return {path.name for path in (cache.root / "sha256").glob("*/*")}


async def test_what_is_published_is_found_under_its_digest(cache: ContentCache) -> None:
    await put(cache, DATA)
    path = cache.find(DIGEST)
    assert path == cache.root / "sha256" / DIGEST.hex[:2] / DIGEST.hex
    assert path is not None
    assert path.read_bytes() == DATA
    assert (cache.held, cache.used_bytes) == ({DIGEST}, len(DATA))


async def test_publishing_twice_is_harmless(cache: ContentCache) -> None:
    await put(cache, DATA)
    await put(cache, DATA)
    assert cache.used_bytes == len(DATA)


@pytest.mark.parametrize("wrong", [DATA[:-1], DATA + b"x", b"y" + DATA[1:], b""], ids=["cut", "long", "other", "empty"])
async def test_wrong_bytes_publish_nothing(cache: ContentCache, wrong: bytes) -> None:
    source = cache.partial(DIGEST)
    source.write_bytes(wrong)
    with pytest.raises(DigestMismatch):
        await cache.publish(DIGEST, len(DATA), source)
    assert cache.find(DIGEST) is None
    assert not names(cache)
    assert source.exists()


async def test_a_restart_finds_what_was_published_and_removes_strays(cache: ContentCache) -> None:
    await put(cache, DATA)
    for stray in ("sha256/zz/whatever", f"sha256/{DIGEST.hex[:2]}/{'g' * 64}", f"sha256/00/{'1' * 64}"):
        path = cache.root / stray
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"stray")
    again = ContentCache(cache.root)
    await again.open()
    assert again.held == {DIGEST}
    assert names(again) == {DIGEST.hex}


async def test_bytes_in_memory_are_published_only_if_they_are_the_contents(cache: ContentCache) -> None:
    await cache.publish_bytes(DIGEST, [DATA[:3], DATA[3:]])
    assert cache.find(DIGEST) is not None
    other = Digest.of(b"other")
    with pytest.raises(DigestMismatch):
        await cache.publish_bytes(other, [b"wrong"])
    assert cache.held == {DIGEST}
    assert names(cache) == {DIGEST.hex}
    assert not list((cache.root / "partial").iterdir())


async def test_many_published_at_once_are_all_there(cache: ContentCache) -> None:
    contents = [b"content %d" % number for number in range(60)]
    await asyncio.gather(*(cache.publish_bytes(Digest.of(data), [data]) for data in contents))
    again = ContentCache(cache.root)
    await again.open()
    assert again.held == {Digest.of(data) for data in contents}


async def test_the_least_recently_used_goes_first_also_after_a_restart(cache: ContentCache) -> None:
    one, two, three = [await put(cache, data) for data in (b"one", b"two", b"three")]
    cache.find(one)
    assert cache.evictable(keep={three}) == [two, one]
    again = ContentCache(cache.root)
    await again.open()
    assert again.evictable(keep=()) == [two, three, one]


async def test_dropping_leaves_the_bytes_to_those_who_share_them(cache: ContentCache, tmp_path: Path) -> None:
    await put(cache, DATA)
    shared = tmp_path / "seeded"
    path = cache.find(DIGEST)
    assert path is not None
    shared.hardlink_to(path)
    await cache.drop(DIGEST)
    assert cache.find(DIGEST) is None
    assert shared.read_bytes() == DATA


async def test_a_file_that_vanished_is_not_held(cache: ContentCache) -> None:
    await put(cache, DATA)
    path = cache.find(DIGEST)
    assert path is not None
    path.unlink()
    assert cache.find(DIGEST) is None
    assert cache.held == frozenset()


@pytest.mark.parametrize(
    ("limit", "free", "wanted", "lacking"),
    [
        (0, 1000, 900, 0),
        (0, 1000, 950, 50),  # 100 are reserved
        (500, 10_000, 100, 0),
        (500, 10_000, 498, 2),  # 4 bytes are held
    ],
)
async def test_room_is_what_disk_and_limit_leave(
    tmp_path: Path, limit: int, free: int, wanted: int, lacking: int
) -> None:
    cache = ContentCache(tmp_path, limit_bytes=limit, reserve_bytes=100, free=lambda _: free)
    await cache.open()
    await put(cache, b"held")
    assert cache.lacking_bytes(wanted) == lacking


async def test_partial_files_of_unwanted_contents_are_forgotten(cache: ContentCache) -> None:
    wanted, unwanted = Digest.of(b"wanted"), Digest.of(b"unwanted")
    for digest in (wanted, unwanted):
        cache.partial(digest).write_bytes(b"begun")
    await cache.forget_partials({wanted})
    assert cache.partial(wanted).exists()
    assert not cache.partial(unwanted).exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_the_kernels_word_for_a_full_disk_becomes_ours(tmp_path: Path, number: int) -> None:
    with pytest.raises(DiskFull, match="is full"), full_disk_is_a_failure(tmp_path):
        raise OSError(number, "full")


def test_other_errors_of_the_disk_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), full_disk_is_a_failure(tmp_path):
        raise PermissionError(errno.EPERM, "no")
