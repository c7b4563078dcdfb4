"""The engines beneath the control plane: real ones, or the embedded ones behind the same ports, by the settings.

Invariant: the only file that names concrete adapters; everything above it knows ports. An engine whose client is an
extra of the installation is loaded when the settings choose it (`CHOSEN`), and is neither needed nor kept in memory
where they do not: docs/decisions/0053-what-a-control-plane-keeps-in-memory.md.
"""

from __future__ import annotations

import importlib
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.clock import Clock
from common.discovery import ServiceRegistry
from common.discovery.etcd import EtcdRegistry, etcd_options
from common.discovery.memory import MemoryDirectory, MemoryRegistry
from common.errors import Conflict
from control_plane.blobs.filesystem import FilesystemBlobStore
from control_plane.blobs.store_set.members import Member, Tier
from control_plane.blobs.store_set.store import StoreSet
from control_plane.cache import Cache
from control_plane.cache.memory import MemoryCache
from control_plane.database import Database
from control_plane.events import EventBus
from control_plane.events.memory import MemoryEventBus
from control_plane.queues import Queue
from control_plane.queues.memory import MemoryQueue
from control_plane.settings import EtcdSettings, Settings
from control_plane.storage_settings import S3Settings
from control_plane.web.outbound import Outbound
from control_plane.web.outbound_addresses import AddressPolicy


class EngineMissing(Conflict):
    """The settings choose an engine whose client is not installed."""

    code = "engine_missing"


# By the word of the settings: module, and what opens it.
CHOSEN = {
    "cache on redis": ("control_plane.cache.redis", "RedisCache"),
    "queue on redis": ("control_plane.queues.redis", "RedisQueue"),
    "events on redis": ("control_plane.events.redis", "RedisEventBus"),
    "blobs on s3": ("control_plane.blobs.s3.opening", "open_s3"),
}


@dataclass(frozen=True)
class Backing:
    """The engines beneath: real ones, or the embedded ones behind the same ports."""

    database: Database
    blobs: StoreSet
    cache: Cache
    queue: Queue
    events: EventBus
    directory: ServiceRegistry
    outbound: Outbound

    async def close(self) -> None:
        await self.outbound.close()
        await self.directory.close()
        await self.events.close()
        await self.queue.close()
        await self.cache.close()
        await self.blobs.close()
        await self.database.close()


def open_backing(settings: Settings, clock: Clock) -> Backing:
    """Connections are made at first use; the blob directory is made here."""
    database = Database(settings.database_url, clock, pool_size=settings.database.pool_size)
    blobs = _blobs(settings, clock)
    directory = _directory(settings.etcd, clock)
    outbound = Outbound(AddressPolicy.of(settings.outbound.allow))
    if settings.redis.url is None:
        return Backing(database, blobs, MemoryCache(clock), MemoryQueue(), MemoryEventBus(), directory, outbound)
    url = settings.redis.url.get_secret_value()
    cache, queue, events = (chosen(f"{port} on redis")(url, clock) for port in ("cache", "queue", "events"))
    return Backing(database, blobs, cache, queue, events, directory, outbound)


def chosen(engine: str) -> Any:
    """What opens an engine of `CHOSEN`. Raises `EngineMissing` if its client is not installed."""
    module, name = CHOSEN[engine]
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise EngineMissing(
            f"the settings choose {engine}, and the package {error.name} is not installed",
            action="install longshore[redis] or longshore[s3]",
        ) from error


def _blobs(settings: Settings, clock: Clock) -> StoreSet:
    def member(name: str, tier: str, location: str, directory: Path, s3: S3Settings) -> Member:
        if s3.bucket is None:
            local = FilesystemBlobStore(directory, hash_cold=settings.blobs.hash_cold_reads)
            return Member(name, local, Tier(tier), location, directory)
        store = chosen("blobs on s3")(s3, clock, random.random, settings.data / "spool")
        return Member(name, store, Tier(tier), location, redirects=s3.redirect)

    own, more = settings.blobs, settings.stores.items()
    others = [member(name, each.tier, each.location, each.directory or Path(), each.s3) for name, each in more]
    return StoreSet([member("primary", "hot", own.location, settings.blob_directory, own.s3), *others], clock)


def _directory(etcd: EtcdSettings, clock: Clock) -> ServiceRegistry:
    if not etcd.endpoints:
        return MemoryRegistry(MemoryDirectory())
    options = etcd_options(etcd.endpoints, username=etcd.username, password=etcd.password, ca_file=etcd.ca_file)
    return EtcdRegistry(options, clock)
