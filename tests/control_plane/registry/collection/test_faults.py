"""A store that fails or hangs, somebody who refuses, workers that are killed, and many at once."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from common.clock import ManualClock, SystemClock
from common.digest import Digest
from common.errors import Conflict, NotFound, Unavailable
from control_plane.blobs import StorageFailed
from control_plane.blobs.filesystem import FilesystemBlobStore
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.database import Database, UnitOfWork
from control_plane.registry.collection.model import Pace, RunKind
from control_plane.registry.failures import ContentMissing
from control_plane.registry.manifests import OCI_MANIFEST
from control_plane.registry.model import Repository
from control_plane.registry.participants import Participant
from control_plane.registry.upload_names import stored_id
from control_plane.web.paging import PageRequest
from tests.control_plane.registry.collection.stage import DAY, Stage, set_stage
from tests.control_plane.registry.people import ADA, ROOT, image_manifest
from tests.control_plane.registry.pushing import WEB, push_blob
from tests.pace import BUSY_SECONDS

HOUR = timedelta(hours=1)
ALL = PageRequest(1, 100)


class Faulty(MemoryBlobStore):
    """Deletions of `refused` fail, those of `stuck` never end."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.refused: set[Digest] = set()
        self.stuck: set[Digest] = set()
        self.hangs = asyncio.Event()

    async def delete(self, digest: Digest) -> None:
        if digest in self.refused:
            raise StorageFailed("the disk does not want to", action="look at the disk")
        if digest in self.stuck:
            self.hangs.set()
            await asyncio.Event().wait()
        await super().delete(digest)


async def three_due(stage: Stage) -> list[Digest]:
    """Blobs whose bytes may go now."""
    digests = [await push_blob(stage.registry, f"dead {number}".encode()) for number in range(3)]
    stage.pass_time(DAY)
    await stage.collect()
    stage.pass_time(HOUR)
    return digests


async def test_what_cannot_be_deleted_is_tried_again_later_and_hinders_nobody(
    database: Database, clock: ManualClock
) -> None:
    store = Faulty(clock)
    stage = set_stage(database, clock, store)
    first, *_ = await three_due(stage)
    store.refused = {first}
    tally = await stage.collect()
    assert (tally.deleted, tally.failures) == (2, 1)
    assert await stage.collection.collect() is None  # not again at once
    stage.pass_time(HOUR)
    assert (await stage.collect()).failures == 1
    store.refused = set()
    stage.pass_time(HOUR)
    assert (await stage.collect()).deleted == 1
    assert await store.list() == []


async def test_a_store_that_hangs_holds_nobody_for_long(database: Database, clock: ManualClock) -> None:
    store = Faulty(clock)
    stage = set_stage(database, clock, store, pace=Pace(jitter_seconds=0, delete_seconds=0.2, parallel=2))
    first, *_ = await three_due(stage)
    store.stuck = {first}
    async with asyncio.timeout(BUSY_SECONDS):
        assert (await stage.collect()).failures == 1
        await push_blob(stage.registry, b"dead 0")
    stage.pass_time(2 * HOUR)
    assert (await stage.collect()).deleted == 0
    assert await stage.holds(b"dead 0")


async def test_a_cancelled_collection_goes_on_where_it_was(database: Database, clock: ManualClock) -> None:
    store = Faulty(clock)
    stage = set_stage(database, clock, store)
    digests = await three_due(stage)
    store.stuck = {digests[-1]}
    running = asyncio.ensure_future(stage.collection.collect())
    async with asyncio.timeout(BUSY_SECONDS):
        await store.hangs.wait()
        while [each.digest for each in await store.list()] != digests[-1:]:  # noqa: ASYNC110  the store says nothing of what it deleted
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    store.stuck = set()
    # Bytes of two are gone and the rows were kept: whoever pushes them meanwhile pushes them whole.
    await push_blob(stage.registry, b"dead 0")
    assert (await stage.collect()).deleted == 2
    assert await stage.registry.contents.present_blob_size(ADA, WEB, digests[0]) == 6
    runs = (await stage.collection.runs(ROOT, ALL)).items
    assert sum(run.finished_at is None for run in runs) == 1


