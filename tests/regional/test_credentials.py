"""A regional's own certificates, and the questions of its hosts that it passes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from common.bittorrent.credential_keeper import NoCredentials
from common.bittorrent.credentials import PeerCertificate
from common.clock import SystemClock
from common.swarm_certificate import MAXIMUM_BYTES, PATH, CertificateRequest, signed_request
from common.tls import Identity, Name, new_key_and_request
from control_plane.fleet.certificates import requested_key
from regional.centre import Centre
from regional.credentials import CertificateRoutes, Credentials
from regional.metrics import Metrics
from regional.serving import listening, watch
from tests.conformance.peer_certificates import HOUR, authority
from tests.conformance.peer_network import content, metainfo_of

from .certificates import Authority

NAME = Name("east", "regional", "r-1")


class Signing:
    """The centre's route: signs `*`, or fails with `status`."""

    def __init__(self) -> None:
        self.tenant = authority()
        self.bodies: list[bytes] = []
        self.status = 200

    async def answer(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.read())
        if self.status != 200:
            return web.json_response({"code": "bearer_revoked", "detail": "it was revoked"}, status=self.status)
        now = SystemClock().now()
        key = requested_key(CertificateRequest.decode(self.bodies[-1]).csr_pem)
        return web.json_response({"certificate": self.tenant.sign(["*"], key, now, now + HOUR).decode()})


@pytest.fixture
def signing() -> Signing:
    return Signing()


@pytest.fixture
async def centre(signing: Signing) -> AsyncIterator[Centre]:
    app = web.Application()
    app.add_routes([web.post(PATH, signing.answer)])
    async with listening(app, "127.0.0.1", 0) as port, aiohttp.ClientSession() as http:
        yield Centre(http, f"http://127.0.0.1:{port}", SystemClock())


@pytest.fixture
def identity_dir(tmp_path: Path) -> Path:
    return Authority().saved(NAME, tmp_path / "identity")


async def opened(tmp_path: Path, identity_dir: Path, centre: Centre) -> Credentials:
    credentials = Credentials(tmp_path / "credentials", identity_dir, centre, SystemClock(), lambda: 0.5)
    await credentials.load()
    return credentials


async def test_one_star_is_enough_for_all_contents_of_a_tenant_and_survives_a_restart(
    signing: Signing, centre: Centre, tmp_path: Path, identity_dir: Path
) -> None:
    first, second = (metainfo_of(content(seed=seed), authority_pem=signing.tenant.pem) for seed in (b"1", b"2"))
    credentials = await opened(tmp_path, identity_dir, centre)
    with pytest.raises(NoCredentials, match="nobody ordered"):
        await credentials.keeper.obtain("acme", first)
    credentials.keeper.retry_now()
    credentials.tokens = lambda tenant: [f"order of {tenant}"]
    credentials.offer("acme", "a host's")
    shown = await credentials.keeper.obtain("acme", first)
    assert shown is not None
    assert PeerCertificate.read(shown.certificate_pem).names == {"*"}
    again = await opened(tmp_path, identity_dir, centre)
    assert await again.keeper.obtain("acme", second) == shown
    assert [CertificateRequest.decode(body).tokens for body in signing.bodies] == [("a host's", "order of acme")]


async def test_of_many_tokens_the_newest_are_shown(
    signing: Signing, centre: Centre, tmp_path: Path, identity_dir: Path
) -> None:
    credentials = await opened(tmp_path, identity_dir, centre)
    for number in range(50):
        credentials.offer("acme", f"token-{number}")
    await credentials.keeper.obtain("acme", metainfo_of(content(), authority_pem=signing.tenant.pem))
    (body,) = signing.bodies
    assert CertificateRequest.decode(body).tokens == ("token-49", "token-48", "token-47", "token-46")


async def test_a_hosts_question_is_passed_on_word_for_word(
    signing: Signing, centre: Centre, identity_dir: Path
) -> None:
    app = web.Application(middlewares=[watch(SystemClock(), Metrics())])
    app.add_routes(CertificateRoutes(centre).routes())
    identity = Identity.load(identity_dir)
    assert identity is not None
    body = signed_request(identity, new_key_and_request()[1], ["token"]).encode()
    async with listening(app, "127.0.0.1", 0) as port, aiohttp.ClientSession() as http:
        url = f"http://127.0.0.1:{port}{PATH}"
        async with http.post(url, data=body) as answer:
            assert answer.status == 200
            assert "BEGIN CERTIFICATE" in (await answer.json())["certificate"]
        assert signing.bodies == [body]
        signing.status = 403
        async with http.post(url, data=body) as answer:
            assert (answer.status, (await answer.json())["code"]) == (403, "bearer_revoked")
        async with http.post(url, data=b"x" * (MAXIMUM_BYTES + 1)) as answer:
            assert answer.status == 413
        centre.base_url = "http://127.0.0.1:1"
        async with http.post(url, data=body) as answer:
            assert answer.status == 503
