"""Who sends false bytes is named: part of the suite of `PeerSession`."""

from __future__ import annotations

from common.bittorrent import BannedPeer, Torrent
from tests.conformance.peer_network import PeerPlaces, connect, content, eventually, metainfo_of


class PeerBans(PeerPlaces):
    async def test_a_peer_that_sends_false_bytes_is_named_to_the_session(self, lab, place):
        data = content()
        metainfo = metainfo_of(data)
        liar, honest, session, folder = await lab.session(), await lab.session(), await lab.session(), place()
        named: list[BannedPeer] = []
        session.banned = named.append
        await liar.add(Torrent(metainfo, place(metainfo, bytes(byte ^ 1 for byte in data)), seed=True))
        await honest.add(Torrent(metainfo, place(metainfo, data), seed=True))
        leecher = await session.add(Torrent(metainfo, folder))
        await connect(leecher, liar)
        await eventually(lambda: bool(named))
        assert (named[0].info_hash, named[0].address) == (metainfo.info_hash, "127.0.0.1")
        assert named[0].port == liar.listen_port
        await connect(leecher, honest)
        await leecher.complete()
        assert (folder / metainfo.name).read_bytes() == data
        assert all(one.port != honest.listen_port for one in named)

    async def test_nobody_is_named_while_all_are_honest(self, lab, place):
        data = content()
        metainfo = metainfo_of(data)
        origin, session = await lab.session(), await lab.session()
        named: list[BannedPeer] = []
        session.banned = origin.banned = named.append
        await origin.add(Torrent(metainfo, place(metainfo, data), seed=True))
        leecher = await session.add(Torrent(metainfo, place()))
        await connect(leecher, origin)
        await leecher.complete()
        assert not named
