"""Who gets which certificate for a tenant's swarms."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.applications import Starlette

from common.bittorrent import metainfo
from common.bittorrent.credentials import Credentials, PeerCertificate, check_pair
from common.clock import ManualClock
from common.content_token import MOST_DIGESTS
from common.digest import Digest
from common.swarm_certificate import MAXIMUM_BYTES, PATH, CertificateRequest, signed_request
from common.tls import Identity, Name, new_key_and_request
from control_plane.database import Database
from control_plane.fleet.certificates import Signer, new_authority, requested_key
from control_plane.fleet.hosts import Members
from control_plane.sealing import SealBroken, SealedBox
from control_plane.sealing.keyring import KeyRing
from control_plane.swarm.access import ContentAccess
from control_plane.swarm.authorities import SwarmAuthorities
from control_plane.swarm.certificate_routes import CertificateRoutes
from control_plane.swarm.describe import Describer
from control_plane.swarm.keys import ContentKeys
from control_plane.swarm.minting import CertificateMint
from control_plane.swarm.tokens import ContentTokens
from control_plane.web.errors import install_error_handlers
from tests.control_plane.swarm.parts import Shelf, revoke_host

pytestmark = pytest.mark.usefixtures("fleet")

BLOB = bytes(range(256)) * (5 << 10)
FIRST, SECOND = Digest.of(b"first"), Digest.of(b"second")
LIFE = timedelta(hours=12)


class Asker:
    """A process with an identity of the fleet's authority, and its requests."""

    def __init__(self, signer: Signer, clock: ManualClock, name: Name) -> None:
        self.key, csr = new_key_and_request()
        issued = signer.member(name, requested_key(csr), (), clock.now(), timedelta(hours=48))
        self.identity = Identity(self.key, issued.pem, b"")
        self.peer_key, self.csr = new_key_and_request()

    def asks(self, *tokens: str, names: Sequence[str] = ()) -> bytes:
        return signed_request(self.identity, self.csr, tokens, names).encode()


@pytest.fixture
def fleet_signer(clock: ManualClock) -> Signer:
    key = ec.generate_private_key(ec.SECP256R1())
    return Signer(new_authority(key, clock.now()), key)


@pytest.fixture
def authorities(database: Database, box: SealedBox) -> SwarmAuthorities:
    return SwarmAuthorities(database, box)


