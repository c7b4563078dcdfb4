"""One poisoner among eight real peers: nobody keeps a false byte, and who sent them is named by all whom it met."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from common.bittorrent import AGENT_FINGERPRINT, BannedPeer, Torrent, TorrentHandle
from common.bittorrent.libtorrent import LibtorrentSession
from tests.conformance.peer_network import content, eventually, metainfo_of

pytestmark = pytest.mark.timeout(60)

DATA = content(12 << 20)
METAINFO = metainfo_of(DATA)
POISONER = "127.0.0.66"
# A bit of one block in each piece: the rest of what it sends is right, so only the block's own hash tells.
POISON = bytearray(DATA)
for _start in range(0, len(POISON), METAINFO.piece_length):
    POISON[min(_start + (_start // METAINFO.piece_length % 4) * 16384, len(POISON) - 1)] ^= 1


async def peer(stack: contextlib.AsyncExitStack, address: str) -> tuple[LibtorrentSession, list[BannedPeer]]:
    """On an address of its own, as a host has."""
    session = LibtorrentSession(address, 0, AGENT_FINGERPRINT, overrides={"outgoing_interfaces": address})
    named: list[BannedPeer] = []
    session.banned = named.append
    return await stack.enter_async_context(session), named


def folder(tmp_path: Path, name: str, data: bytes | None = None) -> Path:
    place = tmp_path / name
    place.mkdir()
    if data is not None:
        (place / METAINFO.name).write_bytes(data)
    return place


async def meet(handles: Sequence[TorrentHandle], places: Sequence[tuple[str, int]]) -> None:
    for handle in handles:
        for address, port in places:
            await handle.connect_peer(address, port)


async def test_a_poisoner_among_eight_is_named_and_banned_and_nothing_false_is_kept(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        liar, _ = await peer(stack, POISONER)
        lying = await liar.add(Torrent(METAINFO, folder(tmp_path, "liar", bytes(POISON)), seed=True))
        honest, _ = await peer(stack, "127.0.0.2")
        seeding = await honest.add(Torrent(METAINFO, folder(tmp_path, "honest", DATA), seed=True))
        leechers = [await peer(stack, f"127.0.0.{number}") for number in range(3, 9)]
        handles = [
            await session.add(Torrent(METAINFO, folder(tmp_path, f"copy{number}")))
            for number, (session, _) in enumerate(leechers)
        ]
        # The poisoner first: everybody has taken its bytes before an honest peer is there.
        await meet(handles, [(POISONER, liar.listen_port)])
        await eventually(lambda: all(handle.status().failed_bytes > 0 for handle in handles))
        others = [("127.0.0.2", honest.listen_port)]
        others += [(f"127.0.0.{number}", session.listen_port) for number, (session, _) in enumerate(leechers, 3)]
        await meet(handles, others)
        async with asyncio.timeout(40):
            await asyncio.gather(*(handle.complete() for handle in handles))
        for number in range(6):
            assert (tmp_path / f"copy{number}" / METAINFO.name).read_bytes() == DATA
        named = [one for _, found in leechers for one in found]
        assert {one.address for one in named} == {POISONER}
        assert {one.info_hash for one in named} == {METAINFO.info_hash}
        assert all(found for _, found in leechers)
        assert named[0].port == liar.listen_port
        assert lying.status().sent_bytes < 6 * METAINFO.length
        assert seeding.status().failed_bytes == 0


async def test_a_poisoner_that_shares_pieces_with_honest_peers_is_told_from_them(tmp_path: Path) -> None:
    """All are there from the start, so blocks of one piece come from several peers: the block's hash names the liar."""
    async with contextlib.AsyncExitStack() as stack:
        liar, _ = await peer(stack, POISONER)
        await liar.add(Torrent(METAINFO, folder(tmp_path, "liar", bytes(POISON)), seed=True))
        places = [(POISONER, liar.listen_port)]
        for number in (2, 3):
            session, _ = await peer(stack, f"127.0.0.{number}")
            await session.add(Torrent(METAINFO, folder(tmp_path, f"honest{number}", DATA), seed=True))
            places.append((f"127.0.0.{number}", session.listen_port))
        session, named = await peer(stack, "127.0.0.4")
        handle = await session.add(Torrent(METAINFO, folder(tmp_path, "copy")))
        await meet([handle], places)
        async with asyncio.timeout(40):
            await handle.complete()
        assert (tmp_path / "copy" / METAINFO.name).read_bytes() == DATA
        status = handle.status()
        assert {one.address for one in named} == ({POISONER} if status.failed_bytes else set())
        assert status.from_agents_bytes >= status.held_bytes + status.failed_bytes
