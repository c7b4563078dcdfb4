"""Two real versions of the agent, its real supervisor and a real control plane: one is killed with kill -9 at each step
of the change, and the newer one runs in the end; a version that cannot work is gone back from.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from agent.model import Content, DesiredState, Image
from agent.updates.layout import ENTRY, Layout
from common.digest import Digest
from control_plane.database.schema import metadata
from control_plane.fleet import store
from control_plane.fleet.messages import AssignmentsChanged
from deploy.agent_version import build_version
from proto.agent.v1 import agent_pb2
from tests.agent.lab import message_of
from tests.agent.samples import CONFIG_TYPE, INSTANCE, MANIFEST_TYPE, assignment, sample
from tests.agent.test_daemon import SAMPLE, Daemon, PlaneWithContents
from tests.engines.busybox import root_file_system
from tests.engines.dockerd import DockerEngine

pytestmark = pytest.mark.processes
VERSION = "9.9.9"
UPDATE = "01900000-0000-7000-8000-00000000cafe"


class Supervised(Daemon):
    """`pid` is the supervisor's; the agent is its child."""

    async def launch(self, *more: str) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LONGSHORE")}  # noqa: TID251
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "agent", "supervise", f"--data={self.data}", *self.arguments, *more),
                stdout=log,
                stderr=log,
                env=environment,
            )

    @property
    def layout(self) -> Layout:
        return Layout(self.data / "agent")

    def agent_pid(self) -> int:
        with contextlib.suppress(OSError, ValueError, KeyError):
            return int(json.loads((self.data / "ready.json").read_bytes())["pid"])
        return 0

    def modules_from_version(self) -> bool:
        return b"\0-P\0" in Path(f"/proc/{self.agent_pid()}/cmdline").read_bytes()

    def kill_agent(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            if pid := self.agent_pid():
                os.kill(pid, signal.SIGKILL)


def image_of(layout: Path, digest: Digest) -> Image:
    """Of an OCI layout, whose contents the control plane then serves."""
    blobs = layout / "blobs" / "sha256"
    manifest = (blobs / digest.hex).read_bytes()
    document = json.loads(manifest)
    for path in blobs.iterdir():
        SAMPLE.bytes_of[Digest.parse(f"sha256:{path.name}")] = path.read_bytes()
    contents = [
        Content(Digest.parse(one["digest"]), one["size"], one["mediaType"], "token")
        for one in (document["config"], *document["layers"])
    ]
    assert contents[0].media_type == CONFIG_TYPE
    return Image("acme/agent", "9", Content(digest, len(manifest), MANIFEST_TYPE, "token"), tuple(contents))


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[PlaneWithContents]:
    path = tmp_path / "plane.db"
    engine = create_engine(f"sqlite:///{path}")
    metadata.create_all(engine)
    engine.dispose()
    known = dict(SAMPLE.bytes_of)
    async with PlaneWithContents(f"sqlite:///{path}") as running:
        yield running
    SAMPLE.bytes_of.clear()
    SAMPLE.bytes_of.update(known)


@pytest.fixture
async def host(tmp_path: Path, plane: PlaneWithContents) -> AsyncIterator[Supervised]:
    token = tmp_path / "join-token"
    token.write_text(await plane.join_token("host", "east"))
    made = Supervised(
        tmp_path / "e1", f"--server={plane.url}", "--name=e1", f"--join-token-file={token}", "--runtime=memory"
    )
    yield made
    if made.process is not None and made.process.returncode is None:
        await made.stop()


async def wish(plane: PlaneWithContents, host_id: str, image: Image, order: int) -> None:
    """Beside what the host is to run already."""
    message = message_of(assignment(image, DesiredState.HELD, generation=order, instance_id=UPDATE))
    message.agent_update.CopyFrom(
        agent_pb2.AgentUpdate(order=order, version=VERSION, healthy_seconds=1, patience_seconds=60)
    )
    await want(plane, host_id, message)


async def want(plane: PlaneWithContents, host_id: str, message: agent_pb2.Assignment) -> None:
    async with plane.database.transaction() as unit:
        plane.desired.generations |= await store.bump_assignments(unit.connection, [host_id])
        wanted = plane.desired.wanted.get(host_id, {})
        plane.desired.wanted[host_id] = {**wanted, message.instance_id: message}
        await unit.announce(AssignmentsChanged(host_id))


async def said(
    plane: PlaneWithContents, phase: agent_pb2.Phase.ValueType, order: int, log: Path, instance_id: str = UPDATE
) -> str:
    try:
        async with asyncio.timeout(60):
            while True:
                for report in plane.desired.accepted:
                    if (report.instance_id, report.phase, report.generation) == (instance_id, phase, order):
                        return str(report.detail)
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{plane.desired.accepted[-3:]}\n{tail(log)}") from None


def tail(log: Path) -> str:
    return log.read_text()[-3000:]


async def version_of(plane: PlaneWithContents, name: str = "east/e1") -> str:
    return (await plane.fleet.members.get("host", name)).member.version


async def test_killed_at_each_step_the_newer_version_runs_in_the_end(
    plane: PlaneWithContents, host: Supervised, tmp_path: Path
) -> None:
    ready = await host.start()
    digest = build_version(tmp_path / "layout", VERSION, python=sys.executable)
    layout, entry = host.layout, host.layout.entry(digest.hex)
    await wish(plane, ready["host_id"], image_of(tmp_path / "layout", digest), 1)

    # The agent, while it fetches or unpacks.
    await until(lambda: (host.data / "content").exists() or entry.exists())
    host.kill_agent()
    # The supervisor, and with it the agent, once the version lies ready.
    await until(lambda: layout.read_wanted() is not None)
    await host.stop(signal.SIGKILL)
    await host.launch()
    # The version that is tried, once it works.
    await until(lambda: layout.read_state().trial is not None)
    await until(lambda: host.agent_pid() not in (0, ready["pid"]))
    host.kill_agent()
    # The supervisor, while it waits for the trial to end.
    await until(lambda: (trial := layout.read_state().trial) is None or trial.starts > 1)
    await host.stop(signal.SIGKILL)
    await host.launch()

    assert await said(plane, agent_pb2.PHASE_RUNNING, 1, host.log) == ""
    assert await version_of(plane) == VERSION
    state = layout.read_state()
    assert (state.trusted, state.trial, state.refusal) == (digest.hex, None, None)
    assert (layout.root / "current" / ENTRY).resolve() == entry.resolve()
    assert host.modules_from_version()

    # A version that cannot work: the former one comes back, says why, and an order that is replayed changes nothing.
    broken = tmp_path / "broken"
    shutil.copytree(tmp_path / "layout", broken)
    await wish(plane, ready["host_id"], image_of(broken, broken_version(broken, tmp_path)), 2)
    assert "ended 3 times" in await said(plane, agent_pb2.PHASE_FAILED, 2, host.log)
    assert layout.read_state().trusted == digest.hex
    assert await version_of(plane) == VERSION


@pytest.mark.engine("docker")
async def test_what_runs_on_the_host_goes_on(
    plane: PlaneWithContents, host: Supervised, tmp_path: Path, docker_host_engine: DockerEngine
) -> None:
    engine = ("--runtime=docker", f"--docker-host={docker_host_engine.host}", "--docker-network=none")
    ready = await host.start(*engine)
    image = sample(root_file_system(), command=("/bin/sh",))
    SAMPLE.bytes_of.update(image.bytes_of)
    await want(plane, ready["host_id"], message_of(assignment(image.image)))
    await said(plane, agent_pb2.PHASE_RUNNING, 1, host.log, INSTANCE)
    before = await asyncio.to_thread(containers, docker_host_engine)

    digest = build_version(tmp_path / "layout", VERSION, python=sys.executable)
    await wish(plane, ready["host_id"], image_of(tmp_path / "layout", digest), 1)
    await said(plane, agent_pb2.PHASE_RUNNING, 1, host.log)
    assert await version_of(plane) == VERSION
    assert await asyncio.to_thread(containers, docker_host_engine) == before
    assert await host.stop() == 0
    assert await asyncio.to_thread(containers, docker_host_engine) == before


def containers(engine: DockerEngine) -> list[tuple[str, int, str]]:
    """What runs: which container, as which process, since when."""
    with contextlib.closing(engine.client()) as client:
        found = [(one.id or "", one.attrs["State"]) for one in client.containers.list()]
    assert len(found) == 1
    return [(key, state["Pid"], state["StartedAt"]) for key, state in found]


def broken_version(layout: Path, tmp_path: Path) -> Digest:
    """Its program ends at once."""
    shutil.rmtree(layout)
    return build_version(layout, "9.9.10", root=tmp_path, python="/bin/false")


async def until(condition: object, seconds: float = 60.0) -> None:
    assert callable(condition)
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
