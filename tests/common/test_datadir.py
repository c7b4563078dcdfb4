from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from common.datadir import DataInUse, DataUnusable, announce_ready, locked


async def test_one_process_to_a_directory(tmp_path: Path) -> None:
    async with locked(tmp_path / "data", "agent"):
        with pytest.raises(DataInUse, match="another agent works in"):
            async with locked(tmp_path / "data", "agent"):
                raise AssertionError
    async with locked(tmp_path / "data", "agent"):
        pass


async def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataUnusable, match="file"):
        async with locked(tmp_path / "file" / "data", "agent"):
            raise AssertionError


async def test_ready_is_true_of_this_process_only(tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    async with locked(tmp_path, "agent"):
        await announce_ready(tmp_path, {"host_id": "h", "mirror": 5001})
        document = json.loads(await asyncio.to_thread(ready.read_bytes))
        assert document == {"pid": os.getpid(), "host_id": "h", "mirror": 5001}
    assert not ready.exists()
    ready.write_text("{}")  # as a killed process leaves it
    async with locked(tmp_path, "agent"):
        assert not ready.exists()
