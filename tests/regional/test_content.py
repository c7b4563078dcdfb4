"""Contents over mutual TLS: the right token, in the right hands."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from common.clock import SystemClock
from common.tls import Name, client_context, server_context
from regional.content import ContentRoutes
from regional.metrics import Metrics
from regional.serving import listening, watch

from .certificates import Authority
from .conftest import PIECE, FakeCentre, Rig, Rigs, Sample, sample

LARGE = sample(6 * PIECE + 1000)
SMALL = sample(3000, seed=2)
HOST = Name("east", "host", "e1")


class Listener:
    def __init__(self, rig: Rig, port: int, authority: Authority, folder: Path) -> None:
        self.rig, self.port, self.authority, self.folder = rig, port, authority, folder
        self.http = aiohttp.ClientSession()

    def tls(self, name: Name, authority: Authority | None = None) -> ssl.SSLContext:
        directory = (authority or self.authority).saved(name, self.folder / name.id)
        (directory / "ca.pem").write_bytes(self.authority.pem)
        return client_context(directory)

    async def get(
        self, subject: Sample, token: str | None, tail: str = "", name: Name = HOST, **headers: str
    ) -> tuple[int, bytes, Mapping[str, str]]:
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        url = f"https://127.0.0.1:{self.port}/content/v1/{subject.digest}{tail}"
        async with self.http.get(url, headers=headers, ssl=self.tls(name)) as answer:
            return answer.status, await answer.read(), answer.headers


@pytest.fixture
async def listener(rigs: Rigs, centre: FakeCentre, tmp_path: Path) -> AsyncIterator[Listener]:
    centre.publish(LARGE, "acme")
    centre.publish(SMALL)
    authority = Authority()
    tls = server_context(authority.saved(Name("east", "regional", "r1"), tmp_path / "server"))
    async with rigs() as rig:
        app = web.Application(middlewares=[watch(SystemClock(), Metrics())])
        app.add_routes(ContentRoutes(rig.edge, rig.metainfos, rig.signer.verifier()).routes())
        async with listening(app, "127.0.0.1", 0, tls) as port:
            subject = Listener(rig, port, authority, tmp_path / "clients")
            yield subject
            await subject.http.close()


async def test_a_host_with_its_own_token_gets_the_content(listener: Listener) -> None:
    for _ in range(2):
        status, body, headers = await listener.get(LARGE, listener.rig.token(LARGE))
        assert (status, body) == (200, LARGE.data)
        assert headers["Docker-Content-Digest"] == str(LARGE.digest)
        assert headers["ETag"] == f'"{LARGE.digest}"'
    status, body, headers = await listener.get(LARGE, listener.rig.token(LARGE), Range="bytes=5-9")
    assert (status, body, headers["Content-Range"]) == (206, LARGE.data[5:10], f"bytes 5-9/{len(LARGE.data)}")


async def test_twenty_hosts_cost_the_centre_one_get(listener: Listener, centre: FakeCentre) -> None:
    token = listener.rig.token(LARGE)
    answers = await asyncio.gather(*(listener.get(LARGE, token) for _ in range(20)))
    assert all((status, body) == (200, LARGE.data) for status, body, _ in answers)
    assert len(centre.gets) == 1


async def test_bytes_stream_through_while_they_arrive(listener: Listener, centre: FakeCentre) -> None:
    centre.pause_at = 3 * PIECE
    url = f"https://127.0.0.1:{listener.port}/content/v1/{LARGE.digest}"
    headers = {"Authorization": f"Bearer {listener.rig.token(LARGE)}"}
    async with listener.http.get(url, headers=headers, ssl=listener.tls(HOST)) as answer:
        first = await answer.content.readexactly(2 * PIECE)
        assert listener.rig.shelf.size(LARGE.digest) is None
        centre.resume.set()
        assert first + await answer.read() == LARGE.data


async def test_the_metainfo_is_the_centre_s_and_is_asked_for_once(listener: Listener, centre: FakeCentre) -> None:
    for _ in range(3):
        status, body, headers = await listener.get(LARGE, listener.rig.token(LARGE), "/metainfo")
        assert (status, body) == (200, LARGE.metainfo().encoded)
        assert headers["Content-Type"] == "application/x-bittorrent"
    assert centre.metainfo_gets == 1
    status, body, _ = await listener.get(SMALL, listener.rig.token(SMALL), "/metainfo")
    assert status == 404
    assert b"not_in_swarm" in body


async def test_a_metainfo_that_is_being_made_is_503(listener: Listener, centre: FakeCentre) -> None:
    centre.metainfo_busy = 503, "3"
    status, _, headers = await listener.get(LARGE, listener.rig.token(LARGE), "/metainfo")
    assert (status, headers["Retry-After"]) == (503, "3")


@pytest.mark.parametrize(
    ("who", "status", "code"),
    [
        ("nobody", 401, "token_missing"),
        ("stranger", 401, "token_invalid"),
        ("expired", 401, "token_expired"),
        ("other content", 403, "token_for_other"),
        ("other host", 403, "bearer_foreign"),
    ],
)
async def test_others_get_nothing(listener: Listener, who: str, status: int, code: str) -> None:
    signer = listener.rig.signer
    token = {
        "nobody": None,
        "stranger": "a.b.c",
        "expired": signer.token(LARGE.key(), seconds=-1000),
        "other content": signer.token(SMALL.key()),
        "other host": signer.token(LARGE.key(), bearer="host/e2"),
    }[who]
    for tail in ("", "/metainfo"):
        got, body, _ = await listener.get(LARGE, token, tail)
        assert got == status
        assert code.encode() in body


async def test_a_certificate_of_another_authority_gets_no_connection(listener: Listener, centre: FakeCentre) -> None:
    foreign = listener.tls(Name("east", "host", "foreign"), Authority("other CA"))
    url = f"https://127.0.0.1:{listener.port}/content/v1/{LARGE.digest}"
    for tls in (foreign, _without_certificate(listener)):
        with pytest.raises((aiohttp.ClientError, ssl.SSLError, ConnectionError)):
            async with listener.http.get(url, ssl=tls) as answer:
                await answer.read()
    assert centre.gets == []


@pytest.mark.parametrize("name", ["sha256:zz", "md5:00", "..%2f..%2fetc%2fpasswd", "sha256:" + "A" * 64])
async def test_what_is_no_digest_is_refused(listener: Listener, name: str) -> None:
    url = f"https://127.0.0.1:{listener.port}/content/v1/{name}"
    async with listener.http.get(url, ssl=listener.tls(HOST)) as answer:
        assert answer.status == 400
        assert (await answer.json())["code"] == "digest_invalid"


async def test_held_contents_outlive_the_centre_and_others_are_503(listener: Listener) -> None:
    await listener.rig.hold(LARGE)
    listener.rig.centre.base_url = "http://127.0.0.1:1"
    status, body, _ = await listener.get(LARGE, listener.rig.token(LARGE))
    assert (status, body) == (200, LARGE.data)
    status, body, headers = await listener.get(SMALL, listener.rig.token(SMALL))
    assert status == 503
    assert b"centre_away" in body
    assert int(headers["Retry-After"]) >= 1


def _without_certificate(listener: Listener) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=listener.authority.pem.decode())
    return context
