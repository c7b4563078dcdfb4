from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from agent.inventory import Inventory
from agent.model import Engine
from agent.registrar import stay_registered
from agent.runtimes.choice import RuntimeChoice
from agent.runtimes.memory import MemoryEngine, MemoryRuntimeDriver
from common.clock import ManualClock
from common.discovery import keys
from common.discovery.memory import MemoryRegistry
from common.tls import Name


async def test_an_engine_counts_from_its_first_answer_and_then_for_good() -> None:
    engine = MemoryEngine(away=True)
    choice = RuntimeChoice(MemoryRuntimeDriver(engine, "host-1"), required=False)
    assert await choice.look() == ()
    assert choice.driver() is None
    engine.away = False
    assert await choice.look() == (Engine("memory", "1"),)
    assert choice.driver() is not None
    engine.away = True
    assert await choice.look() == ()
    assert choice.driver() is not None


async def test_an_engine_that_was_named_counts_at_once() -> None:
    driver = MemoryRuntimeDriver(MemoryEngine(away=True), "host-1")
    assert RuntimeChoice(driver, required=True).driver() is driver
    assert RuntimeChoice(None, required=True).driver() is None


async def test_the_inventory_knows_the_host(tmp_path: Path) -> None:
    choice = RuntimeChoice(MemoryRuntimeDriver(MemoryEngine(), "host-1"), required=True)
    inventory = Inventory(tmp_path, choice, ManualClock())
    await inventory.look()
    facts = inventory.facts()
    assert facts.hostname
    assert facts.architecture in ("amd64", "arm64", "arm", "riscv64", "ppc64le", "s390x", "386")
    assert facts.operating_system == "linux"
    assert min(facts.cpus, facts.memory_bytes, facts.disk_free_bytes) > 0
    assert facts.engines == (Engine("memory", "1"),)


async def test_the_directory_knows_a_living_host() -> None:
    directory = MemoryRegistry()
    host = Name("east", "host", "01900000-0000-7000-8000-000000000001")
    living = asyncio.ensure_future(stay_registered(directory, host, {"name": "e1", "peer_port": 7}))
    await asyncio.sleep(0)
    ((key, value),) = (await directory.list(keys.hosts_prefix("east"))).items()
    assert key == f"/os/east/hosts/{host.id}"
    assert json.loads(value) == {"host_id": host.id, "idc": "east", "status": "online", "name": "e1", "peer_port": 7}
    living.cancel()
    with pytest.raises(asyncio.CancelledError):
        await living
    assert not await directory.list(keys.hosts_prefix("east"))
