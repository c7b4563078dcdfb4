from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from common.clock import ManualClock
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.database import Database
from tests.control_plane.registry.quota.quotas import Ward, open_ward


@pytest.fixture
def ward(database: Database, blobs: MemoryBlobStore, clock: ManualClock) -> Ward:
    """On both engines."""
    return open_ward(database, blobs, clock)


@pytest.fixture
async def local_ward(sqlite_url: str, blobs: MemoryBlobStore, clock: ManualClock) -> AsyncIterator[Ward]:
    """On SQLite: what the engine has no part in."""
    database = Database(sqlite_url, clock)
    yield open_ward(database, blobs, clock)
    await database.close()
