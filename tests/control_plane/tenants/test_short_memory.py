"""An answer read before a change is never kept after it."""

from __future__ import annotations

from datetime import timedelta

from common.clock import ManualClock
from control_plane.cache.memory import MemoryCache
from control_plane.tenants.short_memory import ShortMemory


class Source:
    """Something that changes, and may change just while it is being read."""

    def __init__(self, memory: ShortMemory) -> None:
        self.memory = memory
        self.value = b"old"
        self.reads = 0
        self.changes_during_read = False

    async def read(self) -> bytes | None:
        self.reads += 1
        seen = self.value
        if self.changes_during_read:
            self.changes_during_read = False
            self.value = b"new"
            await self.memory.forget("key")
        return seen

    async def get(self) -> bytes | None:
        return await self.memory.get("key", self.read)


async def test_an_answer_is_kept_for_its_time(clock: ManualClock) -> None:
    source = Source(ShortMemory(MemoryCache(clock), timedelta(seconds=30)))
    assert [await source.get() for _ in range(3)] == [b"old"] * 3
    assert source.reads == 1
    source.value = b"new"
    clock.tick(30)
    assert await source.get() == b"new"


async def test_a_change_is_seen_at_once(clock: ManualClock) -> None:
    source = Source(ShortMemory(MemoryCache(clock), timedelta(seconds=30)))
    await source.get()
    source.value = b"new"
    await source.memory.forget("key")
    assert await source.get() == b"new"


async def test_what_changed_while_it_was_read_is_not_kept(clock: ManualClock) -> None:
    source = Source(ShortMemory(MemoryCache(clock), timedelta(seconds=30)))
    source.changes_during_read = True
    assert await source.get() == b"old"
    assert await source.get() == b"new"


async def test_what_changed_while_it_was_written_is_not_kept(clock: ManualClock) -> None:
    class SlowCache(MemoryCache):
        async def set(self, key: str, value: bytes, ttl_seconds: float) -> None:
            if value == b"old":
                source.value = b"new"
                await source.memory.forget("key")
            await super().set(key, value, ttl_seconds)

    source = Source(ShortMemory(SlowCache(clock), timedelta(seconds=30)))
    assert await source.get() == b"old"
    assert await source.get() == b"new"


async def test_nothing_is_not_kept(clock: ManualClock) -> None:
    memory = ShortMemory(MemoryCache(clock), timedelta(seconds=30))
    answers = [None, b"now"]

    async def read() -> bytes | None:
        return answers.pop(0)

    assert [await memory.get("key", read) for _ in range(3)] == [None, b"now", b"now"]
