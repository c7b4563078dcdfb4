"""A registry over a hot, a warm and a cold store, of which each can be damaged or taken away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.clock import ManualClock
from control_plane.database import Database
from tests.control_plane.registry.stores.sites import Site


@pytest.fixture
async def site(database: Database, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Site]:
    opened = Site(database, clock, tmp_path)
    yield opened
    await opened.stores.close()
