"""What every `common.discovery.ServiceRegistry` must do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from common.discovery import Change, ServiceRegistry
from common.errors import Stale
from tests.pace import BUSY_SECONDS

TTL_SECONDS = 5.0


class Picture:
    """What a reader that applies every change believes."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.changes: list[Change] = []
        self._changed = asyncio.Condition()

    async def follow(self, changes: AsyncIterator[Change]) -> None:
        async for change in changes:
            async with self._changed:
                self.changes.append(change)
                if change.value is None:
                    self.values.pop(change.key, None)
                else:
                    self.values[change.key] = change.value
                self._changed.notify_all()

    async def becomes(self, expected: dict[str, bytes], seconds: float = 30) -> None:
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: self.values == expected)

    async def satisfies(self, condition: Callable[[dict[str, bytes]], bool], seconds: float = 30) -> None:
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: condition(self.values))


@contextlib.asynccontextmanager
async def following(registry: ServiceRegistry, prefix: str) -> AsyncIterator[Picture]:
    picture = Picture()
    async with asyncio.TaskGroup() as group, contextlib.aclosing(registry.watch(prefix)) as changes:
        task = group.create_task(picture.follow(changes))
        yield picture
        task.cancel()
        await asyncio.wait({task})


class ServiceRegistryContract:
    """Subclasses give the fixtures `subject`, `other` (another process's view of the same directory) and `root`, a
    prefix of the test's own.
    """

    async def test_a_registration_is_there_as_long_as_its_context(
        self, subject: ServiceRegistry, other: ServiceRegistry, root: str
    ) -> None:
        async with subject.register(f"{root}a", b"alive", TTL_SECONDS) as registration:
            assert registration.held
            assert await other.list(root) == {f"{root}a": b"alive"}
        assert await other.list(root) == {}
        assert not registration.held

    async def test_a_graceful_end_leaves_the_final_value(
        self, subject: ServiceRegistry, other: ServiceRegistry, root: str
    ) -> None:
        async with subject.register(f"{root}a", b"alive", TTL_SECONDS, final_value=b"offline"):
            pass
        assert await other.list(root) == {f"{root}a": b"offline"}

    async def test_an_error_inside_ends_the_registration_and_comes_out_as_it_is(
        self, subject: ServiceRegistry, root: str
    ) -> None:
        async def fail() -> None:
            async with subject.register(f"{root}a", b"alive", TTL_SECONDS):
                raise KeyError("boom")

        with pytest.raises(KeyError):
            await fail()
        assert await subject.list(root) == {}

    async def test_an_update_is_there_when_it_returns(
        self, subject: ServiceRegistry, other: ServiceRegistry, root: str
    ) -> None:
        async with subject.register(f"{root}a", b"one", TTL_SECONDS) as registration:
            await registration.update(b"two")
            assert await other.list(root) == {f"{root}a": b"two"}

    async def test_whoever_registers_a_key_last_holds_it_and_the_former_holder_learns_of_it(
        self, subject: ServiceRegistry, other: ServiceRegistry, root: str
    ) -> None:
        async with (
            subject.register(f"{root}a", b"first", TTL_SECONDS, final_value=b"first ended") as first,
            other.register(f"{root}a", b"second", TTL_SECONDS) as second,
        ):
            async with asyncio.timeout(TTL_SECONDS):
                await first.displaced.wait()
            assert (first.held, second.held) == (False, True)
            with pytest.raises(Stale):
                await first.update(b"again")
            assert await subject.list(root) == {f"{root}a": b"second"}
        assert await subject.list(root) == {}

    async def test_the_end_of_a_displaced_registration_does_not_touch_the_key(
        self, subject: ServiceRegistry, other: ServiceRegistry, root: str
    ) -> None:
        async with contextlib.AsyncExitStack() as stack:
            async with subject.register(f"{root}a", b"first", TTL_SECONDS, final_value=b"first ended"):
                await stack.enter_async_context(other.register(f"{root}a", b"second", TTL_SECONDS))
            assert await subject.list(root) == {f"{root}a": b"second"}

    async def test_a_list_has_the_prefix_and_nothing_beside_it(self, subject: ServiceRegistry, root: str) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for name in ("a/1", "a/2", "a", "ab", "b/1"):
                await stack.enter_async_context(subject.register(f"{root}{name}", name.encode(), TTL_SECONDS))
            assert await subject.list(f"{root}a/") == {f"{root}a/1": b"a/1", f"{root}a/2": b"a/2"}
            assert len(await subject.list(f"{root}a")) == 4

    async def test_a_watch_begins_with_what_is_there_and_goes_on_with_what_changes(
        self, subject: ServiceRegistry, other: ServiceRegistry, root: str
    ) -> None:
        async with (
            subject.register(f"{root}a", b"one", TTL_SECONDS) as registration,
            following(other, root) as picture,
        ):
            await picture.becomes({f"{root}a": b"one"})
            await registration.update(b"two")
            await picture.becomes({f"{root}a": b"two"})
            async with subject.register(f"{root}b", b"new", TTL_SECONDS):
                await picture.becomes({f"{root}a": b"two", f"{root}b": b"new"})
            await picture.becomes({f"{root}a": b"two"})

    async def test_a_watch_of_nothing_waits(self, subject: ServiceRegistry, root: str) -> None:
        async with following(subject, root) as picture:
            await asyncio.sleep(0.1)
            assert picture.changes == []

    async def test_two_watches_see_the_same(self, subject: ServiceRegistry, other: ServiceRegistry, root: str) -> None:
        async with following(subject, root) as first, following(other, root) as second:
            async with contextlib.AsyncExitStack() as stack:
                for number in range(10):
                    await stack.enter_async_context(subject.register(f"{root}{number}", b"x", TTL_SECONDS))
                expected = {f"{root}{number}": b"x" for number in range(10)}
                await first.becomes(expected)
                await second.becomes(expected)
            await first.becomes({})
            await second.becomes({})

    async def test_a_lock_has_one_leader_at_a_time(
        self, subject: ServiceRegistry, other: ServiceRegistry, lock_name: str
    ) -> None:
        leading, most, terms = 0, 0, []

        async def lead(registry: ServiceRegistry) -> None:
            nonlocal leading, most
            async with registry.lock(lock_name, TTL_SECONDS) as leadership:
                leading += 1
                most = max(most, leading)
                terms.append(leadership.term)
                await asyncio.sleep(0.02)
                leading -= 1

        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            for number in range(8):
                group.create_task(lead((subject, other)[number % 2]))
        assert most == 1
        assert terms == sorted(set(terms))

    async def test_the_lock_goes_to_whoever_asked_first(
        self, subject: ServiceRegistry, other: ServiceRegistry, lock_name: str
    ) -> None:
        order = []

        async def lead(registry: ServiceRegistry, name: str) -> None:
            async with registry.lock(lock_name, TTL_SECONDS):
                order.append(name)

        async with asyncio.timeout(20), asyncio.TaskGroup() as group, subject.lock(lock_name, TTL_SECONDS):
            for name in ("first", "second", "third"):
                group.create_task(lead(other, name))
                await asyncio.sleep(0.1)
        assert order == ["first", "second", "third"]

    async def test_a_candidate_that_gives_up_does_not_hold_up_the_line(
        self, subject: ServiceRegistry, other: ServiceRegistry, lock_name: str
    ) -> None:
        async def lead(registry: ServiceRegistry) -> None:
            async with registry.lock(lock_name, TTL_SECONDS):
                pass

        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            async with subject.lock(lock_name, TTL_SECONDS):
                impatient = group.create_task(lead(other))
                await asyncio.sleep(0.1)
                patient = group.create_task(lead(subject))
                await asyncio.sleep(0.1)
                impatient.cancel()
                await asyncio.wait({impatient})
            await patient

    async def test_an_error_of_a_leader_gives_the_lock_up(self, subject: ServiceRegistry, lock_name: str) -> None:
        async def fail() -> None:
            async with subject.lock(lock_name, TTL_SECONDS):
                raise KeyError("boom")

        with pytest.raises(KeyError):
            await fail()
        async with asyncio.timeout(BUSY_SECONDS), subject.lock(lock_name, TTL_SECONDS) as leadership:
            assert not leadership.lost.is_set()

    async def test_locks_of_different_names_do_not_disturb_each_other(
        self, subject: ServiceRegistry, lock_name: str
    ) -> None:
        async with (
            asyncio.timeout(BUSY_SECONDS),
            subject.lock(lock_name, TTL_SECONDS),
            subject.lock(f"{lock_name}-2", TTL_SECONDS),
        ):
            pass
