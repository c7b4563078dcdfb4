"""What we write others can read, and the other way round: against an etcd client that is not ours."""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from common.clock import SystemClock
from common.discovery.etcd import EtcdRegistry
from common.discovery.etcd_client import EtcdOptions
from tests.conformance.discovery import following
from tests.engines.etcd import EtcdEngine
from tests.pace import BUSY_SECONDS

pytestmark = pytest.mark.engine("etcd")
Peer = Callable[..., Awaitable[Any]]


@pytest.fixture
async def registry(etcd_node: EtcdEngine) -> AsyncIterator[EtcdRegistry]:
    opened = EtcdRegistry(EtcdOptions(etcd_node.endpoints), SystemClock())
    yield opened
    await opened.close()


@pytest.fixture
def root() -> str:
    return f"/os/test-{secrets.token_hex(4)}/hosts/"


@pytest.fixture
async def peer(etcd_node: EtcdEngine) -> AsyncIterator[Peer]:
    script = Path(__file__).with_name("etcd3_peer.py")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", str(script), str(etcd_node.ports[0])),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    reader, writer = process.stdout, process.stdin

    async def ask(do: str, key: str, **more: Any) -> Any:
        writer.write(json.dumps({"do": do, "key": key, **more}).encode() + b"\n")
        async with asyncio.timeout(BUSY_SECONDS):
            return json.loads(await reader.readline())

    yield ask
    process.kill()
    await process.wait()


async def test_others_read_what_we_register(registry: EtcdRegistry, peer: Peer, root: str) -> None:
    async with registry.register(f"{root}e1", "grüße".encode(), 5, final_value=b"offline") as registration:
        assert await peer("get", f"{root}e1") == {"value": "grüße", "leased": True}
        await registration.update(b"busy")
        assert await peer("list", root) == {f"{root}e1": "busy"}
    assert await peer("get", f"{root}e1") == {"value": "offline", "leased": False}


async def test_others_watch_what_we_register(registry: EtcdRegistry, peer: Peer, root: str) -> None:
    await peer("watch", root)
    async with registry.register(f"{root}e1", b"alive", 5):
        assert await peer("next", root) == {"kind": "PutEvent", "key": f"{root}e1", "value": "alive"}
    assert await peer("next", root) == {"kind": "DeleteEvent", "key": f"{root}e1", "value": ""}


async def test_we_list_and_watch_what_others_write(registry: EtcdRegistry, peer: Peer, root: str) -> None:
    await peer("put", f"{root}e1", value="theirs")
    assert await registry.list(root) == {f"{root}e1": b"theirs"}
    async with following(registry, root) as picture:
        await picture.becomes({f"{root}e1": b"theirs"})
        await peer("put", f"{root}e1", value="changed")
        await picture.becomes({f"{root}e1": b"changed"})
        await peer("delete", f"{root}e1")
        await picture.becomes({})


async def test_we_see_the_lease_of_others_lapse(registry: EtcdRegistry, peer: Peer, root: str) -> None:
    async with following(registry, root) as picture:
        await peer("put", f"{root}e1", value="short", ttl=1)
        await picture.becomes({f"{root}e1": b"short"})
        await picture.becomes({})


async def test_we_write_a_key_again_that_others_delete_or_overwrite(
    registry: EtcdRegistry, peer: Peer, root: str
) -> None:
    async with registry.register(f"{root}e1", b"alive", 2), following(registry, root) as picture:
        await picture.becomes({f"{root}e1": b"alive"})
        await peer("delete", f"{root}e1")
        await picture.becomes({})
        await picture.becomes({f"{root}e1": b"alive"})
        await peer("put", f"{root}e1", value="an operator was here")
        await picture.becomes({f"{root}e1": b"an operator was here"})
        await picture.becomes({f"{root}e1": b"alive"})
