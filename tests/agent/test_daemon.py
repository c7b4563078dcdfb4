"""The agent as it is deployed: the real daemon against a control plane on real TLS and gRPC, stopped and killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fastapi import FastAPI
from sqlalchemy import create_engine
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from agent.model import DesiredState
from common.digest import Digest
from control_plane.database import outbox
from control_plane.database.schema import metadata
from control_plane.fleet import store, tables
from control_plane.fleet.messages import AssignmentsChanged
from proto.agent.v1 import agent_pb2
from tests.agent.lab import message_of
from tests.agent.samples import INSTANCE, assignment, noise, sample
from tests.control_plane.fleet.plane import Plane
from tests.pace import BUSY_SECONDS

# Large enough to be gathered on disk: what is smaller goes through memory, and again after a kill.
SAMPLE = sample(noise(6 << 20, "layer"))
FALSE_TOKEN = f"LSJOIN-1-{'a' * 64}-{'b' * 32}-{'c' * 32}"

pytestmark = pytest.mark.processes


class Daemon:
    """One agent process."""

    def __init__(self, data: Path, *arguments: str) -> None:
        self.data = data
        self.arguments = arguments
        self.process: asyncio.subprocess.Process | None = None
        self.log = data.parent / f"{data.name}.log"

    async def start(self, *more: str) -> dict[str, Any]:
        (self.data / "ready.json").unlink(missing_ok=True)  # a killed process leaves it
        await self.launch(*more)
        return await self.ready()

    async def launch(self, *more: str) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LONGSHORE")}  # noqa: TID251
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "agent", "run", f"--data={self.data}", *self.arguments, *more),
                stdout=log,
                stderr=log,
                env=environment,
            )

    async def ready(self) -> dict[str, Any]:
        assert self.process is not None
        async with asyncio.timeout(30):
            while not (self.data / "ready.json").exists():
                assert self.process.returncode is None, self.log.read_text()
                await asyncio.sleep(0.02)
        document: dict[str, Any] = json.loads((self.data / "ready.json").read_bytes())
        return document

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        return await self.ended()

    async def ended(self) -> int:
        assert self.process is not None
        async with asyncio.timeout(30):
            return await self.process.wait()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid


class PlaneWithContents(Plane):
    """The fleet's control plane and, beside it, the content routes."""

    def __init__(self, database_url: str) -> None:
        super().__init__(database_url)
        self.sent = 0
        self.slowly = asyncio.Event()

    def _application(self) -> FastAPI:
        app = super()._application()
        app.router.routes.append(Route("/content/v1/{digest}", self._content))
        return app

    async def _content(self, request: Request) -> Response:
        data = SAMPLE.bytes_of.get(Digest.parse(request.path_params["digest"]))
        if data is None or request.headers["Authorization"] != "Bearer token":
            return Response(status_code=404)
        first = int(request.headers["Range"].removeprefix("bytes=").partition("-")[0])
        headers = {
            "Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}",
            "Content-Length": str(len(data) - first),
        }
        return StreamingResponse(self._body(data[first:]), 206, headers)

    async def _body(self, data: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(data), 64 << 10):
            chunk = data[start : start + (64 << 10)]
            yield chunk
            self.sent += len(chunk)
            if self.slowly.is_set():
                await asyncio.sleep(0.05)


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[PlaneWithContents]:
    path = tmp_path / "plane.db"
    assert {tables.__name__, outbox.__name__}  # imported for the tables they declare
    engine = create_engine(f"sqlite:///{path}")
    metadata.create_all(engine)
    engine.dispose()
    async with PlaneWithContents(f"sqlite:///{path}") as running:
        yield running


@pytest.fixture
async def daemon(tmp_path: Path, plane: Plane) -> AsyncIterator[Daemon]:
    token = tmp_path / "join-token"
    token.write_text(await plane.join_token("host", "east"))
    made = Daemon(tmp_path / "e1", f"--server={plane.url}", "--name=e1", f"--join-token-file={token}", "--runtime=none")
    yield made
    if made.process is not None and made.process.returncode is None:
        await made.stop(signal.SIGKILL)


async def assign(plane: Plane, host_id: str, desired: DesiredState, generation: int) -> None:
    message = message_of(assignment(SAMPLE.image, desired, generation=generation))
    async with plane.database.transaction() as unit:
        plane.desired.generations |= await store.bump_assignments(unit.connection, [host_id])
        plane.desired.wanted[host_id] = {INSTANCE: message}
        await unit.announce(AssignmentsChanged(host_id))


