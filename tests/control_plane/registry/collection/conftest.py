from __future__ import annotations

import pytest

from common.clock import ManualClock
from control_plane.database import Database
from tests.control_plane.registry.collection.stage import Stage, set_stage


@pytest.fixture
def stage(database: Database, clock: ManualClock) -> Stage:
    """On both engines."""
    return set_stage(database, clock)
