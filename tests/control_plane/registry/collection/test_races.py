"""A push that races the collection always wins: a client that pushes an image as docker does succeeds, in whatever
order its steps and those of the collection fall, and the image is whole afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from common.clock import ManualClock
from common.digest import Digest
from common.errors import NotFound
from control_plane.database import Database
from control_plane.registry.failures import ManifestUnknown
from control_plane.registry.manifests import OCI_MANIFEST
from control_plane.registry.upload_names import stored_id
from tests.control_plane.registry.collection.interleaving import SteppingStore, Turns, stepping
from tests.control_plane.registry.collection.stage import DAY, Stage, set_stage
from tests.control_plane.registry.people import ADA, image_manifest
from tests.control_plane.registry.pushing import push_blob

HOUR = timedelta(hours=1)
_numbers = count()


@dataclass(frozen=True)
class Made:
    repository: str
    config: bytes
    layer: bytes

    @property
    def payload(self) -> bytes:
        return image_manifest(self.config, [self.layer])

    @property
    def digest(self) -> Digest:
        return Digest.of(self.payload)


def made() -> Made:
    number = next(_numbers)
    return Made(f"acme/race-{number}", f'{{"config":{number}}}'.encode(), f"layer {number}".encode())


async def push_like_docker(stage: Stage, image: Made, *, asks: bool, mounts: bool) -> None:
    for data in (image.layer, image.config):
        digest = Digest.of(data)
        if asks:
            try:
                await stage.registry.contents.present_blob_size(ADA, image.repository, digest)
                continue
            except NotFound:
                pass
        if mounts and await stage.registry.uploads.mount(ADA, image.repository, digest, None) is not None:
            continue
        await push_blob(stage.registry, data, image.repository)
    await stage.registry.images.push(ADA, image.repository, image.payload, OCI_MANIFEST, tags=["latest"])


# What the collection is about to do when the client comes.


async def link_is_due(stage: Stage, image: Made) -> None:
    for data in (image.layer, image.config):
        await push_blob(stage.registry, data, image.repository)
    stage.pass_time(DAY)


async def bytes_are_due(stage: Stage, image: Made) -> None:
    await link_is_due(stage, image)
    await stage.collect()
    stage.pass_time(HOUR)


async def trash_is_due(stage: Stage, image: Made) -> None:
    await push_like_docker(stage, image, asks=False, mounts=False)
    stage.pass_time(DAY)
    await stage.registry.images.delete_manifest(ADA, image.repository, image.digest)
    stage.pass_time(DAY)


async def another_link_is_due(stage: Stage, image: Made) -> None:
    """And its bytes, once it has ended."""
    for data in (image.layer, image.config):
        await push_blob(stage.registry, data, "acme/elsewhere")
    stage.pass_time(DAY)


async def stray_bytes_are_due(stage: Stage, image: Made) -> None:
    store = stage.blobs
    for data in (image.layer, image.config):
        upload = stored_id((await stage.registry.uploads.start(ADA, image.repository)).upload_id)
        await store.append(upload, 0, _chunks(data))
        await store.commit(upload, Digest.of(data))
    await stage.collection.sweep()
    stage.pass_time(DAY)


async def _chunks(data: bytes) -> Any:
    yield data


def orders(actors: int) -> st.SearchStrategy[list[int]]:
    """Who goes next, in bursts: one actor must get from one end to the other while another stands at any one step."""
    burst = st.tuples(st.integers(0, actors - 1), st.sampled_from([1, 2, 3, 5, 8, 13, 40, 100]))
    return st.lists(burst, min_size=2, max_size=10).map(
        lambda found: [who for who, steps in found for _ in range(steps)]
    )


Situation = Callable[[Stage, Made], Coroutine[Any, Any, None]]
SITUATIONS = (link_is_due, bytes_are_due, trash_is_due, another_link_is_due, stray_bytes_are_due)
RACES = settings(
    max_examples=4,
    deadline=None,
    database=None,
    phases=(Phase.generate,),  # what fails is a race on a real engine: shrinking it takes minutes and misleads
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def stage(database: Database, clock: ManualClock) -> Stage:
    return set_stage(database, clock, SteppingStore(clock))


async def race(stage: Stage, choices: list[int], actors: dict[str, Callable[[], Coroutine[Any, Any, None]]]) -> None:
    assert isinstance(stage.blobs, SteppingStore)
    turns = Turns(choices)
    async with asyncio.timeout(30), stepping(stage.database, stage.blobs, turns):
        await turns.play({name: actor() for name, actor in actors.items()})


async def is_whole(stage: Stage, image: Made, reference: str = "latest") -> bool:
    found = await stage.registry.images.find(ADA, image.repository, reference)
    if found.payload != image.payload:
        return False
    for data in (image.config, image.layer):
        size = await stage.registry.contents.present_blob_size(ADA, image.repository, Digest.of(data))
        async with stage.registry.contents.open_blob(Digest.of(data), size) as reader:
            if b"".join([piece async for piece in reader.read(0, size)]) != data:
                return False
    return True


@pytest.mark.parametrize("situation", SITUATIONS)
@RACES
@given(
    choices=orders(2),
    asks=st.booleans(),
    mounts=st.booleans(),
)
async def test_a_push_wins_against_the_collection(
    stage: Stage, situation: Situation, choices: list[int], asks: bool, mounts: bool
) -> None:
    image = made()
    await situation(stage, image)

    async def collect() -> None:
        await stage.collection.collect()

    async def push() -> None:
        await push_like_docker(stage, image, asks=asks, mounts=mounts)

    await race(stage, choices, {"collection": collect, "push": push})
    assert await is_whole(stage, image)
    await stage.collect_to_the_end()
    assert await is_whole(stage, image)


@pytest.mark.parametrize("situation", [link_is_due, bytes_are_due, trash_is_due])
async def test_a_whole_push_fits_between_any_two_steps_of_the_collection(
    postgresql_url: str, clock: ManualClock, situation: Situation
) -> None:
    """And a whole collection between any two steps of the push. On SQLite the writer's lock leaves less room."""
    database = Database(postgresql_url, clock)
    stage = set_stage(database, clock, SteppingStore(clock))

    async def collect() -> None:
        await stage.collection.collect()

    async def push(image: Made) -> None:
        await push_like_docker(stage, image, asks=True, mounts=False)

    for first, places in ((0, range(8, 34)), (1, range(4, 40, 6))):
        for steps in places:
            image = made()
            await situation(stage, image)
            choices = [first] * steps + [1 - first] * 200
            await race(stage, choices, {"collection": collect, "push": partial(push, image)})
            assert await is_whole(stage, image)
    await database.close()


