"""The regional as a real process: its command line, its life, kill -9, and the seed's files over real HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from common.tls import Name, client_context
from proto.content.v1 import content_pb2
from proto.regional.v1 import regional_pb2

from .conftest import PIECE, FakeCentre, Sample, Signer, sample, until
from .plane import IDENTITY, Plane, running_plane

pytestmark = pytest.mark.processes
ROOT = Path(__file__).parents[2]
LARGE = sample(30 * PIECE + 1000)
SMALL = sample(3000, seed=2)


class Process:
    def __init__(self, process: asyncio.subprocess.Process, data: Path) -> None:
        self.process, self.data = process, data

    @property
    def ready(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.data / "ready.json").read_text())
        return found

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.ready['api']}"

    async def wait_ready(self) -> None:
        await until(lambda: self._is_ready() or self.process.returncode is not None, 40)
        assert self.process.returncode is None, "the process ended before it was ready"

    def _is_ready(self) -> bool:
        # A killed process leaves its file behind, and the next one removes it.
        try:
            return bool(self.ready["pid"] == self.process.pid)
        except FileNotFoundError:
            return False

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(15):
            return await self.process.wait()


Start = Callable[..., Any]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    @asynccontextmanager
    async def begin(*arguments: str, data: str = "data", ready: bool = True) -> AsyncIterator[Process]:
        command = [*arguments, "--data", str(tmp_path / data), "--static-root", str(tmp_path / "root")]
        with (tmp_path / "log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "regional", *command, cwd=ROOT, stdout=log, stderr=log, env=_environment()
            )
        subject = Process(process, tmp_path / data)
        try:
            if ready:
                await subject.wait_ready()
            yield subject
        finally:
            await subject.stop(signal.SIGKILL)

    return begin


@pytest.fixture
async def plane(centre: FakeCentre) -> AsyncIterator[Plane]:
    async with running_plane(centre) as subject:
        yield subject


async def run(*arguments: str) -> tuple[int, str]:
    """A start that is expected to end by itself."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "regional",
        *arguments,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=_environment(),
    )
    async with asyncio.timeout(30):
        output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


@pytest.mark.parametrize("form", [("run",), ()], ids=["with run", "without run"])
async def test_files_are_served_as_the_seed_shows_and_sigterm_ends_it(
    start: Start, tmp_path: Path, form: tuple[str, ...]
) -> None:
    async with start(*form, "--idc=mailong-test", "--server-ip=127.0.0.1", "--api-port=0") as process:
        kernel = tmp_path / "root/static/kernels/vmlinuz-ubuntu-22.04"
        kernel.write_bytes(LARGE.data)
        assert (tmp_path / "root/repos/rocky/9").is_dir()
        async with aiohttp.ClientSession() as http:
            async with http.get(f"{process.api}/static/kernels/vmlinuz-ubuntu-22.04") as answer:
                assert await answer.read() == LARGE.data
            async with http.get(f"{process.api}/api/v1/files/static") as answer:
                files = (await answer.json())["files"]
            assert "/kernels/vmlinuz-ubuntu-22.04" in [entry["path"] for entry in files if not entry["is_dir"]]
        assert process.ready["pid"] == process.process.pid
        assert await process.stop() == 0
    log = (tmp_path / "log").read_text()
    for said in ("regional starting", "idc=mailong-test", "static_root=", "directories ready", "api listening"):
        assert said in log


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "idc"),
        (("--idc", "NOT AN IDC"), "idc"),
        (("--idc", "x", "--api-port", "70000"), "api_port"),
        (("--idc", "x", "--server-ip", "nowhere"), "server_ip"),
        (("--idc", "x", "--server-ip", "0.0.0.0"), "name the one address"),
        (("--idc", "x", "--server", "ftp://y"), "server"),
    ],
)
async def test_a_wrong_setting_is_named(arguments: tuple[str, ...], words: str) -> None:
    code, output = await run(*arguments)
    assert code == 2
    assert words in output


async def test_a_start_that_cannot_succeed_says_what_to_do(tmp_path: Path, plane: Plane) -> None:
    base = ("--idc", "east", "--static-root", str(tmp_path / "root"), "--data", str(tmp_path / "data"))
    code, output = await run(*base, "--api-port", "0", "--server", plane.url)
    assert code == 1
    assert "--join-token" in output
    code, output = await run(*base, "--api-port", "0", "--server", plane.url, "--join-token", "LSJOIN-1-nonsense")
    assert code == 1
    assert "nonsense" not in output
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, output = await run(*base, "--api-port", str(taken.getsockname()[1]))
    assert code == 1
    assert "choose another port" in output


async def test_a_second_process_on_the_same_data_is_refused(start: Start, tmp_path: Path) -> None:
    async with start("--idc", "east", "--api-port", "0"):
        code, output = await run(
            "--idc",
            "east",
            "--api-port",
            "0",
            "--data",
            str(tmp_path / "data"),
            "--static-root",
            str(tmp_path / "root"),
        )
    assert code == 1
    assert "another regional" in output


