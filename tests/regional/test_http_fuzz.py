"""Every route of a regional, found in its source, is sent what nobody should send, on each of its listeners, by nobody
and with the token of a machine that installs. Each request is answered, none by an accident (500), no answer repeats
the token, and the regional is as well afterwards as before.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from common.digest import Digest
from common.lifecycle import Lifecycle
from common.swarm_certificate import PATH
from common.tls import client_context
from proto.regional.v1 import machines_pb2 as pb
from regional.daemon import _Regional
from regional.settings import RegionalSettings
from tests.pace import BUSY_SECONDS

from .conftest import FakeCentre, Signer, sample
from .machines.boots import token_in
from .machines.rack import image_operations, target
from .plane import Plane, running_plane

SOURCE = Path(__file__).parents[2] / "regional"
KERNEL = b"kernel" * 5000
CONTENT = sample(70_000)
MAC = "52-54-00-12-34-56"
WORDS = ("report", "isInInstallQueue", "getNextOperation", "getHardwareConfig", "progress", "operationComplete")
AWKWARD = [
    *("", ".", "..", "../..", "..%2f..", "a\0b", "\n", "'", '"', "%", "%%", "?", "#", "//", "\\", "{}", "${x}", "\x7f"),
    *("a" * 300, "a" * 5000, "ÄÖ", "\u202e", "😀", "NaN", "null", "-1", "1e400", "9" * 40, "sha256:", "kernels/k"),
]
NUMBERS = [float("nan"), float("inf"), float("-inf"), 1e400, -1, 0, 100, 101, 2**70, -(2**70), 0.5, True, None]
TEXTS = st.one_of(st.sampled_from(AWKWARD), st.text(max_size=30))
FIELDS = (
    "sn",
    "mac",
    "attempt",
    "hardware",
    "percent",
    "operation",
    "text",
    "message",
    "digest",
    "success",
    "token",
    "format",
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(TEXTS, st.sampled_from(NUMBERS), st.integers(), st.sampled_from(["raid", "write", "1", MAC])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
BODIES = st.one_of(
    st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=5).map(lambda body: json.dumps(body).encode()),
    st.binary(max_size=200),
    st.just(b"DEEP"),
    st.just(b""),
)
# Hypothesis warns of examples that are long to print.
DEEP = {b"DEEP": b"[" * 50_000}
HUNG_UP = 0
RANGES = ["bytes=0-", "bytes=-1", "bytes=5-2", "bytes=0-1,3-4", "bytes=9999999999999999999-", "bytes=", "x", "bytes=-0"]
HEADERS = st.dictionaries(
    st.sampled_from(
        ["Range", "If-Range", "If-None-Match", "If-Modified-Since", "Authorization", "Content-Type", "Accept"]
    ),
    st.one_of(st.sampled_from([*RANGES, "Bearer x", "Bearer ", "Basic Og==", 'W/"x"', "*", "0"]), st.text(max_size=20)),
    max_size=3,
)


@dataclass
class World:
    """A regional with its centre, in a thread of its own; `ports` by listener."""

    directory: Path
    ports: dict[str, int] = field(default_factory=dict)
    token: str = ""
    tls: dict[str, ssl.SSLContext] = field(default_factory=dict)

    def request(
        self, listener: str, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        port, context = self.ports[listener], self.tls.get(listener)
        line = (
            http.client.HTTPConnection("127.0.0.1", port, timeout=BUSY_SECONDS)
            if context is None
            else http.client.HTTPSConnection("127.0.0.1", port, timeout=BUSY_SECONDS, context=context)
        )
        try:
            line.request(method, path, body or None, headers or {})
            answer = line.getresponse()
            return answer.status, answer.read()
        except (ConnectionError, ssl.SSLEOFError, http.client.RemoteDisconnected):
            return HUNG_UP, b""  # on a body that nobody asked for
        finally:
            line.close()


def found_routes() -> list[str]:
    text = "\n".join(path.read_text() for path in sorted(SOURCE.rglob("*.py")))
    named = re.findall(r'web\.(?:get|post|put|patch|delete|head|route)\((?:"\*", )?"(/[^"]*)"', text)
    # Those that the source puts together.
    return sorted({*named, PATH, "/static{tail}", "/repos{tail}", "/static", "/no/such/route"})


ROUTES = found_routes()


async def _serve(world: World, ready: threading.Event, stop: asyncio.Event) -> None:
    signer = Signer()
    centre = FakeCentre(signer)
    centre.state = signer.statement
    centre.publish(CONTENT, "acme")
    async with AsyncExitStack() as stack:
        plane = await stack.enter_async_context(running_plane(centre))
        intent = pb.InstallIntent(id="i1", tenant_id="acme", operations=image_operations()[2:])
        intent.operations.insert(0, pb.Operation(id="raid", hardware_config=pb.Script(name="raid", content=b"true")))
        plane.targets = [target(intent)]
        lifecycle = await stack.enter_async_context(Lifecycle())
        await _start(world, plane, lifecycle)
        ready.set()
        await stop.wait()


async def _start(world: World, plane: Plane, lifecycle: Lifecycle) -> None:
    root = world.directory / "root"
    (root / "static/kernels").mkdir(parents=True)
    (root / "static/initramfs").mkdir()
    for name in ("kernels/k", "kernels/longshore-installer", "initramfs/longshore-installer.gz"):
        (root / "static" / name).write_bytes(KERNEL)
    found = RegionalSettings(
        idc="east", data=world.directory / "data", static_root=root, server=plane.url, api_port=0, enable_tftp=True,
        tftp_port=0, settle_seconds=0, join_token=SecretStr(plane.join_token),
    )  # fmt: skip
    await _Regional(found, lifecycle).start()
    ready = json.loads((found.data / "ready.json").read_text())
    world.ports = {"open": ready["api"], "content": ready["content"], "registry": ready["registry"]}
    context = client_context(found.identity_dir)
    world.tls = {"content": context, "registry": context}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    subject, ready = World(tmp_path_factory.mktemp("fuzz")), threading.Event()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    running = threading.Thread(target=loop.run_until_complete, args=(_serve(subject, ready, stop),))
    running.start()
    try:
        assert ready.wait(40)
        for _ in range(400):
            status, script = subject.request("open", "GET", f"/boot/{MAC}/next.ipxe?serial=SN")
            if status == 200 and b"/kernel" in script:
                subject.token = token_in(script.decode())
                break
            threading.Event().wait(0.05)
        assert subject.token
        yield subject
    finally:
        loop.call_soon_threadsafe(stop.set)
        running.join(BUSY_SECONDS)
        loop.close()


def test_the_source_names_the_routes_that_are_known() -> None:
    assert len(ROUTES) >= 20
    assert "/api/v1/device/{token}/{word}" in ROUTES


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, str, bytes, dict[str, str], bool]:
    route = draw(st.sampled_from(ROUTES))
    known = draw(st.booleans())

    def place(found: re.Match[str]) -> str:
        name = found[1].partition(":")[0]
        likely = {
            "token": "TOKEN", "mac": MAC, "word": draw(st.sampled_from(WORDS)), "tail": "/kernels/k",
            "digest": str(CONTENT.digest), "area": "static", "path": f"acme/web/manifests/{Digest.of(b'x')}",
            "name": draw(st.sampled_from(["kernel", "initrd0", "image", "os-kernel", "ks.cfg"])),
        }.get(name, "x")  # fmt: skip
        text = likely if draw(st.integers(0, 3)) else draw(TEXTS)
        return text if text == "TOKEN" else quote(text, safe=draw(st.sampled_from(["", "/", "/%"])), errors="replace")

    path = re.sub(r"\{([^{}]*)\}", place, route)
    if draw(st.booleans()):
        names = st.sampled_from(
            ["path", "limit", "cursor", "after", "bytes", "format", "serial", "arch", "info_hash", "n"]
        )
        query = draw(st.dictionaries(names, st.one_of(TEXTS, st.sampled_from(RANGES)), max_size=3))
        path += "?" + "&".join(f"{name}={quote(value, safe='', errors='replace')}" for name, value in query.items())
    method = draw(st.sampled_from(["GET", "GET", "HEAD", "POST", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"]))
    listener = draw(st.sampled_from(["open", "open", "open", "content", "registry"]))
    return listener, method, path, draw(BODIES), draw(HEADERS), known


@given(requests())
@settings(
    max_examples=400, deadline=None, phases=[Phase.generate, Phase.shrink], derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)  # fmt: skip
def test_no_request_is_an_accident(world: World, drawn: tuple[str, str, str, bytes, dict[str, str], bool]) -> None:
    listener, method, path, body, said, known = drawn
    headers = {name: value.encode("latin-1", "replace").decode("latin-1") for name, value in said.items()}
    headers = {name: value for name, value in headers.items() if not re.search(r"[\0\r\n]", value)}
    token = world.token if known else "f" * 43
    if known and "Authorization" not in headers:
        headers["Authorization"] = f"Bearer {world.token}"
    status, answer = world.request(listener, method, path.replace("TOKEN", token), DEEP.get(body, body), headers)
    # 503: what this regional cannot do at the moment; 501: HTTP's own word for an unknown method.
    assert status < 500 or status in (501, 503), (status, answer[:500])
    if status >= 400 and listener == "open" and answer.startswith(b"{"):
        assert b"Traceback" not in answer
        assert world.token.encode() not in answer


@given(
    st.one_of(st.binary(max_size=400), st.binary(max_size=100).map(lambda data: b"GET /" + data + b" HTTP/1.1\r\n\r\n"))
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_no_http_is_hung_up_on(world: World, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", world.ports["open"]), timeout=BUSY_SECONDS) as line:
        line.sendall(data)
        line.shutdown(socket.SHUT_WR)
        while line.recv(4096):
            pass


def test_it_is_as_well_afterwards(world: World) -> None:
    status, answer = world.request("open", "GET", "/healthz")
    assert (status, json.loads(answer)["status"]) == (200, "ok")
    assert world.request("open", "GET", "/static/kernels/k") == (200, KERNEL)