@RACES
@given(choices=orders(2))
async def test_undelete_wins_or_says_that_it_came_too_late(stage: Stage, choices: list[int]) -> None:
    image = made()
    await trash_is_due(stage, image)
    undeleted: list[bool] = []

    async def collect() -> None:
        await stage.collection.collect()

    async def undelete() -> None:
        try:
            await stage.trash.undelete(ADA, image.repository, str(image.digest))
            undeleted.append(True)
        except ManifestUnknown:
            undeleted.append(False)

    await race(stage, choices, {"collection": collect, "undelete": undelete})
    await stage.collect_to_the_end()
    if undeleted == [True]:
        assert await is_whole(stage, image)
    else:
        assert not await stage.holds_any(image.config, image.layer)


@RACES
@given(choices=orders(3))
async def test_two_collections_and_a_push_do_not_hinder_each_other(stage: Stage, choices: list[int]) -> None:
    image, other = made(), made()
    await trash_is_due(stage, image)
    await bytes_are_due(stage, other)

    async def collect() -> None:
        await stage.collection.collect()

    async def push() -> None:
        await push_like_docker(stage, image, asks=True, mounts=True)

    await race(stage, choices, {"one": collect, "two": collect, "push": push})
    assert await is_whole(stage, image)
    await stage.collect_to_the_end()
    assert await is_whole(stage, image)
    assert not await stage.holds_any(other.config, other.layer)


@RACES
@given(choices=orders(3))
async def test_a_deletion_between_leaves_no_half_an_image(stage: Stage, choices: list[int]) -> None:
    """Somebody deletes the manifest that another pushes, while the collection runs."""
    image = made()
    await push_like_docker(stage, image, asks=False, mounts=False)
    stage.pass_time(2 * DAY)

    async def collect() -> None:
        await stage.collection.collect()

    async def push() -> None:
        await push_like_docker(stage, image, asks=True, mounts=False)

    async def delete() -> None:
        await stage.registry.images.delete_manifest(ADA, image.repository, image.digest)

    await race(stage, choices, {"collection": collect, "push": push, "deletion": delete})
    try:
        assert await is_whole(stage, image)
    except ManifestUnknown:
        assert await stage.trash.undelete(ADA, image.repository, "latest")
        assert await is_whole(stage, image)
