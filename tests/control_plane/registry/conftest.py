from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette

from common.clock import ManualClock
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.database import Database
from control_plane.registry.routes import build_routes
from control_plane.registry.service import RegistryService
from control_plane.registry.v2 import Options
from tests.control_plane.registry.people import Credentials, Directory


@pytest.fixture
def blobs(clock: ManualClock) -> MemoryBlobStore:
    return MemoryBlobStore(clock)


@pytest.fixture
def registry(database: Database, blobs: MemoryBlobStore, clock: ManualClock) -> RegistryService:
    """On both engines."""
    return RegistryService(database, blobs, Directory("acme", "birch"), clock)


@pytest.fixture
async def local_registry(sqlite_url: str, blobs: MemoryBlobStore, clock: ManualClock) -> AsyncIterator[RegistryService]:
    """On SQLite: the wire's tests need one engine only."""
    database = Database(sqlite_url, clock)
    yield RegistryService(database, blobs, Directory("acme", "birch"), clock)
    await database.close()


@pytest.fixture
def credentials() -> Credentials:
    return Credentials()


@pytest.fixture
def application(local_registry: RegistryService, credentials: Credentials) -> Starlette:
    return Starlette(routes=build_routes(local_registry, credentials, credentials, credentials, Options()))


@pytest.fixture
async def client(application: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    """Ada's, an administrator of acme."""
    transport = httpx.ASGITransport(application)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://registry.test", headers={"Authorization": "Bearer ada"}
    ) as opened:
        yield opened
