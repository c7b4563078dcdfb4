"""Who gets bytes in a swarm that has an authority: the suite of `PeerSession`, on certificates."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from common.bittorrent import Torrent
from common.errors import Invalid
from tests.conformance.peer_certificates import HOUR, authority, credentials
from tests.conformance.peer_network import (
    PIECE,
    PeerPlaces,
    all_complete,
    connect,
    content,
    eventually,
    metainfo_of,
    piece,
    received,
)


class PeerAuthorisation(PeerPlaces):
    async def test_peers_with_certificates_of_the_authority_exchange_all_bytes(self, lab, place):
        ours, data = authority(), content()
        metainfo = metainfo_of(data, authority_pem=ours.pem)
        others = [metainfo_of(bytes([number])).name for number in range(99)]
        shown = [credentials(ours, [metainfo.name]), credentials(ours, [*others, metainfo.name])]
        origin = await lab.session(tls=True)
        star = credentials(ours, ["*"])
        seeder = await origin.add(Torrent(metainfo, place(metainfo, data), seed=True, credentials=star))
        assert seeder.credentials == star
        leechers = []
        for each in shown:
            session = await lab.session(tls=True)
            leechers.append(await session.add(Torrent(metainfo, place(), credentials=each)))
            await connect(leechers[-1], origin)
        await all_complete(leechers)
        assert all(received(leecher) >= metainfo.length for leecher in leechers)

    async def test_a_tracker_brings_them_together(self, lab, place):
        ours, data = authority(), content()
        metainfo = metainfo_of(data, authority_pem=ours.pem)
        shown, tracker = credentials(ours, [metainfo.name]), await lab.tracker()
        origin, session = await lab.session(tls=True), await lab.session(tls=True)
        common = {"trackers": [tracker], "credentials": shown}
        await origin.add(Torrent(metainfo, place(metainfo, data), seed=True, **common))
        leecher = await session.add(Torrent(metainfo, place(), **common))
        await leecher.complete()
        assert received(leecher) == metainfo.length

    async def test_without_the_right_certificate_not_a_byte_moves_in_either_direction(self, lab, place):
        ours, theirs, data = authority(), authority(), content()
        metainfo = metainfo_of(data, authority_pem=ours.pem)
        good = credentials(ours, [metainfo.name])
        bad = {
            "another name": credentials(ours, [metainfo_of(b"x").name]),
            "the name's beginning and end": credentials(ours, [metainfo.name[1:], metainfo.name + "0"]),
            "another authority": credentials(theirs, [metainfo.name]),
            "another authority's star": credentials(theirs, ["*"]),
            "expired": credentials(ours, [metainfo.name], life=-HOUR),
            "none": None,
        }
        origin, session = await lab.session(tls=True), await lab.session(tls=True)
        seeder = await origin.add(Torrent(metainfo, place(metainfo, data), seed=True, credentials=good))
        victim = await session.add(Torrent(metainfo, place(), credentials=good))
        outsiders = []
        for number, each in enumerate(bad.values()):
            outside = await lab.session(tls=True)
            seeds = number % 2 == 0
            folder = place(metainfo, data) if seeds else place()
            outsiders.append(await outside.add(Torrent(metainfo, folder, seed=seeds, credentials=each)))
            await connect(outsiders[-1], origin, session)
            await connect(victim, outside)
        await lab.attempted()
        for name, handle in zip(bad, outsiders, strict=True):
            assert received(handle) == handle.status().sent_bytes == 0, name
        assert received(victim) == seeder.status().sent_bytes == 0
        # They were reachable all the time: what was wrong was the certificate.
        await outsiders[1].set_credentials(good)
        await connect(victim, origin)
        await all_complete([victim, outsiders[1]])

    async def test_one_who_lost_the_right_keeps_no_connection(self, lab, place):
        ours, data = authority(), content()
        metainfo = metainfo_of(data, authority_pem=ours.pem)
        good = credentials(ours, [metainfo.name])
        origin, session = await lab.session(tls=True), await lab.session(tls=True)
        first = frozenset({0})
        seeder = await origin.add(
            Torrent(metainfo, place(metainfo, data), have=first, upload_only=True, credentials=good)
        )
        leecher = await session.add(Torrent(metainfo, place(), credentials=good))
        await connect(leecher, origin)
        await eventually(lambda: leecher.status().held_bytes == PIECE)
        await leecher.set_credentials(None)
        assert leecher.credentials is None
        await eventually(lambda: seeder.status().peers == 0)
        await seeder.add_piece(1, piece(metainfo, data, 1))
        await lab.attempted()
        assert await leecher.have_pieces() == first
        # Bytes from elsewhere are still taken, and a new certificate brings it back.
        await leecher.add_piece(2, piece(metainfo, data, 2))
        await leecher.set_credentials(credentials(ours, [metainfo.name]))
        await eventually(lambda: leecher.status().held_bytes == 3 * PIECE)

    async def test_a_renewed_certificate_does_not_stop_a_transfer(self, lab, place):
        ours, data = authority(), content()
        metainfo = metainfo_of(data, authority_pem=ours.pem)
        origin, session = await lab.session(tls=True), await lab.session(tls=True)
        shown = [credentials(ours, [metainfo.name], life=timedelta(hours=hours)) for hours in (1, 2, 3)]
        first = frozenset({0})
        seeder = await origin.add(
            Torrent(metainfo, place(metainfo, data), have=first, upload_only=True, credentials=shown[0])
        )
        leecher = await session.add(Torrent(metainfo, place(), credentials=shown[0]))
        await connect(leecher, origin)
        await eventually(lambda: leecher.status().held_bytes == PIECE)
        await asyncio.gather(seeder.set_credentials(shown[1]), leecher.set_credentials(shown[2]))
        for index in range(1, metainfo.piece_count):
            await seeder.add_piece(index, piece(metainfo, data, index))
        await leecher.complete()

    async def test_what_does_not_fit_together_is_refused_and_nothing_changes(self, lab, place):
        ours, data = authority(), content()
        metainfo, plain = metainfo_of(data, authority_pem=ours.pem), metainfo_of(data)
        session = await lab.session(tls=True)
        good, other = credentials(ours, [metainfo.name]), credentials(ours, [metainfo.name])
        swapped = type(good)(good.certificate_pem, other.key_pem)
        broken = type(good)(b"no certificate", good.key_pem)
        for pair in (swapped, broken):
            with pytest.raises(Invalid):
                await session.add(Torrent(metainfo, place(), credentials=pair))
        handle = await session.add(Torrent(metainfo, place(), credentials=good))
        for pair in (swapped, broken):
            with pytest.raises(Invalid):
                await handle.set_credentials(pair)
        assert handle.credentials == good
        with pytest.raises(Invalid):
            await (await lab.session()).add(Torrent(plain, place(), credentials=good))
