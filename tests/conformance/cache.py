"""What every `control_plane.cache.Cache` must do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from control_plane.cache import Cache

# Lets time pass for the cache under test: a manual clock moves, a real server is waited for.
Elapse = Callable[[float], Awaitable[None]]


class CacheContract:
    """Subclasses give the fixtures `subject` and `elapse`."""

    async def test_what_was_never_set_is_absent(self, subject: Cache) -> None:
        assert await subject.get("nothing") is None

    async def test_a_value_comes_back_byte_for_byte(self, subject: Cache) -> None:
        value = bytes(range(256))
        await subject.set("key", value, 60)
        assert await subject.get("key") == value

    async def test_the_last_value_counts(self, subject: Cache) -> None:
        await subject.set("key", b"old", 60)
        await subject.set("key", b"new", 60)
        assert await subject.get("key") == b"new"

    async def test_an_empty_value_is_a_value(self, subject: Cache) -> None:
        await subject.set("key", b"", 60)
        assert await subject.get("key") == b""

    async def test_a_deleted_value_is_gone_and_deleting_again_is_harmless(self, subject: Cache) -> None:
        await subject.set("key", b"value", 60)
        await subject.delete("key")
        await subject.delete("key")
        assert await subject.get("key") is None

    async def test_a_value_is_gone_after_its_time(self, subject: Cache, elapse: Elapse) -> None:
        await subject.set("short", b"value", 0.2)
        await subject.set("long", b"value", 60)
        await elapse(0.3)
        assert await subject.get("short") is None
        assert await subject.get("long") == b"value"

    async def test_setting_again_prolongs(self, subject: Cache, elapse: Elapse) -> None:
        await subject.set("key", b"value", 0.2)
        await subject.set("key", b"value", 60)
        await elapse(0.3)
        assert await subject.get("key") == b"value"

    async def test_counting_starts_at_one(self, subject: Cache) -> None:
        assert [await subject.increment("count", 60) for _ in range(3)] == [1, 2, 3]

    async def test_counts_at_the_same_time_are_all_different(self, subject: Cache) -> None:
        counts = await asyncio.gather(*(subject.increment("count", 60) for _ in range(50)))
        assert sorted(counts) == list(range(1, 51))

    async def test_the_window_begins_with_the_first_count_and_is_not_prolonged(
        self, subject: Cache, elapse: Elapse
    ) -> None:
        await subject.increment("count", 0.4)
        await elapse(0.25)
        assert await subject.increment("count", 0.4) == 2
        await elapse(0.25)
        assert await subject.increment("count", 0.4) == 1

    async def test_keys_with_any_printable_character_stay_apart(self, subject: Cache) -> None:
        keys = ["a:b", "a/b", "a b", "a*", "{a}", "a\\b", "A:b"]
        for key in keys:
            await subject.set(key, key.encode(), 60)
        assert [await subject.get(key) for key in keys] == [key.encode() for key in keys]