async def test_it_enrols_attaches_holds_what_is_ordered_and_serves_it(
    start: Start, plane: Plane, centre: FakeCentre, signer: Signer, tmp_path: Path
) -> None:
    centre.publish(LARGE, "acme")
    centre.publish(SMALL)
    plane.orders = [order(signer, LARGE), order(signer, SMALL)]
    options = ("--idc", "east", "--server", plane.url, "--api-port", "0", "--join-token", plane.join_token)
    async with start(*options, "--log-level", "debug") as it:
        await until(lambda: all_held(plane, LARGE, SMALL), 40)
        await until(lambda: plane.conditions == [[]], 40)  # nothing is wrong here
        hello = plane.hellos[0]
        assert it.ready["regional_id"] == IDENTITY.id
        assert hello.content_url == f"https://127.0.0.1:{it.ready['content']}"
        assert hello.swarm_url == it.api
        assert hello.peer_address == f"127.0.0.1:{it.ready['peer_port']}"
        assert await content(hello.content_url, plane, signer, LARGE, tmp_path) == LARGE.data
        token = signer.token(LARGE.key(), bearer="host/e1")
        announce = f"{it.api}/announce?token={token}&info_hash=x&port=1"
        async with aiohttp.ClientSession() as http, http.get(announce) as answer:
            assert b"failure reason" in await answer.read()
        assert await it.stop() == 0
    assert plane.enrolled == 1
    assert centre.sent[LARGE.digest] == len(LARGE.data)
    log = (tmp_path / "log").read_text()
    assert "eyJ" not in log, "a content token is in the log"
    assert plane.join_token not in log


async def test_kill_9_in_the_middle_costs_no_piece_twice(
    start: Start, plane: Plane, centre: FakeCentre, signer: Signer
) -> None:
    centre.publish(LARGE, "acme")
    centre.pause_at = 15 * PIECE
    plane.orders = [order(signer, LARGE)]
    options = ("--idc", "east", "--server", plane.url, "--api-port", "0", "--join-token", plane.join_token)
    async with start(*options) as it:
        await until(lambda: centre.sent.get(LARGE.digest, 0) >= 15 * PIECE, 40)
        partial = it.data / "cache/partial" / f"sha256-{LARGE.digest.hex}"
        # The 14th piece is on its way through the disk at the latest now.
        await until(lambda: partial.read_bytes()[: 14 * PIECE] == LARGE.data[: 14 * PIECE])
        await it.stop(signal.SIGKILL)
    centre.pause_at = None
    centre.resume.set()
    async with start(*options):
        await until(lambda: all_held(plane, LARGE), 40)
    assert plane.enrolled == 1
    assert centre.sent[LARGE.digest] <= len(LARGE.data) + PIECE
    assert partial.exists() is False


async def test_it_starts_and_serves_while_the_centre_is_away(
    start: Start, centre: FakeCentre, signer: Signer, tmp_path: Path
) -> None:
    centre.publish(LARGE, "acme")
    async with running_plane(centre) as plane:
        plane.orders = [order(signer, LARGE)]
        options = ("--idc", "east", "--api-port", "0", "--server", plane.url)
        async with start(*options, "--join-token", plane.join_token):
            await until(lambda: all_held(plane, LARGE), 40)
    before = len(centre.gets)
    async with start(*options) as it:
        url = f"https://127.0.0.1:{it.ready['content']}"
        assert await content(url, plane, signer, LARGE, tmp_path) == LARGE.data
        async with aiohttp.ClientSession() as http, http.get(f"{it.api}/healthz") as answer:
            assert await answer.json() == {"status": "ok", "attached": False, "alarms": []}
    assert len(centre.gets) == before


async def test_an_identity_of_another_idc_is_refused(start: Start, plane: Plane, tmp_path: Path) -> None:
    base = ("--server", plane.url, "--api-port", "0", "--join-token", plane.join_token)
    async with start("--idc", "east", *base):
        pass
    code, output = await run(
        "--idc", "west", *base, "--data", str(tmp_path / "data"), "--static-root", str(tmp_path / "root")
    )
    assert code == 1
    assert "not a regional of west" in output


def order(signer: Signer, subject: Sample) -> regional_pb2.Order:
    token = signer.token(subject.key(), bearer=f"regional/{IDENTITY.id}")
    content = content_pb2.Content(digest=str(subject.digest), size_bytes=len(subject.data), token=token)
    return regional_pb2.Order(tenant_id="acme", content=content)


def all_held(plane: Plane, *subjects: Sample) -> bool:
    return all(plane.phases.get(str(subject.digest)) == regional_pb2.ORDER_PHASE_HELD for subject in subjects)


async def content(url: str, plane: Plane, signer: Signer, subject: Sample, folder: Path) -> bytes:
    """As an agent of the IDC gets it."""
    tls = client_context(plane.authority.saved(Name("east", "host", "e1"), folder / "agent"))
    headers = {"Authorization": f"Bearer {signer.token(subject.key(), bearer='host/e1')}"}
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{url}/content/v1/{subject.digest}", headers=headers, ssl=tls) as answer,
    ):
        answer.raise_for_status()
        return await answer.read()


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("LONGSHORE_")}  # noqa: TID251