@pytest.fixture
async def client(
    authorities: SwarmAuthorities, members: Members, tokens: ContentTokens, clock: ManualClock, fleet_signer: Signer
) -> AsyncIterator[httpx.AsyncClient]:
    access = ContentAccess(tokens, members, clock)
    mint = CertificateMint(access, authorities, fleet_signer.certificate, clock, LIFE)
    app = Starlette(routes=CertificateRoutes(mint).routes())
    install_error_handlers(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://centre") as client:
        yield client


@pytest.fixture
def host(fleet_signer: Signer, clock: ManualClock) -> Asker:
    return Asker(fleet_signer, clock, Name("east", "host", "host-e1"))


@pytest.fixture
def regional(fleet_signer: Signer, clock: ManualClock) -> Asker:
    return Asker(fleet_signer, clock, Name("east", "regional", "regional-er"))


def token(
    tokens: ContentTokens,
    digest: Digest = FIRST,
    bearer: str = "host/host-e1",
    idc: str = "east",
    tenant: str = "t-acme",
) -> str:
    return tokens.mint(bearer, idc, tenant, digest)


def minted(answer: httpx.Response) -> PeerCertificate:
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return PeerCertificate.read(answer.json()["certificate"].encode())


async def refusal(client: httpx.AsyncClient, body: bytes) -> tuple[int, str]:
    answer = await client.post(PATH, content=body)
    return answer.status_code, answer.json()["code"]


async def test_a_host_gets_one_certificate_for_all_contents_it_may_read(
    client: httpx.AsyncClient, host: Asker, tokens: ContentTokens, authorities: SwarmAuthorities, clock: ManualClock
) -> None:
    answer = await client.post(PATH, content=host.asks(token(tokens), token(tokens, SECOND)))
    got = minted(answer)
    assert got.names == {FIRST.hex, SECOND.hex}
    assert got.is_signed_by((await authorities.of("t-acme")).pem)
    assert not got.is_signed_by((await authorities.of("t-globex")).pem)
    assert got.ends_at == clock.now() + LIFE
    check_pair(Credentials(answer.json()["certificate"].encode(), host.peer_key))


async def test_a_hundred_contents_cost_one_request(
    client: httpx.AsyncClient, host: Asker, tokens: ContentTokens
) -> None:
    digests = [Digest.of(bytes([number])) for number in range(100)]
    body = host.asks(*(token(tokens, digest) for digest in digests))
    assert len(body) < MAXIMUM_BYTES
    assert minted(await client.post(PATH, content=body)).names == {digest.hex for digest in digests}


async def test_of_a_token_for_many_contents_a_host_gets_the_names_that_it_means(
    client: httpx.AsyncClient, host: Asker, tokens: ContentTokens
) -> None:
    digests = [Digest.of(bytes([number])) for number in range(MOST_DIGESTS)]
    mint = tokens.minting("host/host-e1", "east", "t-acme")
    shared = mint(digests)
    meant = [digests[3].hex, digests[31].hex, SECOND.hex]
    assert minted(await client.post(PATH, content=host.asks(shared, names=meant))).names == set(meant[:2])
    assert minted(await client.post(PATH, content=host.asks(shared))).names == {digest.hex for digest in digests}
    assert await refusal(client, host.asks(shared, names=[SECOND.hex])) == (403, "no_swarm_right")


async def test_tokens_for_more_contents_than_a_certificate_names_must_say_which(
    client: httpx.AsyncClient, host: Asker, tokens: ContentTokens
) -> None:
    digests = [Digest.of(b"%d" % number) for number in range(100 * MOST_DIGESTS)]
    mint = tokens.minting("host/host-e1", "east", "t-acme")
    shared = [mint(digests[start : start + MOST_DIGESTS]) for start in range(0, len(digests), MOST_DIGESTS)]
    assert await refusal(client, host.asks(*shared)) == (400, "certificate_request_invalid")
    body = host.asks(*shared, names=[digest.hex for digest in digests[::32]])
    assert len(body) < MAXIMUM_BYTES
    assert minted(await client.post(PATH, content=body)).names == {digest.hex for digest in digests[::32]}


async def test_a_regional_gets_a_star_for_its_own_or_its_hosts_tokens(
    client: httpx.AsyncClient, regional: Asker, tokens: ContentTokens
) -> None:
    for bearer in ("regional/regional-er", "host/host-e1"):
        answer = await client.post(PATH, content=regional.asks(token(tokens, bearer=bearer)))
        assert minted(answer).names == {"*"}
    foreign = regional.asks(token(tokens, bearer="host/host-w1", idc="west"))
    assert await refusal(client, foreign) == (403, "no_swarm_right")


async def test_tokens_that_are_not_good_are_left_out(
    client: httpx.AsyncClient, host: Asker, tokens: ContentTokens
) -> None:
    body = host.asks("no token", token(tokens, SECOND, bearer="host/host-e2"), token(tokens))
    assert minted(await client.post(PATH, content=body)).names == {FIRST.hex}


async def test_no_certificate_outlives_its_token(
    client: httpx.AsyncClient, host: Asker, tokens: ContentTokens, clock: ManualClock
) -> None:
    made_at, body = clock.now(), host.asks(token(tokens))
    clock.tick(30 * 3600)
    assert minted(await client.post(PATH, content=body)).ends_at == made_at + timedelta(hours=36)
    clock.tick(6 * 3600 + 60)
    assert await refusal(client, body) == (403, "no_swarm_right")  # a read would have been let through, by leeway
    clock.tick(3600)
    assert await refusal(client, body) == (401, "token_expired")


async def test_an_expired_identity_proves_nothing(
    client: httpx.AsyncClient, host: Asker, tokens: ContentTokens, clock: ManualClock
) -> None:
    clock.tick(49 * 3600)
    assert await refusal(client, host.asks(token(tokens))) == (401, "identity_unproven")


async def test_a_stolen_token_buys_nothing(
    client: httpx.AsyncClient, host: Asker, tokens: ContentTokens, fleet_signer: Signer, clock: ManualClock
) -> None:
    thief = Asker(fleet_signer, clock, Name("east", "host", "host-e2"))
    assert await refusal(client, thief.asks(token(tokens))) == (403, "no_swarm_right")
    stranger_key = ec.generate_private_key(ec.SECP256R1())
    stranger = Asker(
        Signer(new_authority(stranger_key, clock.now()), stranger_key), clock, Name("east", "host", "host-e1")
    )
    assert await refusal(client, stranger.asks(token(tokens))) == (401, "identity_unproven")
    # Passed on with the thief's own key in it.
    genuine = CertificateRequest.decode(host.asks(token(tokens)))
    swapped = CertificateRequest(thief.csr, genuine.tokens, genuine.identity_pem, genuine.signature)
    assert await refusal(client, swapped.encode()) == (401, "identity_unproven")


async def test_a_revoked_host_gets_no_new_certificate(
    client: httpx.AsyncClient, host: Asker, regional: Asker, tokens: ContentTokens, database: Database
) -> None:
    minted(await client.post(PATH, content=host.asks(token(tokens))))
    await revoke_host(database, "host-e1")
    assert await refusal(client, host.asks(token(tokens))) == (403, "bearer_revoked")
    # Nor through the regional, by its token.
    assert await refusal(client, regional.asks(token(tokens))) == (403, "bearer_revoked")


async def test_a_request_is_of_one_tenant_and_says_what_it_must(
    client: httpx.AsyncClient, host: Asker, tokens: ContentTokens
) -> None:
    mixed = host.asks(token(tokens), token(tokens, tenant="t-globex"))
    assert await refusal(client, mixed) == (400, "tenants_mixed")
    for body in (b"", b"[]", b"{}", b'{"tokens": 1}', host.asks()):
        assert await refusal(client, body) == (400, "certificate_request_invalid")
    assert (await client.post(PATH, content=b"x" * (MAXIMUM_BYTES + 1))).status_code == 413


async def test_without_tls_there_are_no_certificates(host: Asker, tokens: ContentTokens) -> None:
    app = Starlette(routes=CertificateRoutes(None).routes())
    install_error_handlers(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://centre") as client:
        assert await refusal(client, host.asks(token(tokens))) == (404, "swarms_plain")


async def test_all_replicas_sign_with_one_sealed_authority(
    database: Database, box: SealedBox, clock: ManualClock
) -> None:
    one, other = SwarmAuthorities(database, box), SwarmAuthorities(database, box)
    made = await one.of("t-acme")
    assert (await other.of("t-acme")).pem == made.pem == await one.certificate_of("t-acme")
    assert (await other.of("t-acme")).key.public_key() == made.key.public_key()
    stranger = SwarmAuthorities(database, SealedBox(KeyRing({b"87654321": bytes(32)})))
    with pytest.raises(SealBroken):
        await stranger.of("t-acme")


async def test_the_authority_makes_a_tenants_swarm_its_own(
    database: Database, shelf: Shelf, keys: ContentKeys, authorities: SwarmAuthorities
) -> None:
    digest = shelf.put(BLOB).digest
    describer = Describer(database, shelf, keys.swarm_secret, authorities.certificate_of)
    ours, theirs = [await describer.describe(tenant, digest) for tenant in ("t-acme", "t-globex")]
    parsed = metainfo.parse(ours.encoded)
    assert parsed.authority_pem == (await authorities.of("t-acme")).pem
    assert metainfo.parse(theirs.encoded).authority_pem != parsed.authority_pem
    assert parsed.info_hash == ours.info_hash != theirs.info_hash
