from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.control_plane.blobs.s3_stores import close_all


@pytest.fixture(autouse=True)
async def _stores_are_closed() -> AsyncIterator[None]:
    yield
    await close_all()
