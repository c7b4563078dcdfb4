"""Years of a registry in seconds: pushes, mounts, tags, deletions, undeletions, crashes and collections at random.

The model says what must be pullable. After every step it is, with every byte; and once everything has been quiet for
long enough, the store holds exactly what the model needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from common.clock import ManualClock
from common.digest import Digest
from common.errors import Failure
from control_plane.blobs import StorageFailed
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.database import Database
from control_plane.registry.failures import BlobInUse, BlobUnknown, ManifestUnknown
from control_plane.registry.manifests import OCI_INDEX, OCI_MANIFEST
from control_plane.registry.upload_names import stored_id
from tests.control_plane.registry.collection.stage import DAY, Stage, set_stage
from tests.control_plane.registry.people import ROOT, image_manifest, index_manifest
from tests.control_plane.registry.pushing import chunks_of

REPOSITORIES = ("acme/one", "birch/two")
CONTENTS = tuple(f"content {number}".encode() for number in range(4))
TAGS = ("1", "latest")
repositories = st.sampled_from(REPOSITORIES)
contents = st.sampled_from(CONTENTS)
tags = st.sampled_from(TAGS)


class Unreliable(MemoryBlobStore):
    """Deletions fail as often as a test says."""

    failing = False

    async def delete(self, digest: Digest) -> None:
        if self.failing:
            raise StorageFailed("the disk does not want to", action="try again")
        await super().delete(digest)


class Killed(Exception):
    pass


class Life(RuleBasedStateMachine):
    """`open_database` is set by the test."""

    open_database: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        self.database: Database = self.open_database(self.clock)
        self.blobs = Unreliable(self.clock)
        self.stage: Stage = set_stage(self.database, self.clock, self.blobs)
        # repository -> digest of the manifest -> its blobs and children; and its tags
        self.manifests: dict[str, dict[Digest, bytes]] = {name: {} for name in REPOSITORIES}
        self.needs: dict[Digest, set[bytes]] = {}
        self.children: dict[Digest, set[Digest]] = {}
        self.tags: dict[tuple[str, str], Digest] = {}
        # What was deleted and can come back: until when, with which tags.
        self.deleted: dict[tuple[str, Digest], Any] = {}

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    def teardown(self) -> None:
        self.run(self.database.close())
        self.runner.close()

    async def _push_blob(self, repository: str, data: bytes) -> None:
        try:
            await self.stage.registry.contents.present_blob_size(ROOT, repository, Digest.of(data))
        except Failure:
            await self.stage.registry.uploads.push_whole(ROOT, repository, Digest.of(data), chunks_of(data))

    @rule(repository=repositories, config=contents, layers=st.lists(contents, max_size=2), names=st.sets(tags))
    def push_image(self, repository: str, config: bytes, layers: list[bytes], names: set[str]) -> None:
        payload = image_manifest(config, layers)
        for data in {config, *layers}:
            self.run(self._push_blob(repository, data))
        self._push(repository, payload, OCI_MANIFEST, names)
        self.needs[Digest.of(payload)] = {config, *layers}
        self.children[Digest.of(payload)] = set()

    @rule(repository=repositories, name=tags, data=st.data())
    def push_index(self, repository: str, name: str, data: st.DataObject) -> None:
        images = sorted(digest for digest in self.manifests[repository] if not self.children[digest])
        if not images:
            return
        chosen = data.draw(st.lists(st.sampled_from(images), min_size=1, max_size=2, unique=True))
        payload = index_manifest([(self.manifests[repository][each], "amd64") for each in chosen])
        self._push(repository, payload, OCI_INDEX, {name})
        self.needs[Digest.of(payload)] = set()
        self.children[Digest.of(payload)] = set(chosen)

    def _push(self, repository: str, payload: bytes, media_type: str, names: set[str]) -> None:
        self.run(self.stage.registry.images.push(ROOT, repository, payload, media_type, tags=sorted(names)))
        digest = Digest.of(payload)
        self.manifests[repository][digest] = payload
        self.deleted.pop((repository, digest), None)
        for name in names:
            self.tags[repository, name] = digest

    @rule(repository=repositories, data=contents)
    def push_a_blob_and_nothing_else(self, repository: str, data: bytes) -> None:
        self.run(self._push_blob(repository, data))

    @rule(source=repositories, destination=repositories, data=contents)
    def mount(self, source: str, destination: str, data: bytes) -> None:
        pushed = self.run(self.stage.registry.uploads.mount(ROOT, destination, Digest.of(data), source))
        if pushed is not None:
            found = self.run(self.stage.registry.contents.present_blob_size(ROOT, destination, Digest.of(data)))
            assert found == len(data)

    @rule(repository=repositories, data=contents)
    def delete_a_blob(self, repository: str, data: bytes) -> None:
        try:
            self.run(self.stage.registry.contents.unlink_blob(ROOT, repository, Digest.of(data)))
        except (BlobUnknown, Failure) as failure:
            if isinstance(failure, BlobInUse):
                assert any(data in self.needs[each] for each in self.manifests[repository])

    @rule(data=st.data())
    @precondition(lambda self: self.tags)
    def delete_a_tag(self, data: st.DataObject) -> None:
        repository, name = data.draw(st.sampled_from(sorted(self.tags)))
        self.run(self.stage.registry.images.delete_tag(ROOT, repository, name))
        del self.tags[repository, name]

    @rule(data=st.data())
    @precondition(lambda self: any(self.manifests.values()))
    def delete_a_manifest(self, data: st.DataObject) -> None:
        every = sorted((name, digest) for name, held in self.manifests.items() for digest in held)
        repository, digest = data.draw(st.sampled_from(every))
        self.run(self.stage.registry.images.delete_manifest(ROOT, repository, digest))
        del self.manifests[repository][digest]
        names = {name for (held, name), meant in self.tags.items() if held == repository and meant == digest}
        for name in names:
            del self.tags[repository, name]
        self.deleted[repository, digest] = self.clock.now() + DAY

    @rule(data=st.data())
    @precondition(lambda self: self.deleted)
    def undelete(self, data: st.DataObject) -> None:
        repository, digest = data.draw(st.sampled_from(sorted(self.deleted)))
        until = self.deleted.pop((repository, digest))
        try:
            restored = self.run(self.stage.trash.undelete(ROOT, repository, str(digest)))
        except ManifestUnknown:
            assert until <= self.clock.now()
            return
        assert digest in restored.manifests
        for each in restored.manifests:
            found = self.run(self.stage.registry.images.get(repository, each))
            self.manifests[repository][each] = found.payload
            self.deleted.pop((repository, each), None)
        for name in restored.tags:
            assert (repository, name) not in self.tags
            self.tags[repository, name] = self.run(self.stage.registry.images.get(repository, name)).digest

    @rule(repository=repositories)
    def empty_the_trash(self, repository: str) -> None:
        try:
            self.run(self.stage.trash.purge(ROOT, repository))
        except Failure:
            return
        self.deleted = {key: until for key, until in self.deleted.items() if key[0] != repository}

    @rule(repository=repositories, data=contents)
    def die_between_publishing_and_linking(self, repository: str, data: bytes) -> None:
        async def half() -> None:
            upload = stored_id((await self.stage.registry.uploads.start(ROOT, repository)).upload_id)
            await self.blobs.append(upload, 0, chunks_of(data))
            await self.blobs.commit(upload, Digest.of(data))

        self.run(half())

    @rule(hours=st.sampled_from([0.5, 1, 2, 12, 25]))
    def wait(self, hours: float) -> None:
        self.clock.tick(hours * 3600)

    @rule(failing=st.booleans())
    def collect(self, failing: bool) -> None:
        self.blobs.failing = failing
        self.run(self.stage.collection.collect())
        self.blobs.failing = False

    @rule(batches=st.integers(1, 4))
    def die_in_a_collection(self, batches: int) -> None:
        left = [batches]

        async def until(_total: object) -> None:
            left[0] -= 1
            if not left[0]:
                raise Killed

        with contextlib.suppress(Killed):
            self.run(self.stage.collection.collect(progress=until))

    @rule()
    def sweep(self) -> None:
        self.run(self.stage.collection.sweep())

    @rule()
    def end_what_holds_nothing(self) -> None:
        self.run(self.stage.collection.end_repositories())

    @invariant()
    def everything_live_can_be_pulled(self) -> None:
        self.run(self._check_live())

    async def _check_live(self) -> None:
        for (repository, name), digest in self.tags.items():
            assert (await self.stage.registry.images.get(repository, name)).digest == digest
        for repository, held in self.manifests.items():
            for digest, payload in held.items():
                assert (await self.stage.registry.images.get(repository, digest)).payload == payload
                for data in self.needs[digest]:
                    size = await self.stage.registry.contents.blob_size(ROOT, repository, Digest.of(data))
                    async with self.stage.registry.contents.open_blob(Digest.of(data), size) as reader:
                        assert b"".join([piece async for piece in reader.read(0, size)]) == data

    @rule()
    def be_quiet_for_long(self) -> None:
        """Everything dead is gone, everything live is there."""
        self.blobs.failing = False
        self.run(self.stage.collection.sweep())
        self.run(self.stage.collect_to_the_end(10))
        self.deleted.clear()
        needed = {data for held in self.manifests.values() for digest in held for data in self.needs[digest]}
        stored = {each.digest for each in self.run(self.blobs.list("", 1000))}
        assert stored == {Digest.of(data) for data in needed}
        missing = self.run(self.stage.collection.sweep())
        assert missing.tally.examined == 0
        self.run(self.stage.collection.end_repositories())
        left = self.run(self.stage.registry.catalogue(ROOT, "", 100))
        assert left == sorted(name for name, held in self.manifests.items() if held)


LIVES = settings(
    max_examples=8,
    stateful_step_count=40,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


def test_a_registry_lives_on_sqlite(sqlite_url: str, tmp_path: Path) -> None:
    class OnSqlite(Life):
        lives = 0

        def open_database(self, clock: ManualClock) -> Database:
            OnSqlite.lives += 1
            path = tmp_path / f"life-{OnSqlite.lives}.db"
            shutil.copy(sqlite_url.removeprefix("sqlite:///"), path)
            return Database(f"sqlite:///{path}", clock)

    run_state_machine_as_test(OnSqlite, settings=LIVES)


def test_a_registry_lives_on_postgresql(postgresql_url: str) -> None:
    class OnPostgresql(Life):
        def open_database(self, clock: ManualClock) -> Database:
            async def emptied() -> Database:
                database = Database(postgresql_url, clock)
                async with database.transaction() as unit:
                    await unit.connection.exec_driver_sql(
                        "TRUNCATE repositories, blobs, blob_reviews, collection_runs, blob_removals, missing_blobs,"
                        " uploads CASCADE"
                    )
                return database

            return self.run(emptied())

    run_state_machine_as_test(OnPostgresql, settings=LIVES)
