"""Whom a host asks for its swarm certificates, and for what."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec

from agent.content_http import Source
from agent.credentials import Questions, open_credentials
from agent.desired import DesiredBook
from agent.journal import Journal
from agent.model import Content
from common.bittorrent.credential_book import CredentialBook
from common.bittorrent.credential_keeper import NoCredentials
from common.bittorrent.credentials import PeerCertificate
from common.bittorrent.metainfo import Metainfo
from common.clock import SystemClock
from common.digest import Digest
from common.swarm_certificate import MAXIMUM_NAMES, PATH, CertificateRequest
from common.tls import Identity, Name, new_key_and_request
from control_plane.fleet.certificates import Signer, new_authority, requested_key
from tests.conformance.peer_certificates import HOUR, authority
from tests.conformance.peer_network import content, metainfo_of

TENANT = "tenant-1"
NAME = Name("east", "host", "host-1")
LARGE, SMALL = 8 << 20, 1000


class Trust:
    def regional(self) -> ssl.SSLContext:
        return ssl.create_default_context()

    centre = regional


class Signing:
    """A regional or the centre: signs what is asked, or answers with `status`."""

    def __init__(self) -> None:
        self.tenant = authority()
        self.requests: list[CertificateRequest] = []
        self.status = 200
        self.names: list[str] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        asked = CertificateRequest.decode(await request.read())
        self.requests.append(asked)
        if self.status != 200:
            return web.json_response({"code": "bearer_revoked", "detail": "it was revoked"}, status=self.status)
        now = SystemClock().now()
        pem = self.tenant.sign(self.names, requested_key(asked.csr_pem), now, now + HOUR)
        return web.json_response({"certificate": pem.decode()})


class Desired(DesiredBook):
    """Assignments without their wire form."""

    def __init__(self, directory: Path, contents: list[Content]) -> None:
        super().__init__(Journal(directory), "http://127.0.0.1:1")
        self.contents = {one.digest: one for one in contents}

    def assigned(self) -> dict[tuple[str, Digest], Content]:
        return {(TENANT, digest): one for digest, one in self.contents.items()}

    def token(self, tenant_id: str, digest: Digest) -> str:
        return self.contents[digest].token


@pytest.fixture
async def signing() -> AsyncIterator[Signing]:
    signing = Signing()
    app = web.Application()
    app.add_routes([web.post(PATH, signing.answer)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    signing.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield signing
    await runner.cleanup()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def signer() -> Signer:
    key = ec.generate_private_key(ec.SECP256R1())
    return Signer(new_authority(key, SystemClock().now()), key)


@pytest.fixture
def identity_dir(tmp_path: Path, signer: Signer) -> Path:
    key, request = new_key_and_request()
    issued = signer.member(NAME, requested_key(request), (), SystemClock().now(), HOUR)
    Identity(key, issued.pem, issued.pem).save(tmp_path / "identity")
    return tmp_path / "identity"


def described(number: int, size: int = LARGE) -> Content:
    return Content(Digest.of(b"%d" % number), size, "a layer", f"token-{number}")


def swarm_of(signing: Signing, one: Content) -> Metainfo:
    return replace(metainfo_of(content(), authority_pem=signing.tenant.pem), name=one.digest.hex)


async def test_one_question_names_what_is_wanted_and_all_that_will_be(
    signing: Signing, http: aiohttp.ClientSession, tmp_path: Path, identity_dir: Path, signer: Signer
) -> None:
    contents = [described(number) for number in range(120)] + [described(999, SMALL)]
    desired = Desired(tmp_path / "journal", contents)
    desired.centre_url = signing.url
    wanted = contents[115]
    signing.names = [one.digest.hex for one in contents]
    keeper = await open_credentials(
        tmp_path / "credentials", desired, identity_dir, http, Trust(), SystemClock(), lambda: 0.5
    )
    shown = await keeper.obtain(TENANT, swarm_of(signing, wanted))
    assert shown is not None
    assert PeerCertificate.read(shown.certificate_pem).covers(wanted.digest.hex)
    (request,) = signing.requests
    assert request.tokens[0] == wanted.token
    assert len(set(request.tokens)) == len(set(request.names)) == MAXIMUM_NAMES
    assert request.names[0] == wanted.digest.hex
    assert "token-999" not in request.tokens
    assert request.asker(signer.certificate, SystemClock().now()) == NAME
    # Everything else is covered too, and costs no further question.
    await keeper.obtain(TENANT, swarm_of(signing, contents[0]))
    assert len(signing.requests) == 1


async def test_one_token_for_many_contents_is_sent_once_with_the_names_that_are_meant(
    signing: Signing, http: aiohttp.ClientSession, tmp_path: Path, identity_dir: Path
) -> None:
    contents = [replace(described(number), token="shared") for number in range(20)]
    contents += [replace(described(number, SMALL), token="shared") for number in range(20, 32)]
    desired = Desired(tmp_path / "journal", contents)
    desired.centre_url = signing.url
    signing.names = [one.digest.hex for one in contents[:20]]
    keeper = await open_credentials(
        tmp_path / "credentials", desired, identity_dir, http, Trust(), SystemClock(), lambda: 0.5
    )

    await keeper.obtain(TENANT, swarm_of(signing, contents[7]))

    (request,) = signing.requests
    assert request.tokens == ("shared",)
    assert request.names[0] == contents[7].digest.hex
    assert set(request.names) == {one.digest.hex for one in contents[:20]}, "small ones have no swarm"


async def test_the_centre_is_asked_when_no_regional_answers(
    signing: Signing, http: aiohttp.ClientSession, tmp_path: Path, identity_dir: Path
) -> None:
    wanted = described(1)
    book = CredentialBook(tmp_path / "credentials", SystemClock())
    await book.load()
    signing.names = [wanted.digest.hex]
    sources = [Source("regional", "http://127.0.0.1:1"), Source("centre", signing.url)]
    desired = Desired(tmp_path / "journal", [wanted])
    questions = Questions(book, desired, identity_dir, http, Trust(), lambda: sources)
    assert b"BEGIN CERTIFICATE" in await questions.ask(TENANT, swarm_of(signing, wanted))


async def test_a_revoked_host_gets_none_and_is_told_why(
    signing: Signing, http: aiohttp.ClientSession, tmp_path: Path, identity_dir: Path
) -> None:
    wanted = described(1)
    desired = Desired(tmp_path / "journal", [wanted])
    desired.centre_url, signing.status = signing.url, 403
    keeper = await open_credentials(
        tmp_path / "credentials", desired, identity_dir, http, Trust(), SystemClock(), lambda: 0.5
    )
    with pytest.raises(NoCredentials, match="it was revoked"):
        await keeper.obtain(TENANT, swarm_of(signing, wanted))


async def test_a_host_without_an_identity_asks_nobody(
    signing: Signing, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    wanted = described(1)
    desired = Desired(tmp_path / "journal", [wanted])
    desired.centre_url = signing.url
    keeper = await open_credentials(
        tmp_path / "credentials", desired, tmp_path / "none", http, Trust(), SystemClock(), lambda: 0.5
    )
    with pytest.raises(NoCredentials, match="not enrolled"):
        await keeper.obtain(TENANT, swarm_of(signing, wanted))
    assert signing.requests == []