class Refusing(Participant):
    async def blob_unlinked(self, unit: UnitOfWork, repository: Repository, digest: Digest, size: int) -> None:
        if repository.name == WEB:
            raise Conflict("not this one", action="wait")


async def test_one_repository_that_cannot_be_collected_does_not_stop_the_others(
    database: Database, clock: ManualClock
) -> None:
    stage = set_stage(database, clock, others=[Refusing()])
    await push_blob(stage.registry, b"held")
    await push_blob(stage.registry, b"free", "acme/other")
    stage.pass_time(DAY)
    tally = await stage.collect()
    assert (tally.unlinked, tally.failures) == (1, 1)
    assert await stage.registry.contents.blob_size(ADA, WEB, Digest.of(b"held")) == 4
    assert await stage.collection.collect() is None


async def test_a_sweep_that_was_interrupted_goes_on(database: Database, clock: ManualClock) -> None:
    stage = set_stage(database, clock)
    sweeper = stage.collection._sweeper
    sweeper._page = 2
    for number in range(7):
        upload = stored_id((await stage.registry.uploads.start(ADA, WEB)).upload_id)
        await stage.blobs.append(upload, 0, _chunks(b"%d" % number))
        await stage.blobs.commit(upload, Digest.of(b"%d" % number))
    pages = 0
    while (run := await stage.collection.sweep(seconds=0)).finished_at is None:
        pages += 1
    assert (pages, run.tally.adopted, run.kind) == (3, 7, RunKind.SWEEP)


async def _chunks(data: bytes):
    yield data


async def push_image_of(stage: Stage, repository: str, contents: list[bytes], tag: str) -> None:
    """As docker does it, and again if the database was busy."""
    for data in contents:
        try:
            await stage.registry.contents.present_blob_size(ADA, repository, Digest.of(data))
        except NotFound:
            await push_blob(stage.registry, data, repository)
    payload = image_manifest(contents[0], contents[1:])
    await stage.registry.images.push(ADA, repository, payload, OCI_MANIFEST, tags=[tag])


class Load:
    """Clients that push, replace and delete images of shared layers, and remember what must be there."""

    def __init__(self, stage: Stage, clock: SystemClock, until: float) -> None:
        self.stage, self.clock, self.until = stage, clock, until
        self.chance = random.Random(7)
        self.numbers = itertools.count()
        self.live: dict[tuple[str, str], list[bytes]] = {}
        self.busy = 0
        self.replaced = 0

    def goes_on(self) -> bool:
        """Until there is enough to be collected, also on a machine that is slow today."""
        late = self.clock.monotonic() - self.until
        return late < 0 or (self.replaced < 30 and late < BUSY_SECONDS)

    async def push(self, worker: int) -> None:
        while self.goes_on():
            repository, tag = f"acme/load-{self.chance.randrange(3)}", f"{worker}-{self.chance.randrange(2)}"
            layers = self.chance.sample([f"shared {number}".encode() for number in range(8)], 2)
            contents = [b"config %d" % next(self.numbers), *layers]
            began = self.clock.monotonic()
            try:
                if (before := self.live.pop((repository, tag), None)) is not None:
                    replaced = Digest.of(image_manifest(before[0], before[1:]))
                    await self.stage.registry.images.delete_manifest(ADA, repository, replaced)
                    self.replaced += 1
                await push_image_of(self.stage, repository, contents, tag)
                self.live[repository, tag] = contents
            except Unavailable:
                self.busy += 1
            except ContentMissing:
                # A promise of this test holds for one second; a machine that stood still for longer proves nothing.
                assert self.clock.monotonic() - began > 0.8

    async def collect(self) -> None:
        while self.goes_on():
            await self.stage.collection.collect()
            await asyncio.sleep(0.01)

    async def check(self) -> set[Digest]:
        """Everything live is whole; returns what it consists of."""
        for (repository, tag), contents in self.live.items():
            found = await self.stage.registry.images.find(ADA, repository, tag)
            assert found.payload == image_manifest(contents[0], contents[1:])
            for data in contents:
                assert await self.stage.registry.contents.present_blob_size(ADA, repository, Digest.of(data))
        return {Digest.of(data) for contents in self.live.values() for data in contents}


