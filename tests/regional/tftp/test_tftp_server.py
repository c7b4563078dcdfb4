"""The server on real sockets: with clients that others wrote, with hostile ones, and with many."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import tftpy
from prometheus_client import CollectorRegistry

from common.clock import SystemClock
from common.errors import Denied
from common.lifecycle import Lifecycle
from regional.tftp.boot_files import BootFiles, Directory, FirstOf
from regional.tftp.events import TftpSeen
from regional.tftp.metrics import TftpMetrics
from regional.tftp.packet import Ack, Data, OptionAck, Refusal, Request
from regional.tftp.server import TftpListenFailed, TftpServer, serving
from regional.tftp.terms import Limits, ServerLimits
from tests.engines.fixtures import running
from tests.engines.processes import installed_program
from tests.pace import BUSY_SECONDS

from .firmware import Firmware

LOADER = os.urandom(1_000_003)


class Scripts:
    """Files made for each machine."""

    async def find(self, name: str, client: str) -> bytes | Path | None:
        if name == "slow":
            await asyncio.sleep(30)
        if name == "broken":
            raise RuntimeError("a defect")
        if name == "denied":
            raise Denied("not for you")
        return f"#!ipxe\nfor {client}\n".encode() if name == "boot.ipxe" else None


class Served:
    def __init__(self, server: TftpServer, registry: CollectorRegistry, host: str, port: int) -> None:
        self.server, self.registry, self.address = server, registry, (host, port)
        self.clients: list[Firmware] = []
        self.seen: list[TftpSeen] = []

    def client(self) -> Firmware:
        self.clients.append(Firmware(self.address))
        return self.clients[-1]

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"longshore_regional_tftp_{name}", labels) or 0.0

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(BUSY_SECONDS):
            while not reached():  # noqa: ASYNC110  another side's state
                await asyncio.sleep(0.005)


Serve = Callable[..., Any]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "pxelinux.cfg").mkdir(parents=True)
    (folder / "loader.efi").write_bytes(LOADER)
    (folder / "text").write_bytes(b"one\ntwo\r\n")
    (folder / "out").symlink_to("/etc/hostname")
    return folder


@pytest.fixture
def serve(root: Path) -> Serve:
    @asynccontextmanager
    async def begin(
        limits: ServerLimits | None = None, host: str = "127.0.0.1", files: BootFiles | None = None
    ) -> AsyncIterator[Served]:
        registry = CollectorRegistry()
        found = files or FirstOf((Scripts(), Directory(root)))
        seen: list[TftpSeen] = []
        server = TftpServer(
            found, limits or ServerLimits(), SystemClock(), random.random, TftpMetrics(registry), seen.append
        )
        async with Lifecycle() as lifecycle:
            port = await lifecycle.enter(serving(server, host, 0, lifecycle.spawn))
            served = Served(server, registry, host, port)
            served.seen = seen
            try:
                yield served
            finally:
                for client in served.clients:
                    client.close()

    return begin


@pytest.fixture
async def served(serve: Serve) -> AsyncIterator[Served]:
    async with serve() as subject:
        yield subject


@pytest.mark.parametrize(
    "options",
    [{}, {"blksize": 1468}, {"blksize": 1428, "windowsize": 4, "tsize": 0}, {"blksize": 65464, "windowsize": 64}],
)
async def test_a_file_comes_whole_on_every_terms(served: Served, options: dict[str, int]) -> None:
    assert await served.client().fetch("loader.efi", **options) == LOADER
    await served.until(lambda: served.count("transfers_total", outcome="completed") == 1)
    assert served.count("sent_bytes_total") == len(LOADER)
    assert served.count("active") == 0


@pytest.mark.parametrize("options", [{}, {"blksize": 1468, "tsize": 0}])
async def test_tftpy_fetches(served: Served, tmp_path: Path, options: dict[str, int]) -> None:
    client = tftpy.TftpClient(*served.address, options)
    await asyncio.to_thread(client.download, "loader.efi", str(tmp_path / "got"))
    assert (tmp_path / "got").read_bytes() == LOADER
    with pytest.raises(tftpy.TftpFileNotFoundError):
        await asyncio.to_thread(client.download, "absent", str(tmp_path / "absent"))


@pytest.mark.parametrize(
    "command",
    [
        "curl -sS --tftp-blksize 1468 -o {file} tftp://{host}:{port}/loader.efi",
        "atftp --option blksize\u00a01468 --option windowsize\u00a016 -g -r loader.efi -l {file} {host} {port}",
    ],
    ids=["curl", "atftp"],
)
async def test_programs_fetch(served: Served, tmp_path: Path, command: str) -> None:
    host, port = served.address
    words = command.format(file=tmp_path / "got", host=host, port=port).split(" ")
    with running(words[0], installed_program(words[0], "tftp")) as program:
        process = await asyncio.create_subprocess_exec(program, *(word.replace("\u00a0", " ") for word in words[1:]))
        assert await process.wait() == 0
    assert (tmp_path / "got").read_bytes() == LOADER


async def test_text_is_converted_and_generated_files_know_their_client(served: Served) -> None:
    client = served.client()
    assert await client.fetch("text", "NETASCII") == b"one\r\ntwo\r\0\r\n"
    assert await client.fetch("boot.ipxe", blksize=1468) == b"#!ipxe\nfor 127.0.0.1\n"
    client.ask("text", "netascii", tsize=0, blksize=600)
    assert await client.hear() == OptionAck({"blksize": "600"})


async def test_what_cannot_be_had_is_said_at_once(served: Served) -> None:
    expected = {"absent": 1, "../secret": 1, "out": 1, "pxelinux.cfg": 1, "denied": 2, "broken": 0, "slow": 0}
    for name, error in expected.items():
        client = served.client()
        client.ask(name)
        assert await client.refused() == error, name
    assert served.server.active == 0
    assert await served.client().fetch("loader.efi", blksize=1468) == LOADER


HOSTILE = [
    b"",
    b"\0",
    b"\0\1",
    b"\0\1pxelinux.cfg\0octet\0",
    b"\0\1\xff\xfe\0octet\0",
    b"\0\1loader.efi\0octet\0blksize\0abc\0",
    b"\0\1loader.efi\0octet\0blksize",
    b"\0\1" + b"\xff" * 900,
    b"\0\1\0\0",
    b"\0\1x\0mail\0",
    b"\0\2loader.efi\0octet\0",
    b"\0\3\0\1data",
    b"\0\4\0\1",
    b"\0\5\0\0error\0",
    b"\0\6blksize\0009\0",
    b"\xff" * 1400,
]


async def test_no_datagram_ends_the_server(served: Served) -> None:
    source = random.Random(7)
    attacker = served.client()
    for packet in [*HOSTILE, *(source.randbytes(source.randrange(600)) for _ in range(2000))]:
        attacker.send(packet, served.address)
    client = served.client()
    await client.fetch("text")
    assert await served.client().fetch("loader.efi", blksize=1468) == LOADER
    assert served.count("errors_total", reason="malformed") > 5


async def test_no_datagram_ends_anothers_transfer(served: Served) -> None:
    victim, attacker = served.client(), served.client()
    victim.ask("loader.efi", blksize=1468)
    assert isinstance(await victim.hear(), OptionAck)
    for packet in (Ack(0), Ack(1), Data(1, b""), Request("text"), OptionAck({}), b"junk", b""):
        attacker.send(packet, victim.peer)
        assert await attacker.refused() == 5
    attacker.send(Refusal(0, "stop"), victim.peer)
    assert await attacker.silent(), "an ERROR is never answered"
    victim.send(Ack(0))
    packet = await victim.hear()
    assert packet == Data(1, LOADER[:1468])
    assert served.count("errors_total", reason="foreign") == 8


async def test_writes_and_mail_are_refused(served: Served, root: Path) -> None:
    client = served.client()
    client.send(Request("new", writes=True), served.address)
    assert await client.refused() == 2
    client.send(Request("text", "mail"), served.address)
    assert await client.refused() == 4
    assert not (root / "new").exists()


async def test_a_probe_of_the_size_is_no_failure(served: Served) -> None:
    """EDK2: it refuses with 8 as soon as it has the size, and asks again."""
    client = served.client()
    client.ask("loader.efi", tsize=0, blksize=1468, windowsize=4)
    assert await client.hear() == OptionAck({"tsize": str(len(LOADER)), "blksize": "1468", "windowsize": "4"})
    client.send(Refusal(8, "User aborted the transfer"))
    assert await client.fetch("loader.efi", blksize=1468, windowsize=4) == LOADER
    assert served.count("transfers_total", outcome="probed") == 1
    assert served.count("transfers_total", outcome="aborted") == 0
    client.ask("absent")
    assert await client.refused() == 1
    told = [(each.client, each.file, each.outcome, each.sent_bytes) for each in served.seen]
    assert told == [
        ("127.0.0.1", "loader.efi", "began", 0),
        ("127.0.0.1", "loader.efi", "probed", 0),
        ("127.0.0.1", "loader.efi", "began", 0),
        ("127.0.0.1", "loader.efi", "completed", len(LOADER)),
        ("127.0.0.1", "absent", "missing", 0),
    ]


async def test_a_repeated_request_begins_nothing_and_another_one_begins_anew(served: Served) -> None:
    client = served.client()
    for _ in range(5):
        client.ask("loader.efi")
    assert await client.hear() == Data(1, LOADER[:512])
    assert await client.silent()
    client.ask("loader.efi")
    assert await client.silent()
    assert served.server.active == 1
    assert await client.fetch("text") == b"one\ntwo\r\n"
    assert served.count("transfers_total", outcome="replaced") == 1


async def test_only_a_timer_sends_again(served: Served) -> None:
    client = served.client()
    client.ask("loader.efi")
    assert await client.hear() == Data(1, LOADER[:512])
    for _ in range(10):
        client.send(Ack(1))
    assert await client.hear() == Data(2, LOADER[512:1024])
    assert await client.silent(0.1)
    assert await client.hear(1.5) == Data(2, LOADER[512:1024])
    client.send(Refusal(0, "enough"))
    await served.until(lambda: served.count("resent_blocks_total") >= 1)


async def test_answers_that_come_together_are_all_looked_at(served: Served) -> None:
    """The epoll tells once of packets that come at once; copies of old answers must hide none."""
    client = served.client()
    client.ask("loader.efi", blksize=1468)
    assert isinstance(await client.hear(), OptionAck)
    client.send(Ack(0))
    content = b""
    for block in range(1, len(LOADER) // 1468 + 2):
        packet = await client.hear()
        assert packet == Data(block, LOADER[(block - 1) * 1468 : block * 1468])
        content += packet.payload
        for answer in (Ack(block - 1), b"junk", Ack(block), Ack(block)):
            client.send(answer)
    assert content == LOADER
    await served.until(lambda: served.count("transfers_total", outcome="completed") == 1)
    assert served.count("resent_blocks_total") == 0


async def test_a_window_with_losses_is_gone_on_with_where_it_broke(served: Served) -> None:
    assert await served.client().fetch("loader.efi", lose=47, blksize=1468, windowsize=32) == LOADER
    await served.until(lambda: served.count("transfers_total", outcome="completed") == 1)
    assert served.count("resent_blocks_total") > 0
    assert await served.client().fetch("text", "netascii", windowsize=4) == b"one\r\ntwo\r\0\r\n"


async def test_blocks_may_be_tiny(served: Served) -> None:
    assert await served.client().fetch("boot.ipxe", blksize=8, windowsize=3) == b"#!ipxe\nfor 127.0.0.1\n"
    assert await served.client().fetch("text", blksize=9) == b"one\ntwo\r\n"


async def test_silence_ends_a_transfer(serve: Serve) -> None:
    async with serve(ServerLimits(terms=Limits(patience_seconds=0.5, longest_seconds=0.5))) as served:
        client = served.client()
        client.ask("loader.efi")
        await client.hear()
        await served.until(lambda: served.count("transfers_total", outcome="timed_out") == 1)
        assert served.server.active == 0


async def test_over_a_limit_nobody_answers_until_there_is_room(serve: Serve) -> None:
    async with serve(ServerLimits(transfers=3, per_client=2)) as served:
        clients = [served.client() for _ in range(3)]
        for client in clients:
            client.ask("loader.efi")
        await served.until(lambda: served.server.active == 2)
        assert await clients[2].silent()
        assert served.count("errors_total", reason="crowded") == 1
        await clients[0].hear()
        clients[0].send(Refusal(0))
        await served.until(lambda: served.server.active == 1)
        assert await clients[2].fetch("loader.efi", blksize=1468) == LOADER


async def test_one_port_serves_all_where_networks_let_no_other_pass(serve: Serve) -> None:
    async with serve(ServerLimits(single_port=True)) as served:
        clients = [served.client() for _ in range(20)]
        contents = await asyncio.gather(*(client.fetch("loader.efi", blksize=1468, windowsize=8) for client in clients))
        assert set(contents) == {LOADER}
        assert {client.peer for client in clients} == {served.address}
        stranger = served.client()
        stranger.send(Ack(1), served.address)
        assert await stranger.refused() == 5


async def test_it_serves_over_ipv6(serve: Serve) -> None:
    with contextlib.ExitStack() as stack:
        try:
            stack.callback(Firmware(("::1", 1)).close)
        except OSError:
            pytest.skip("this machine has no IPv6")
        async with serve(host="::1") as served:
            assert await served.client().fetch("loader.efi", blksize=1448, windowsize=16) == LOADER


async def test_hundreds_at_once_all_complete_and_leave_nothing(serve: Serve, root: Path) -> None:
    (root / "small").write_bytes(LOADER[:20_000])
    before = len(os.listdir("/proc/self/fd"))
    async with serve(ServerLimits(per_client=400)) as served:
        clients = [served.client() for _ in range(400)]
        contents = await asyncio.gather(*(client.fetch("small", blksize=1468, windowsize=4) for client in clients))
        assert set(contents) == {LOADER[:20_000]}
        await served.until(lambda: served.server.active == 0)
    assert len(os.listdir("/proc/self/fd")) <= before + 1


async def test_who_is_served_when_it_stops_is_told(serve: Serve) -> None:
    async with serve() as served:
        client = Firmware(served.address)
        client.ask("loader.efi")
        await client.hear()
    assert await client.refused() == 0
    client.close()


async def test_a_taken_port_is_named(served: Served, serve: Serve) -> None:
    server = TftpServer(Scripts(), ServerLimits(), SystemClock(), random.random, TftpMetrics(CollectorRegistry()))
    with pytest.raises(TftpListenFailed, match="cannot be listened on"):
        server.listen(*served.address)
    await server.close()
