"""Machines as they boot, over real HTTP: what firmware, loaders and installers ask, word by word."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from common.clock import ManualClock
from proto.regional.v1 import machines_pb2 as pb
from regional.cache import Cache
from regional.machines.assembly import Machines
from regional.metrics import Metrics
from regional.power.memory import MemoryBmcs
from regional.serving import listening, watch
from regional.settings import RegionalSettings

from .rack import MAC


@dataclass
class Site:
    """A regional's part for machines. Time stands still."""

    machines: Machines
    clock: ManualClock
    base: str
    http: aiohttp.ClientSession
    static: Path

    async def approve(self, *targets: pb.BootTarget) -> None:
        await self.machines.replace(targets)

    async def script(self, mac: str = MAC, serial: str | None = "") -> str:
        """What iPXE runs after the stub."""
        query = f"?serial={serial}&uuid=&platform=efi&arch=x86_64" if serial is not None else ""
        async with self.http.get(f"{self.base}/boot/{mac.replace(':', '-')}/next.ipxe{query}") as answer:
            assert answer.status == 200, await answer.text()
            return await answer.text()

    async def token(self, mac: str = MAC, serial: str | None = "") -> str:
        return token_in(await self.script(mac, serial))

    async def say(self, word: str, token: str = "", /, **body: Any) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self.http.post(f"{self.base}/api/v1/device/{word}", json=body, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)

    async def get(self, url: str, **headers: str) -> tuple[int, bytes]:
        async with self.http.get(url, headers=headers) as answer:
            return answer.status, await answer.read()

    def reports(self) -> list[pb.MachineReport]:
        return [pb.MachineReport.FromString(body) for _, body in self.machines.store.unsent(10_000, 1 << 30)]

    def phases(self) -> list[str]:
        said = [each.install.phase for each in self.reports() if each.HasField("install")]
        return [pb.InstallPhase.Name(phase).removeprefix("INSTALL_PHASE_").lower() for phase in said]


def token_in(script: str) -> str:
    found = re.search(r"/boot/s/([A-Za-z0-9_-]+)/kernel", script)
    assert found is not None, script
    return found[1]


def installs(script: str) -> bool:
    return "/kernel" in script


@asynccontextmanager
async def running_site(tmp_path: Path, cache: Cache | None = None, **options: Any) -> AsyncIterator[Site]:
    static = tmp_path / "root" / "static"
    for name in ("kernels/longshore-installer", "initramfs/longshore-installer.gz", "initramfs/i.gz"):
        (static / name).parent.mkdir(parents=True, exist_ok=True)
        (static / name).write_bytes(name.encode() * 100)
    settings = RegionalSettings(
        idc="east", data=tmp_path / "data", static_root=tmp_path / "root", settle_seconds=0, **options
    )
    clock = ManualClock()
    machines, metrics = Machines(settings, clock, MemoryBmcs()), Metrics()
    machines.ledger.open(clock.now().timestamp())
    if cache is not None:
        machines.use(cache)
    async with AsyncExitStack() as stack:
        stack.callback(machines.store.close)
        app = web.Application(middlewares=[watch(clock, metrics, machines.watching.http)])
        app.add_routes(machines.routes())
        port = await stack.enter_async_context(listening(app, "127.0.0.1", 0))
        machines.serve_at(f"http://127.0.0.1:{port}")
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield Site(machines, clock, f"http://127.0.0.1:{port}", http, static)
