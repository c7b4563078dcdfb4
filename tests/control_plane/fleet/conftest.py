"""A running control plane and a maker of edge processes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.control_plane.fleet.edge import Edge
from tests.control_plane.fleet.plane import Plane


@pytest.fixture
async def plane(sqlite_url: str) -> AsyncIterator[Plane]:
    async with Plane(sqlite_url) as running:
        yield running


@pytest.fixture
def edge(plane: Plane, tmp_path: Path) -> Callable[..., Edge]:
    """`edge("e1")`: a process whose identity lies in a directory of that name."""

    def make(name: str = "e1", **more: Any) -> Edge:
        return Edge(plane, tmp_path / "identities" / name, **more)

    return make
