"""Accusations over mutual TLS: whom the tracker knows is named, and two hosts are heeded."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from common.clock import SystemClock
from common.tls import Name, client_context, server_context
from regional.metainfos import WIRE_HASH_BYTES
from regional.metrics import Metrics
from regional.offences import OffenceRoutes
from regional.offenders import Offenders
from regional.serving import listening, watch
from regional.tracker import Announce, Endpoint, Tracker

from .certificates import Authority
from .conftest import PIECE, FakeCentre, Rig, Rigs, Sample, sample

LARGE = sample(6 * PIECE + 1000)
SMALL = sample(3000, seed=2)
WIRE = LARGE.metainfo().info_hash[:WIRE_HASH_BYTES]


@dataclass
class Bench:
    rig: Rig
    port: int
    authority: Authority
    folder: Path
    tracker: Tracker
    metrics: Metrics
    http: aiohttp.ClientSession

    def announce(self, name: str, address: str) -> tuple[Endpoint, ...]:
        endpoint = Endpoint(ipaddress.ip_address(address), 6881)
        return self.tracker.announce(Announce(WIRE, f"host/{name}", endpoint, 10)).peers

    async def accuse(
        self, name: str, body: Any, subject: Sample = LARGE, token: str | None = None
    ) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {token or self.rig.signer.token(subject.key(), f'host/{name}')}"}
        url = f"https://127.0.0.1:{self.port}/content/v1/{subject.digest}/offences"
        async with self.http.post(url, json=body, headers=headers, ssl=self._tls(name)) as answer:
            return answer.status, await answer.json()

    def _tls(self, name: str) -> ssl.SSLContext:
        directory = self.authority.saved(Name("east", "host", name), self.folder / name)
        (directory / "ca.pem").write_bytes(self.authority.pem)
        return client_context(directory)


@pytest.fixture
async def bench(rigs: Rigs, centre: FakeCentre, tmp_path: Path) -> AsyncIterator[Bench]:
    centre.publish(LARGE, "acme")
    centre.publish(SMALL)
    authority, clock, metrics = Authority(), SystemClock(), Metrics()
    tls = server_context(authority.saved(Name("east", "regional", "r1"), tmp_path / "server"))
    tracker = Tracker((), clock.monotonic, lambda: 0.5)
    async with rigs() as rig, aiohttp.ClientSession() as http:
        offenders = Offenders(clock.monotonic)
        routes = OffenceRoutes(tracker, offenders, rig.metainfos, rig.signer.verifier(), metrics)
        app = web.Application(middlewares=[watch(clock, metrics)])
        app.add_routes(routes.routes())
        async with listening(app, "127.0.0.1", 0, tls) as port:
            bench = Bench(rig, port, authority, tmp_path / "clients", tracker, metrics, http)
            for name, address in (("a", "10.0.0.2"), ("b", "10.0.0.3"), ("liar", "10.0.0.4")):
                bench.announce(name, address)
            yield bench


LIAR = {"address": "10.0.0.4", "port": 6881}


async def test_two_hosts_that_accuse_the_same_peer_are_heeded(bench: Bench) -> None:
    liar = Endpoint(ipaddress.ip_address("10.0.0.4"), 6881)
    for _ in range(3):
        assert await bench.accuse("a", LIAR) == (200, {"accused": "host/liar"})
    assert liar in bench.announce("b", "10.0.0.3")
    assert await bench.accuse("b", LIAR) == (200, {"accused": "host/liar"})
    assert liar not in bench.announce("a", "10.0.0.2")
    exposition = bench.metrics.exposition().decode()
    assert 'longshore_regional_offences_total{outcome="shunned"} 1.0' in exposition
    assert "longshore_regional_peers_shunned 1.0" in exposition


async def test_a_peer_that_never_announced_is_nobody(bench: Bench) -> None:
    assert await bench.accuse("a", {"address": "10.0.0.99", "port": 1}) == (200, {"accused": ""})


async def test_a_token_of_another_process_accuses_nobody(bench: Bench) -> None:
    stolen = bench.rig.signer.token(LARGE.key(), "host/b")
    status, problem = await bench.accuse("a", LIAR, token=stolen)
    assert (status, problem["code"]) == (403, "bearer_foreign")
    status, problem = await bench.accuse("a", LIAR, token="garbage")
    assert status == 401


@pytest.mark.parametrize(
    "body", [None, [], {}, {"address": "10.0.0.4"}, {"address": "x", "port": 1}, {"address": "10.0.0.4", "port": 0},
             {"address": "10.0.0.4", "port": True}, {"address": "10.0.0.4", "port": 65536}, "x" * 5000]
)  # fmt: skip
async def test_what_names_no_peer_is_refused(bench: Bench, body: Any) -> None:
    status, problem = await bench.accuse("a", body)
    assert (status, problem["code"]) == (400, "offence_invalid")


async def test_a_content_without_a_swarm_has_nobody_to_accuse(bench: Bench) -> None:
    status, problem = await bench.accuse("a", LIAR, SMALL)
    assert (status, problem["code"]) == (404, "not_in_swarm")
