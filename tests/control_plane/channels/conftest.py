"""A control plane with channels, one host, and whoever asks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest

from tests.control_plane.channels.lab import INSTANCE, ChannelPlane, Client, Host, host_of


@pytest.fixture
async def plane(sqlite_url: str) -> AsyncIterator[ChannelPlane]:
    async with ChannelPlane(sqlite_url) as running:
        yield running


@pytest.fixture
async def host(plane: ChannelPlane, tmp_path: Path) -> AsyncIterator[Host]:
    async with host_of(plane, tmp_path) as attached:
        plane.told.put(attached.edge.id, "e1", plane.clock, INSTANCE)
        yield attached


@pytest.fixture
async def client(plane: ChannelPlane) -> AsyncIterator[Callable[..., Client]]:
    """`client("viewer")`."""
    async with aiohttp.ClientSession() as http:
        yield lambda name="operator": Client(plane, http, name)