async def test_under_load_no_live_blob_is_lost_and_the_dead_ones_go(postgresql_url: str) -> None:
    """Real time and graces of seconds: pushes, deletions and three collections at once, each on PostgreSQL."""
    clock = SystemClock()
    second = timedelta(seconds=1)
    pace = Pace(grace=2 * second, settle=second, reprieve=second, jitter_seconds=0.1, link_batch=20, blob_batch=10)
    database = Database(postgresql_url, clock)
    stage = set_stage(database, clock, MemoryBlobStore(clock), pace=pace)  # type: ignore[arg-type]
    load = Load(stage, clock, clock.monotonic() + 5)
    async with asyncio.TaskGroup() as group:
        for worker in range(6):
            group.create_task(load.push(worker))
        for _ in range(3):
            group.create_task(load.collect())
    assert load.busy == 0
    needed = await load.check()
    async with asyncio.timeout(3 * BUSY_SECONDS):
        while {each.digest for each in await stage.blobs.list("", 10_000)} != needed:
            await stage.collection.collect()
            await asyncio.sleep(0.1)
    await load.check()
    assert (await stage.collection.removals(ROOT, None, ALL)).total_count > 20
    await database.close()


_WORKER = """
import asyncio, sys
from datetime import timedelta
from pathlib import Path
from common.clock import ManualClock, SystemClock
from control_plane.blobs.filesystem import FilesystemBlobStore
from control_plane.database import Database
from tests.control_plane.registry.collection.stage import set_stage

class Slow(FilesystemBlobStore):
    async def delete(self, digest):
        await super().delete(digest)
        print("deleted", flush=True)
        await asyncio.sleep(0.02)

async def main():
    clock = ManualClock(SystemClock().now() + timedelta(hours=30))
    database = Database(sys.argv[1], clock)
    stage = set_stage(database, clock, Slow(Path(sys.argv[2])))
    while True:
        await stage.collection.collect()
        clock.tick(3600)

asyncio.run(main())
"""


@pytest.mark.processes
async def test_a_worker_killed_in_the_middle_leaves_work_and_no_damage(database_url: str, tmp_path: Path) -> None:
    clock = ManualClock(SystemClock().now())
    database = Database(database_url, clock)
    store = FilesystemBlobStore(tmp_path / "blobs")
    stage = set_stage(database, clock, store)  # type: ignore[arg-type]
    dead = [f"dead {number}".encode() for number in range(60)]
    for data in dead:
        await push_blob(stage.registry, data)
    await push_image_of(stage, WEB, [b"live config", b"live layer"], "latest")
    for _ in range(2):
        worker = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-c", _WORKER, database_url, str(tmp_path / "blobs")],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[4],
        )
        assert worker.stdout is not None
        while b"deleted" not in await asyncio.to_thread(worker.stdout.readline):
            assert worker.poll() is None
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        worker.stdout.close()
    left = len(await store.list())
    assert 2 < left < 62
    # Pushed again between the bytes' end and the row's: it is whole, whatever the dead worker had begun.
    await push_blob(stage.registry, dead[0], "acme/again")
    await push_image_of(stage, "acme/again", [dead[0], dead[1]], "latest")
    clock.tick(30 * 3600)
    await stage.collect_to_the_end()
    kept = [b"live config", b"live layer", dead[0], dead[1]]
    assert {each.digest for each in await store.list()} == {Digest.of(data) for data in kept}
    await store.close()
    await database.close()
