"""The cache of a host against a model: assignments come and go, contents are fetched, read and evicted, the process is
restarted; whatever the order, what is assigned stays and who reads reads everything.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.cache import ContentCache, DiskFull
from agent.eviction import Eviction
from common.digest import Digest

CONTENTS = [bytes([number]) * (1000 + number) for number in range(12)]
DIGESTS = [Digest.of(content) for content in CONTENTS]
LIMIT = 6000
contents = st.integers(0, len(CONTENTS) - 1)


class HostCache(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="eviction"))
        self.runner = asyncio.Runner()
        self.assigned: set[int] = set()
        self.flying: set[int] = set()
        self.readers: list[tuple[int, BinaryIO]] = []
        self.known = True
        self.left: list[Digest] = []
        self.start()

    def start(self) -> None:
        self.cache = ContentCache(
            self.root, limit_bytes=LIMIT, high_percent=80, low_percent=50, reserve_bytes=0, free=lambda _: 1 << 40
        )
        self.run(self.cache.open())
        self.eviction = Eviction(self.cache, self.keep, self.leave)

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    def keep(self) -> Collection[Digest] | None:
        return {DIGESTS[number] for number in self.assigned | self.flying} if self.known else None

    async def leave(self, digest: Digest) -> None:
        await asyncio.sleep(0)
        self.left.append(digest)

    def teardown(self) -> None:
        for _, file in self.readers:
            file.close()
        self.runner.close()
        shutil.rmtree(self.root)

    @rule(number=contents)
    def assign(self, number: int) -> None:
        self.assigned.add(number)

    @rule(number=contents)
    def withdraw(self, number: int) -> None:
        self.assigned.discard(number)

    @rule(number=contents, assigned=st.booleans())
    def fetch(self, number: int, assigned: bool) -> None:
        """What there is room for is held afterwards; what there is none for changes nothing."""
        if assigned:
            self.assigned.add(number)
        self.flying.add(number)
        kept = {DIGESTS[each] for each in self.assigned | self.flying} & self.cache.held
        try:
            if DIGESTS[number] not in self.cache.held:
                self.run(self.eviction.make_room(len(CONTENTS[number])))
                source = self.cache.partial(DIGESTS[number])
                source.write_bytes(CONTENTS[number])
                self.run(self.cache.publish(DIGESTS[number], len(CONTENTS[number]), source))
                source.unlink()
                assert self.cache.used_bytes <= LIMIT
        except DiskFull:
            pinned = sum(len(CONTENTS[DIGESTS.index(digest)]) for digest in kept)
            assert not self.known or pinned + len(CONTENTS[number]) > LIMIT
        finally:
            self.flying.discard(number)
        assert kept <= self.cache.held

    @rule(number=contents)
    def read(self, number: int) -> None:
        file = self.run(self.cache.open_held(DIGESTS[number]))
        if file is not None:
            self.readers.append((number, file))

    @precondition(lambda self: self.readers)
    @rule()
    def finish_reading(self) -> None:
        number, file = self.readers.pop(0)
        with file:
            assert file.read() == CONTENTS[number]

    @rule()
    def sweep(self) -> None:
        before = self.cache.held
        kept = {DIGESTS[each] for each in self.assigned} & before
        order = [digest for digest in self.cache.evictable(()) if digest not in kept]
        self.run(self.eviction.sweep())
        gone = before - self.cache.held
        assert not gone & kept
        assert not gone or self.known
        assert gone == set(order[: len(gone)]), "the least recently used first"
        assert gone <= set(self.left)
        if self.known:
            pinned = sum(size for _, _, size in self.cache.held_files(kept))
            assert self.cache.marks.surplus(self.cache.used_bytes, pinned) == 0

    @rule()
    def restart(self) -> None:
        held = self.cache.held
        self.start()
        assert self.cache.held == held

    @rule(known=st.booleans())
    def lose_or_learn_the_assignments(self, known: bool) -> None:
        self.known = known

    @invariant()
    def what_is_shown_is_whole(self) -> None:
        for digest in self.cache.held:
            path = self.root / digest.algorithm / digest.hex[:2] / digest.hex
            assert path.stat().st_size == len(CONTENTS[DIGESTS.index(digest)])


TestHostCache = HostCache.TestCase
TestHostCache.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


async def held(cache: ContentCache, number: int) -> None:
    source = cache.partial(DIGESTS[number])
    source.write_bytes(CONTENTS[number])
    await cache.publish(DIGESTS[number], len(CONTENTS[number]), source)


async def test_what_is_assigned_while_its_swarm_is_left_stays(tmp_path: Path) -> None:
    cache, assigned = ContentCache(tmp_path, limit_bytes=3000, reserve_bytes=0), set[Digest]()
    await cache.open()

    async def leave(digest: Digest) -> None:
        assigned.add(DIGESTS[0])

    eviction = Eviction(cache, lambda: assigned, leave)
    await held(cache, 0)
    await held(cache, 1)
    await eviction.make_room(1500)
    assert cache.held == {DIGESTS[0]}
    assert eviction.evicted_bytes == len(CONTENTS[1])
    with pytest.raises(DiskFull):
        await eviction.make_room(2500)
    assert cache.held == {DIGESTS[0]}


async def test_a_disk_that_fills_up_otherwise_makes_contents_leave(tmp_path: Path) -> None:
    free = [10_000]
    cache = ContentCache(tmp_path, reserve_bytes=5000, free=lambda _: free[0])
    await cache.open()

    async def leave(digest: Digest) -> None:
        free[0] += 1000

    eviction = Eviction(cache, lambda: {DIGESTS[0]}, leave)
    for number in range(3):
        await held(cache, number)
    await eviction.sweep()
    assert len(cache.held) == 3
    free[0] = 4500
    await eviction.sweep()
    assert cache.held == {DIGESTS[0], DIGESTS[2]}


async def test_a_share_of_the_disk_is_a_limit(tmp_path: Path) -> None:
    cache = ContentCache(tmp_path, limit_percent=50)
    await cache.open()
    assert cache.marks.limit_bytes == shutil.disk_usage(tmp_path).total // 2
