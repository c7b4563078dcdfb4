"""The tracker over HTTP: who is named to whom, and a real libtorrent leecher in the middle of it."""

from __future__ import annotations

import asyncio
import ipaddress
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import aiohttp
import pytest
from aiohttp import web

from common.bittorrent import AGENT_FINGERPRINT, Torrent, bencode
from common.bittorrent.libtorrent import LibtorrentSession
from common.clock import SystemClock
from common.content_token import MOST_DIGESTS
from common.digest import Digest
from regional.metrics import Metrics
from regional.serving import listening, watch
from regional.tracker import Endpoint, Tracker
from regional.web import Health, SwarmWeb

from .conftest import PIECE, FakeCentre, Rig, Rigs, Signer, sample, until

LARGE = sample(20 * PIECE + 1000)
OTHER = sample(3 * PIECE, seed=4)
SMALL = sample(3000, seed=2)


class Site:
    def __init__(self, rig: Rig, port: int, http: aiohttp.ClientSession, metrics: Metrics) -> None:
        self.rig, self.http, self.metrics = rig, http, metrics
        self.url = f"http://127.0.0.1:{port}"

    async def announce(self, token: str, info_hash: bytes, **fields: str) -> dict[bytes, Any]:
        query = {"token": token, "info_hash": quote_from_bytes(info_hash[:20], safe=""), "port": "7001", "left": "1"}
        query.update(fields)
        text = "&".join(f"{name}={value}" for name, value in query.items())
        async with self.http.get(f"{self.url}/announce?{text}") as answer:
            assert answer.status == 200
            decoded = bencode.decode(await answer.read())
            assert isinstance(decoded, dict)
            return decoded


@pytest.fixture
async def site(rigs: Rigs, centre: FakeCentre) -> AsyncIterator[Site]:
    for subject in (LARGE, OTHER):
        centre.publish(subject, "acme", "globex")
    centre.publish(SMALL)
    async with rigs() as rig:
        own = Endpoint(ipaddress.ip_address("127.0.0.1"), rig.seeding.port)
        clock, metrics = SystemClock(), Metrics()
        tracker = Tracker((own,), clock.monotonic, random.Random(5).random)
        app = web.Application(middlewares=[watch(clock, metrics)])
        app.add_routes(SwarmWeb(tracker, rig.signer.verifier(), rig.metainfos, rig.edge, metrics).routes())
        app.add_routes(Health(metrics, lambda: False).routes())
        async with listening(app, "127.0.0.1", 0) as port, aiohttp.ClientSession() as http:
            yield Site(rig, port, http, metrics)


async def test_an_authorised_peer_is_told_of_the_others(site: Site) -> None:
    await site.announce(site.rig.signer.token(LARGE.key(), bearer="host/other"), LARGE.metainfo().info_hash, port="7")
    answer = await site.announce(site.rig.token(LARGE), LARGE.metainfo().info_hash)
    assert answer[b"peers"] == bytes([127, 0, 0, 1, 0, 7])
    assert (answer[b"interval"], answer[b"min interval"]) == (15, 5)


async def test_an_announce_makes_the_regional_fetch_what_is_wanted(site: Site) -> None:
    await site.announce(site.rig.token(LARGE), LARGE.metainfo().info_hash)
    await until(lambda: site.rig.shelf.size(LARGE.digest) is not None)
    await site.announce(site.rig.token(OTHER), OTHER.metainfo().info_hash, left="0")
    assert site.rig.shelf.size(OTHER.digest) is None


async def test_only_the_token_of_the_very_swarm_opens_it(site: Site) -> None:
    mine, theirs = LARGE.metainfo("acme").info_hash, LARGE.metainfo("globex").info_hash
    stranger = Signer()
    refused = [
        (site.rig.token(LARGE, "globex"), mine, b"swarm_foreign"),
        (site.rig.token(LARGE, "acme"), theirs, b"swarm_foreign"),
        (site.rig.token(OTHER, "acme"), mine, b"swarm_foreign"),
        (site.rig.token(LARGE, "acme"), bytes(20), b"swarm_foreign"),
        (site.rig.token(SMALL, "acme"), mine, b"swarm_foreign"),
        (stranger.token(LARGE.key()), mine, b"token_invalid"),
        (site.rig.signer.token(LARGE.key(), seconds=-1000), mine, b"token_expired"),
        (site.rig.token(LARGE)[:-4] + "AAAA", mine, b"token_invalid"),
        ("nonsense", mine, b"token_invalid"),
        ("", mine, b"announce_invalid"),
    ]
    await site.announce(site.rig.token(LARGE, "acme"), mine, port="7100")
    for token, info_hash, reason in refused:
        answer = await site.announce(token, info_hash)
        assert set(answer) == {b"failure reason"}
        assert answer[b"failure reason"].startswith(reason), (reason, answer)


