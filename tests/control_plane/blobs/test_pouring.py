"""What arrives is written in batches; the more arrive at once, the smaller they are, and nothing is lost or turned."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest

from control_plane.blobs.threads import BlobThreads, pour

CHUNK = bytes(64 << 10)


@pytest.fixture
async def threads() -> AsyncIterator[BlobThreads]:
    threads = BlobThreads(4)
    yield threads
    await threads.close()


async def _chunks(count: int) -> AsyncIterator[bytes]:
    for number in range(count):
        await asyncio.sleep(0)
        yield number.to_bytes(2) + CHUNK[2:]


async def _poured(threads: BlobThreads, count: int = 40) -> list[int]:
    batches: list[Sequence[bytes]] = []
    await pour(threads, _chunks(count), lambda batch: batches.append(list(batch)))
    assert [int.from_bytes(chunk[:2]) for batch in batches for chunk in batch] == list(range(count))
    return [sum(map(len, batch)) for batch in batches]


@pytest.mark.parametrize(
    ("others", "largest"), [(0, 1 << 20), (15, 1 << 20), (31, 512 << 10), (63, 256 << 10), (999, 256 << 10)]
)
async def test_a_batch_is_the_smaller_the_more_pour(threads: BlobThreads, others: int, largest: int) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(others):
            stack.enter_context(threads.pouring())
        assert max(await _poured(threads)) == largest
    assert max(await _poured(threads)) == 1 << 20


async def test_many_that_pour_at_once_write_all_that_they_got_in_order(threads: BlobThreads) -> None:
    await asyncio.gather(*(_poured(threads) for _ in range(80)))
