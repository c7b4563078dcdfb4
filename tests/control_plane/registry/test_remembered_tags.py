"""What a tag means is remembered by a process that is alone, and a change of it is seen at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from common.clock import ManualClock
from common.digest import Digest
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.database import Database
from control_plane.registry import manifest_store
from control_plane.registry.failures import ManifestUnknown
from control_plane.registry.service import RegistryService
from tests.control_plane.registry.people import ADA, Directory
from tests.control_plane.registry.pushing import WEB, push_image


@pytest.fixture
def alone(database: Database, blobs: MemoryBlobStore, clock: ManualClock) -> RegistryService:
    return RegistryService(database, blobs, Directory("acme", "birch"), clock, alone=True)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tags that were looked up in the database."""
    asked: list[str] = []
    really = manifest_store.find_by_tag

    async def find_by_tag(connection: Any, repository: str, tag: str) -> Any:
        asked.append(tag)
        return await really(connection, repository, tag)

    monkeypatch.setattr(manifest_store, "find_by_tag", find_by_tag)
    return asked


async def meaning(registry: RegistryService, tag: str = "latest") -> Digest | None:
    try:
        return (await registry.images.find(ADA, WEB, tag)).digest
    except ManifestUnknown:
        return None


async def test_one_look_serves_many_pulls(alone: RegistryService, looks: list[str]) -> None:
    image = await push_image(alone)
    assert {await meaning(alone) for _ in range(5)} == {image.digest}
    assert looks == ["latest"]


async def test_replicas_look_each_time(registry: RegistryService, looks: list[str]) -> None:
    await push_image(registry)
    for _ in range(3):
        await meaning(registry)
    assert looks == ["latest"] * 3


async def test_every_change_is_seen_at_once(alone: RegistryService) -> None:
    first = await push_image(alone, "first")
    assert await meaning(alone) == first.digest
    second = await push_image(alone, "second")
    assert await meaning(alone) == second.digest
    await alone.images.delete_tag(ADA, WEB, "latest")
    assert await meaning(alone) is None
    await alone.images.push(ADA, WEB, second.payload, None, tags=["latest"])
    assert await meaning(alone) == second.digest
    await alone.images.delete_manifest(ADA, WEB, second.digest)
    assert await meaning(alone) is None


async def test_pushes_and_pulls_at_once_never_go_back(alone: RegistryService) -> None:
    """A pull that begins after a push was acknowledged sees it, or a later one."""
    images = [await push_image(alone, str(number), tag=None) for number in range(6)]
    order = {image.digest: number for number, image in enumerate(images)}
    acknowledged = -1

    async def pull() -> None:
        while acknowledged < len(images) - 1:
            before = acknowledged
            found = await meaning(alone)
            assert (order[found] if found else -1) >= before
            await asyncio.sleep(0)  # what is remembered is answered without giving way

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(pull())
        for number, image in enumerate(images):
            await alone.images.push(ADA, WEB, image.payload, None, tags=["latest"])
            acknowledged = number
            await asyncio.sleep(0)