async def test_a_token_for_several_contents_opens_the_swarm_of_the_one_that_is_named(site: Site) -> None:
    token = site.rig.signer.token_of_many("acme", SMALL.digest, LARGE.digest)
    mine = LARGE.metainfo().info_hash
    answer = await site.announce(token, mine, digest=str(LARGE.digest))
    assert b"peers" in answer
    for digest, reason in (("", b"announce_invalid"), (str(OTHER.digest), b"token_for_other"), ("x", b"announce_inv")):
        answer = await site.announce(token, mine, digest=digest)
        assert answer[b"failure reason"].startswith(reason), (digest, answer)
    # The name must be that of the swarm that is announced, too.
    answer = await site.announce(token, mine, digest=str(SMALL.digest))
    assert answer[b"failure reason"].startswith(b"swarm_foreign")


async def test_peers_of_another_tenant_s_swarm_are_never_named(site: Site) -> None:
    for number, tenant in enumerate(("acme", "globex")):
        token = site.rig.signer.token(LARGE.key(tenant), bearer=f"host/{tenant}")
        await site.announce(token, LARGE.metainfo(tenant).info_hash, port=str(7100 + number))
    token = site.rig.signer.token(LARGE.key("acme"), bearer="host/third")
    answer = await site.announce(token, LARGE.metainfo("acme").info_hash)
    ports = {int.from_bytes(answer[b"peers"][at + 4 : at + 6], "big") for at in range(0, len(answer[b"peers"]), 6)}
    assert ports == {7100}


async def test_an_announce_while_the_centre_is_away_works_for_known_swarms(site: Site) -> None:
    await site.rig.hold(LARGE)
    site.rig.centre.base_url = "http://127.0.0.1:1"
    assert b"peers" in await site.announce(site.rig.token(LARGE), LARGE.metainfo().info_hash)
    answer = await site.announce(site.rig.token(OTHER), OTHER.metainfo().info_hash)
    assert answer[b"failure reason"].startswith(b"centre_away")


@pytest.mark.parametrize("others", [0, MOST_DIGESTS - 1])
async def test_a_libtorrent_leecher_gets_everything_while_it_is_still_crossing(
    site: Site, centre: FakeCentre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    """Cut-through: the leecher holds pieces before the regional holds the whole. Also with the longest announce URL."""
    # It is the first one's only peer, and is named to it at once instead of after its next announce.
    monkeypatch.setattr("regional.tracker._ALONE_SECONDS", 0.0)
    centre.pause_at = 10 * PIECE
    metainfo, contents = LARGE.metainfo(), [*(Digest.of(b"%d" % number) for number in range(others)), LARGE.digest]
    token = site.rig.signer.token_of_many("acme", *contents)
    async with LibtorrentSession("127.0.0.1", 0, AGENT_FINGERPRINT) as agent:
        tracker = f"{site.url}/announce?token={token}&digest={LARGE.digest}"
        handle = await agent.add(Torrent(metainfo, tmp_path, trackers=(tracker,)))
        await until(lambda: handle.status().held_bytes >= 8 * PIECE, 40)
        assert site.rig.shelf.size(LARGE.digest) is None
        centre.resume.set()
        async with asyncio.timeout(30):
            await handle.complete()
        assert (tmp_path / metainfo.name).read_bytes() == LARGE.data
        assert handle.status().from_regionals_bytes == len(LARGE.data)
    assert centre.sent[LARGE.digest] == len(LARGE.data)


async def test_a_libtorrent_leecher_gets_what_was_held_before_a_restart(
    rigs: Rigs, centre: FakeCentre, tmp_path: Path
) -> None:
    centre.publish(LARGE, "acme")
    async with rigs() as rig:
        await rig.hold(LARGE)
    async with rigs() as rig, LibtorrentSession("127.0.0.1", 0, AGENT_FINGERPRINT) as agent:
        handle = await agent.add(Torrent(LARGE.metainfo(), tmp_path))
        await handle.connect_peer("127.0.0.1", rig.seeding.port)
        async with asyncio.timeout(30):
            await handle.complete()
        assert (tmp_path / LARGE.digest.hex).read_bytes() == LARGE.data
    assert centre.sent[LARGE.digest] == len(LARGE.data)


async def test_health_and_metrics_are_shown_and_hold_no_token(site: Site) -> None:
    await site.announce(site.rig.token(LARGE), LARGE.metainfo().info_hash)
    async with site.http.get(f"{site.url}/healthz") as answer:
        assert await answer.json() == {"status": "ok", "attached": False, "alarms": []}
    async with site.http.get(f"{site.url}/metrics") as answer:
        text = await answer.text()
    assert 'longshore_regional_announces_total{outcome="answered"} 1.0' in text
    assert site.rig.token(LARGE)[:40] not in text
