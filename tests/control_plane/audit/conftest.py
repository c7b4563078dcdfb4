from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from common.clock import ManualClock
from control_plane.audit.auditing import Auditing, build_auditing
from control_plane.audit.service import TrailOptions
from control_plane.database import Database
from control_plane.sealing import SealedBox
from control_plane.sealing.keyring import KeyRing

BuildAuditing = Callable[..., Auditing]


@pytest.fixture
def box() -> SealedBox:
    return SealedBox(KeyRing({b"k" * 8: b"1" * 32}))


@pytest.fixture
def build(clock: ManualClock, box: SealedBox) -> BuildAuditing:
    def again(database: Database, **options: object) -> Auditing:
        return build_auditing(database, clock, box, TrailOptions(**options), timedelta(days=30))  # type: ignore[arg-type]

    return again


@pytest.fixture
def auditing(database: Database, build: BuildAuditing) -> Auditing:
    return build(database)
