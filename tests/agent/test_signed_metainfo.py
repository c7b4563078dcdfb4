"""Nothing is swarmed but by a statement of the control plane, and who hands out anything else is told of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.ledger import ContentKey
from agent.model import Content, DesiredState, Image, Provenance
from agent.offence import Offence, OffenceKind
from common.bittorrent.memory import Fault
from common.bittorrent.metainfo import parse
from common.content_statement import sign, statement_of
from common.digest import Digest
from proto.agent.v1 import agent_pb2
from proto.content.v1 import content_pb2
from tests.agent.lab import KEY_ID, PIECE, PUBLIC_KEY, SIGNING_KEY, Agent, FakeSource, Lab, metainfo_of, statement
from tests.agent.samples import assignment, content, noise
from tests.pace import BUSY_SECONDS

LARGE = noise(30 * PIECE + 99, "large")
TENANT = "tenant-1"
KEY: ContentKey = (TENANT, Digest.of(LARGE))
OTHER = noise(30 * PIECE + 99, "other")


@pytest.fixture
async def centre() -> AsyncIterator[FakeSource]:
    async with FakeSource() as source:
        source.hold(LARGE)
        yield source


@pytest.fixture
async def regional() -> AsyncIterator[FakeSource]:
    async with FakeSource() as source:
        source.hold(LARGE)
        yield source


@pytest.fixture
def lab(tmp_path: Path, centre: FakeSource, regional: FakeSource) -> Lab:
    return Lab(tmp_path, centre, regionals=[regional])


async def want(agent: Agent) -> Content:
    large = content(LARGE)
    await agent.assign(assignment(Image("acme/web", "1.4", large, ()), DesiredState.HELD))
    await agent.introduce_regionals()
    return large


async def fetch(agent: Agent, one: Content) -> bytes:
    async with asyncio.timeout(20):
        await agent.fetcher.fetch(one, TENANT)
    path = agent.cache.find(one.digest)
    assert path is not None
    return path.read_bytes()


def told(agent: Agent) -> list[Offence]:
    batch = agent.reporter.next_batch()
    return [one for one in batch.reports.values() if isinstance(one, Offence)] if batch is not None else []


def of_other_digest(_: bytes) -> str:
    return statement(metainfo_of(OTHER).encoded, TENANT)


def of_other_root(_: bytes) -> str:
    return sign(statement_of(TENANT, KEY[1], metainfo_of(OTHER)), KEY_ID, SIGNING_KEY)


def of_other_info_hash(_: bytes) -> str:
    return sign(statement_of(TENANT, KEY[1], metainfo_of(LARGE, b"another tenant's salt")), KEY_ID, SIGNING_KEY)


def of_other_tenant(encoded: bytes) -> str:
    return statement(encoded, "tenant-2")


def of_other_key(encoded: bytes) -> str:
    return statement(encoded, TENANT, Ed25519PrivateKey.generate())


def of_unknown_key(encoded: bytes) -> str:
    return sign(statement_of(TENANT, KEY[1], parse(encoded)), "gone", SIGNING_KEY)


def none(_: bytes) -> str:
    return ""


def garbage(_: bytes) -> str:
    return "garbage"


def truncated(encoded: bytes) -> str:
    return statement(encoded, TENANT)[:-1]


LIES = [
    of_other_digest, of_other_root, of_other_info_hash, of_other_tenant, of_other_key, of_unknown_key, none, garbage,
    truncated,
]  # fmt: skip


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
async def test_a_lie_is_refused_before_the_first_byte_and_the_next_source_is_asked(
    lab: Lab, regional: FakeSource, lie: Callable[[bytes], str]
) -> None:
    regional.state = lie  # type: ignore[method-assign]
    async with lab.open() as agent:
        large = await want(agent)
        found = await agent.fetcher.find_metainfo(large, KEY)
        assert found == metainfo_of(LARGE)  # the centre's
        assert agent.swarms.member(KEY) is None
        assert not regional.sent
        (offence,) = told(agent)
        assert (offence.kind, offence.source) == (OffenceKind.FALSE_METAINFO, regional.url)
        assert (offence.tenant_id, offence.digest) == KEY


async def test_the_right_statement_beside_another_metainfo_is_refused(lab: Lab, regional: FakeSource) -> None:
    true = statement(metainfo_of(LARGE).encoded, TENANT)
    regional.state = lambda _: true  # type: ignore[method-assign]
    regional.metainfos[str(KEY[1])] = metainfo_of(OTHER).encoded
    async with lab.open() as agent:
        assert await agent.fetcher.find_metainfo(await want(agent), KEY) == metainfo_of(LARGE)


async def test_where_all_lie_the_content_comes_by_http(lab: Lab, centre: FakeSource, regional: FakeSource) -> None:
    for source in (centre, regional):
        source.state = none  # type: ignore[method-assign]
    async with lab.open() as agent:
        large = await want(agent)
        assert await fetch(agent, large) == LARGE
        assert agent.swarms.metainfo(KEY) is None
        assert agent.ledger.provenance(*KEY) == Provenance(from_regional_bytes=len(LARGE))
        assert {one.source for one in told(agent)} == {centre.url, regional.url}


async def test_the_keys_of_the_last_welcome_verify_after_a_restart_without_the_centre(
    lab: Lab, centre: FakeSource
) -> None:
    keys = [content_pb2.VerifyingKey(key_id=KEY_ID, public_key_pem=PUBLIC_KEY)]
    async with lab.open() as agent:
        await agent.book.welcome(agent_pb2.Welcome(content_url=centre.url, verifying_keys=keys))
    await centre.stop()
    async with lab.open() as agent:
        agent.book.statements.replace_keys({})
        await agent.book.load()
        assert await agent.fetcher.find_metainfo(await want(agent), KEY) == metainfo_of(LARGE)


async def test_without_keys_nothing_is_swarmed(lab: Lab) -> None:
    async with lab.open() as agent:
        agent.book.statements.replace_keys({})
        assert await agent.fetcher.find_metainfo(await want(agent), KEY) is None


async def test_a_peer_that_sends_false_bytes_is_told_to_the_regional_and_to_the_centre(
    lab: Lab, centre: FakeSource, regional: FakeSource
) -> None:
    centre.leases = regional.leases = False
    liar = lab.swarm.session(fault=Fault.CORRUPT)
    lab.regional_peers.append(liar)
    await lab.seed(liar, LARGE)
    async with lab.open() as agent:
        large = await want(agent)
        assert await fetch(agent, large) == LARGE
        async with asyncio.timeout(BUSY_SECONDS):
            while not regional.accusations:  # noqa: ASYNC110  what the fake regional heard is looked at
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
        assert regional.accusations == [{"address": "127.0.0.1", "port": liar.listen_port}]
        (offence,) = told(agent)
        assert (offence.kind, offence.accused) == (OffenceKind.FALSE_BLOCK, "host/host-9")
        assert offence.source == f"127.0.0.1:{liar.listen_port}"
        received = agent.ledger.provenance(*KEY)
        assert received.from_regional_bytes + received.from_peers_bytes + received.from_centre_bytes >= len(LARGE)


async def test_an_offence_is_told_again_until_it_is_acknowledged_also_after_a_restart(
    lab: Lab, regional: FakeSource
) -> None:
    regional.state = none  # type: ignore[method-assign]
    async with lab.open() as agent:
        await agent.fetcher.find_metainfo(await want(agent), KEY)
        (offence,) = told(agent)
    async with lab.open() as agent:
        assert told(agent) == [offence]
        agent.reporter.acknowledged(1)
        assert told(agent) == []


async def test_what_is_told_in_an_hour_is_bounded(lab: Lab, regional: FakeSource) -> None:
    regional.state = none  # type: ignore[method-assign]
    async with lab.open() as agent:
        large = await want(agent)
        for _ in range(70):
            await agent.fetcher.find_metainfo(large, KEY)
        assert len(told(agent)) == 60
