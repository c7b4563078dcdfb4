"""A repository as the planner sees it: read at one moment, planned off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol

from common.digest import Digest
from control_plane.database import Database
from control_plane.registry.model import Repository
from control_plane.registry.retention import images_store, planner, store
from control_plane.registry.retention.model import Picture, Plan, RetentionPolicy, immutable_tags


class RunningImages(Protocol):
    """What instances run. `instances` has it; `app` hands it in."""

    async def running_images(self, repository: str) -> Collection[Digest]:
        """Manifests of the repository that any instance shall run, whoever's it is."""
        ...


class NothingRuns:
    async def running_images(self, repository: str) -> Collection[Digest]:
        return ()


async def read_picture(database: Database, running: RunningImages, repository: Repository) -> Picture:
    # What runs is asked after the images were read: an instance made in between is seen, not missed.
    async with database.reading() as connection:
        images = await images_store.stored_images(connection, repository.repository_id)
        stamp = await images_store.stamp(connection, repository.repository_id)
        rules = await store.rules_of(connection, repository.tenant_id, with_platform=True)
    tags = (tag for image in images for tag in image.tags)
    return Picture(
        repository=repository.name,
        images=images,
        stamp=stamp,
        running=frozenset(await running.running_images(repository.name)),
        immutable=immutable_tags(rules, repository.name, tags),
    )


async def planned(policy: RetentionPolicy, others: Sequence[RetentionPolicy], picture: Picture, now: datetime) -> Plan:
    """In a thread: a repository of 100,000 tags takes seconds."""
    return await asyncio.to_thread(planner.plan, policy, others, picture, now)
