"""What the directory knows of a regional."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from common.clock import SystemClock
from common.discovery.etcd import EtcdRegistry
from common.discovery.etcd_client import EtcdOptions
from common.discovery.memory import MemoryDirectory, MemoryRegistry
from regional.registrar import registered
from tests.engines.etcd import EtcdEngine
from tests.pace import BUSY_SECONDS

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


async def test_a_regional_that_takes_the_place_of_another_is_noticed() -> None:
    directory = MemoryDirectory()
    first, second = MemoryRegistry(directory), MemoryRegistry(directory)
    async with (
        registered(first, "east", {"process": "a"}) as registration,
        registered(second, "east", {"process": "b"}),
    ):
        async with asyncio.timeout(BUSY_SECONDS):
            await registration.displaced.wait()
        assert json.loads((await first.list(INFO))[INFO])["process"] == "b"


async def test_what_a_lost_lease_took_is_registered_again(etcd_node: EtcdEngine) -> None:
    async with AsyncExitStack() as stack:
        registry = EtcdRegistry(EtcdOptions(etcd_node.endpoints), SystemClock())
        stack.push_async_callback(registry.close)
        http = await stack.enter_async_context(aiohttp.ClientSession(f"http://{etcd_node.endpoints[0]}"))
        async with registered(registry, "lost", {"api": 8081}, ttl=3.0):
            before, lost = dict(await registry.list("/os/region/lost/")), await _leases(http)
            assert len(before) == len(lost) == 2
            for lease in lost:  # as an operator would, or a partition that outlasts the lease
                async with http.post("/v3/lease/revoke", json={"ID": lease}) as answer:
                    assert answer.status == 200
            async with asyncio.timeout(BUSY_SECONDS):
                while len(now := await _leases(http)) < 2 or now & lost:  # noqa: ASYNC110  etcd is asked
                    await asyncio.sleep(0.02)
            assert dict(await registry.list("/os/region/lost/")) == before
        assert dict(await registry.list("/os/region/lost/")) == {"/os/region/lost/info": b"offline"}


async def _leases(http: aiohttp.ClientSession) -> set[str]:
    key, end = (base64.b64encode(text).decode() for text in (b"/os/region/lost/", b"/os/region/lost0"))
    async with http.post("/v3/kv/range", json={"key": key, "range_end": end}) as answer:
        return {pair["lease"] for pair in (await answer.json(content_type=None)).get("kvs", [])}


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