async def reported(plane: Plane, condition: Callable[[agent_pb2.InstanceReport], bool], seconds: float = 20) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not any(condition(report) for report in plane.desired.accepted):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(plane.desired.accepted) from None


async def online(plane: Plane, host_id: str) -> None:
    async with asyncio.timeout(BUSY_SECONDS):
        while await plane.state(host_id) != "online":  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_an_agent_enrols_attaches_holds_and_stops(plane: PlaneWithContents, daemon: Daemon) -> None:
    ready = await daemon.start()
    assert ready["pid"] == daemon.pid
    assert ready["mirror"] > 0
    assert ready["peer_port"] > 0
    await online(plane, ready["host_id"])
    await assign(plane, ready["host_id"], DesiredState.HELD, 1)
    await reported(plane, lambda one: one.phase == agent_pb2.PHASE_VERIFIED and one.generation == 1)
    assert await daemon.stop() == 0
    assert not (daemon.data / "ready.json").exists()
    assert plane.sent == sum(map(len, SAMPLE.bytes_of.values()))


async def test_killed_in_the_middle_it_goes_on_where_it_was(plane: PlaneWithContents, daemon: Daemon) -> None:
    plane.slowly.set()
    ready = await daemon.start()
    await assign(plane, ready["host_id"], DesiredState.HELD, 1)
    async with asyncio.timeout(20):
        while plane.sent < 1 << 20:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await daemon.stop(signal.SIGKILL)
    plane.slowly.clear()
    again = await daemon.start()
    assert (again["host_id"], again["mirror"], again["peer_port"]) == (
        ready["host_id"],
        ready["mirror"],
        ready["peer_port"],
    )
    await reported(plane, lambda one: one.phase == agent_pb2.PHASE_VERIFIED)
    # What was on its way when the process died: a chunk, and what the sockets held.
    assert plane.sent < sum(map(len, SAMPLE.bytes_of.values())) + (1 << 20)


async def test_with_an_identity_it_starts_without_the_control_plane(
    plane: PlaneWithContents, daemon: Daemon, tmp_path: Path
) -> None:
    ready = await daemon.start()
    await assign(plane, ready["host_id"], DesiredState.HELD, 1)
    await reported(plane, lambda one: one.phase == agent_pb2.PHASE_VERIFIED)
    await daemon.stop()
    await plane.__aexit__(None, None, None)
    try:
        again = await daemon.start()
        assert again["host_id"] == ready["host_id"]
        async with aiohttp.ClientSession() as http:
            manifest = SAMPLE.image.manifest.digest
            url = f"http://127.0.0.1:{again['mirror']}/v2/acme/web/manifests/{manifest}"
            async with http.get(url) as response:
                assert Digest.of(await response.read()) == manifest
    finally:
        await plane.__aenter__()
    await online(plane, ready["host_id"])


async def test_two_agents_never_share_a_directory(daemon: Daemon) -> None:
    await daemon.start()
    second = Daemon(daemon.data, *daemon.arguments)
    second.log = daemon.log.with_suffix(".second")
    await second.launch()
    assert await second.ended() == 1
    assert "another agent works in" in second.log.read_text()
    assert (daemon.data / "ready.json").exists()


async def test_without_identity_and_token_it_says_what_to_do(plane: Plane, tmp_path: Path) -> None:
    lost = Daemon(tmp_path / "lost", f"--server={plane.url}", "--name=lost")
    await lost.launch()
    assert await lost.ended() == 1
    assert "make a join token for a host" in lost.log.read_text()


async def test_a_signal_is_heeded_while_the_first_start_waits(tmp_path: Path) -> None:
    waiting = Daemon(tmp_path / "waiting", "--server=http://127.0.0.1:9", "--name=w", f"--join-token={FALSE_TOKEN}")
    await waiting.launch()
    async with asyncio.timeout(20):
        while "not enrolled yet" not in waiting.log.read_text():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert await waiting.stop() == 0


async def test_a_copied_identity_is_refused_and_the_first_goes_on(
    plane: PlaneWithContents, daemon: Daemon, tmp_path: Path
) -> None:
    ready = await daemon.start()
    await online(plane, ready["host_id"])
    shutil.copytree(daemon.data / "identity", tmp_path / "copy" / "identity")
    copy = Daemon(tmp_path / "copy", *daemon.arguments)
    await copy.start()
    try:
        async with asyncio.timeout(20):
            while "identity_in_use" not in copy.log.read_text():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    finally:
        await copy.stop()
    await assign(plane, ready["host_id"], DesiredState.HELD, 1)
    await reported(plane, lambda one: one.phase == agent_pb2.PHASE_VERIFIED)
