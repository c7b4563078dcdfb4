"""What the directory knows of a regional."""

from __future__ import annotations

import asyncio
import contextlib
import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from common.clock import SystemClock
from common.discovery.etcd import EtcdRegistry
from common.discovery.etcd_client import EtcdOptions
from common.discovery.memory import MemoryDirectory, MemoryRegistry
from regional.registrar import registered
from tests.engines.etcd import EtcdEngine

from .conftest import until
from .test_process import Process, Start, start

__all__ = ["start"]

INFO, HEARTBEAT = "/os/region/east/info", "/os/region/east/heartbeat"


async def test_a_regional_is_registered_while_it_runs_and_offline_after_it_stopped() -> None:
    directory = MemoryDirectory()
    registry = MemoryRegistry(directory)
    async with registered(registry, "east", {"version": "1", "api": 8081}):
        known = dict(await registry.list("/os/region/"))
        assert set(known) == {INFO, HEARTBEAT}
        assert json.loads(known[INFO]) == {"idc": "east", "status": "online", "version": "1", "api": 8081}
    assert dict(await registry.list("/os/region/")) == {INFO: b"offline"}


@pytest.mark.processes
async def test_the_process_registers_in_etcd_and_leaves_offline_behind(
    start: Start, etcd_node: EtcdEngine, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        registry = EtcdRegistry(EtcdOptions(etcd_node.endpoints), SystemClock())
        stack.push_async_callback(registry.close)
        process: Process
        etcd = ",".join(etcd_node.endpoints)
        async with start("--idc", "east", "--api-port", "0", "--etcd", etcd) as process:
            known: dict[str, bytes] = {}
            async with asyncio.timeout(20), contextlib.aclosing(registry.watch("/os/region/east/")) as changes:
                async for change in changes:
                    known[change.key] = change.value or b""
                    if set(known) == {INFO, HEARTBEAT}:
                        break
            assert json.loads(known[INFO])["api"] == process.ready["api"]
            # The directory knows of the heartbeat before the process knows that it does.
            await until(lambda: "heartbeat started" in (tmp_path / "log").read_text())
            assert "regional registered" in (tmp_path / "log").read_text()
            assert await process.stop() == 0
        assert dict(await registry.list("/os/region/east/")) == {INFO: b"offline"}


@pytest.mark.processes
async def test_an_etcd_that_is_away_does_not_stop_the_regional(start: Start) -> None:
    process: Process
    async with start("--idc", "east", "--api-port", "0", "--etcd", "127.0.0.1:1") as process:
        assert await process.stop() == 0
