"""The suite of the port on libtorrent, and what is libtorrent's alone."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import pytest
import structlog

import common
from common.bittorrent import AGENT_FINGERPRINT, Torrent
from common.bittorrent.libtorrent import LibtorrentSession
from common.bittorrent.recheck import verify_file
from common.errors import Unavailable
from tests.conformance.peer_network import (
    connect,
    content,
    eventually,
    metainfo_of,
    received,
)
from tests.conformance.peer_session import PeerSessionConformance

pytestmark = pytest.mark.timeout(60)


class TestLibtorrentSession(PeerSessionConformance):
    @pytest.fixture
    def lab(self, libtorrent_lab):
        return libtorrent_lab


async def test_a_taken_port_is_an_error_and_leaves_nothing_behind():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        session = LibtorrentSession("127.0.0.1", taken.getsockname()[1], AGENT_FINGERPRINT)
        with pytest.raises(Unavailable) as refused:
            await session.start()
        assert refused.value.code == "listen_failed"
        with pytest.raises(Unavailable):
            await session.add(Torrent(metainfo_of(b"x"), Path("/")))
    await session.close()


async def test_two_sessions_of_one_process_listen_on_their_own_ports(libtorrent_lab):
    one, other = await libtorrent_lab.session(), await libtorrent_lab.session()
    assert one.listen_port != other.listen_port
    for session in (one, other):
        socket.create_connection(("127.0.0.1", session.listen_port), timeout=5).close()


async def test_tokens_in_urls_never_reach_the_log(libtorrent_lab, tmp_path):
    metainfo = metainfo_of(content())
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    session = await libtorrent_lab.session()
    trackers = [f"http://127.0.0.1:{port}/announce?token=sesame"]
    with structlog.testing.capture_logs() as entries:
        await session.add(Torrent(metainfo, tmp_path, trackers=trackers))
        await eventually(lambda: "tracker failed" in {entry["event"] for entry in entries})
    assert "sesame" not in str(entries)


async def test_a_liar_is_shut_out_by_its_address(libtorrent_lab, tmp_path):
    data = content(16 << 20)
    metainfo = metainfo_of(data)
    for name, bytes_ in (("liar", data[::-1]), ("honest", data)):
        (tmp_path / name).mkdir()
        (tmp_path / name / metainfo.name).write_bytes(bytes_)
    (tmp_path / "copy").mkdir()
    honest, session = await libtorrent_lab.session(), await libtorrent_lab.session()
    outgoing = {"outgoing_interfaces": "127.0.0.2"}
    async with LibtorrentSession("127.0.0.2", 0, AGENT_FINGERPRINT, overrides=outgoing) as liar:
        await liar.add(Torrent(metainfo, tmp_path / "liar", seed=True))
        await honest.add(Torrent(metainfo, tmp_path / "honest", seed=True))
        leecher = await session.add(Torrent(metainfo, tmp_path / "copy"))
        with structlog.testing.capture_logs() as entries:
            await leecher.connect_peer("127.0.0.2", liar.listen_port)
            await eventually(lambda: any(entry["event"] == "peer banned" for entry in entries))
            banned = next(entry for entry in entries if entry["event"] == "peer banned")
            assert (banned["address"], banned["fingerprint"]) == ("127.0.0.2", "-LA0100-")
            await eventually(lambda: leecher.status().failed_bytes > 0 and leecher.status().peers == 0)
            entries.clear()
            # The liar calls again each second, and is named again here: a connection would be another ban.
            await leecher.connect_peer("127.0.0.2", liar.listen_port)
            await asyncio.sleep(1.5)
            await connect(leecher, honest)
            await leecher.complete()
            assert not [entry for entry in entries if entry["event"] == "peer banned"]
    assert (tmp_path / "copy" / metainfo.name).read_bytes() == data


async def test_lost_alerts_are_made_up_for(libtorrent_lab, tmp_path):
    data = content(200 * (64 << 10))
    metainfo = metainfo_of(data)
    (tmp_path / "seed").mkdir()
    (tmp_path / "seed" / metainfo.name).write_bytes(data)
    origin = await libtorrent_lab.session()
    await origin.add(Torrent(metainfo, tmp_path / "seed", seed=True))
    async with LibtorrentSession("127.0.0.1", 0, AGENT_FINGERPRINT, overrides={"alert_queue_size": 8}) as session:
        leecher = await session.add(Torrent(metainfo, tmp_path))
        with structlog.testing.capture_logs() as entries:
            await connect(leecher, origin)
            # The loop stands still while libtorrent downloads.
            await asyncio.sleep(0.05)
            await asyncio.to_thread(lambda: None)
            _stand_still(tmp_path / metainfo.name, metainfo.length)
            await leecher.complete()
        assert any(entry["event"] == "alerts dropped" for entry in entries)
        assert len(await leecher.have_pieces()) == metainfo.piece_count
        assert leecher.status().held_bytes == metainfo.length
    assert (tmp_path / metainfo.name).read_bytes() == data


def _stand_still(path: Path, length: int) -> None:
    # Blocks on purpose: until the file has its length, libtorrent's alerts have nobody to take them.
    for _ in range(3000):
        if path.exists() and path.stat().st_size == length:
            return
        signal.sigtimedwait([], 0.001)


async def test_the_loop_goes_on_while_bytes_arrive(libtorrent_lab, tmp_path):
    data = content(64 << 20)
    metainfo = metainfo_of(data, piece_length=256 << 10)
    (tmp_path / "seed").mkdir()
    (tmp_path / "seed" / metainfo.name).write_bytes(data)
    origin, session = await libtorrent_lab.session(), await libtorrent_lab.session()
    await origin.add(Torrent(metainfo, tmp_path / "seed", seed=True))
    leecher = await session.add(Torrent(metainfo, tmp_path))
    loop, lags = asyncio.get_running_loop(), []

    async def watch() -> None:
        while not leecher.status().complete:
            before = loop.time()
            await asyncio.sleep(0.005)
            lags.append(loop.time() - before - 0.005)

    async with asyncio.TaskGroup() as group:
        group.create_task(watch())
        await connect(leecher, origin)
        await leecher.complete()
    # Typically 2 ms; the bound leaves room for a machine with other work.
    assert sorted(lags)[len(lags) * 9 // 10] < 0.1


_LEECH = """
import asyncio, sys
from pathlib import Path
from common.bittorrent import AGENT_FINGERPRINT, Torrent
from common.bittorrent.libtorrent import LibtorrentSession
from common.bittorrent.metainfo import parse

