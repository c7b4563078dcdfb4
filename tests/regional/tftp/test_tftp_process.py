"""TFTP of a regional as a real process: `--enable-tftp`, its log and its metrics."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import aiohttp
import pytest

from .firmware import Firmware

pytestmark = pytest.mark.processes
PROJECT = Path(__file__).parents[3]
KERNEL = bytes(range(256)) * 400


def _read(path: Path) -> dict[str, int] | None:
    return json.loads(path.read_text()) if path.exists() else None


async def _ready(path: Path, process: asyncio.subprocess.Process) -> dict[str, int]:
    async with asyncio.timeout(40):
        while (found := _read(path)) is None:
            assert process.returncode is None, "the process ended before it was ready"
            await asyncio.sleep(0.02)
    return found


async def test_a_regional_serves_its_static_root_by_tftp(tmp_path: Path) -> None:
    data, root, log = tmp_path / "data", tmp_path / "root", tmp_path / "log"
    options = [f"--data={data}", f"--static-root={root}", "--idc=east", "--api-port=0", "--enable-tftp"]
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "regional", *options),
            cwd=PROJECT,
            env={"PATH": "/usr/bin:/bin", "LONGSHORE_REGIONAL_TFTP_PORT": "0"},
            stdout=output,
            stderr=output,
        )
    try:
        ready = await _ready(data / "ready.json", process)
        (root / "static/kernels/vmlinuz").write_bytes(KERNEL)
        client = Firmware(("127.0.0.1", ready["tftp"]))
        assert await client.fetch("/static/kernels/vmlinuz", blksize=1468, windowsize=16) == KERNEL
        client.ask("../data/ready.json")
        assert await client.refused() == 1
        client.close()
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{ready['api']}/metrics") as answer:
            metrics = await answer.text()
        assert 'longshore_regional_tftp_transfers_total{outcome="completed"} 1.0' in metrics
        process.terminate()
        async with asyncio.timeout(15):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    said = log.read_text()
    assert said.count("tftp transfer") == 1
    assert "outcome=completed" in said