async def main(folder, port):
    metainfo = parse((folder / "metainfo").read_bytes())
    async with LibtorrentSession("127.0.0.1", 0, AGENT_FINGERPRINT) as session:
        handle = await session.add(Torrent(metainfo, folder))
        await handle.connect_peer("127.0.0.1", port)
        while True:
            print(len(await handle.have_pieces()), flush=True)
            await asyncio.sleep(0.005)

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
"""


async def test_a_leecher_that_was_killed_goes_on_from_what_its_file_holds(libtorrent_lab, tmp_path):
    data = content(96 << 20)
    metainfo = metainfo_of(data, piece_length=256 << 10)
    (tmp_path / "seed").mkdir()
    (tmp_path / "seed" / metainfo.name).write_bytes(data)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "metainfo").write_bytes(metainfo.encoded)
    origin, session = await libtorrent_lab.session(), await libtorrent_lab.session()
    await origin.add(Torrent(metainfo, tmp_path / "seed", seed=True))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "ignore", "-c", _LEECH, str(tmp_path / "copy"), str(origin.listen_port)),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(common.__file__).parent.parent,
    )
    assert process.stdout is not None
    try:
        while int(await process.stdout.readline() or b"0") < 40:
            pass
    finally:
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()
    path = tmp_path / "copy" / metainfo.name
    have = await verify_file(path, metainfo)
    leecher = await session.add(Torrent(metainfo, tmp_path / "copy", have=have))
    await connect(leecher, origin)
    await leecher.complete()
    assert path.read_bytes() == data
    missing = metainfo.length - sum(metainfo.piece_size(index) for index in have)
    assert received(leecher) == missing
