"""Real processes: without a certificate of the tenant a peer gets nothing, and a revoked host gets no certificate."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from agent.journal import Journal
from benchmarks.spread import make_blob
from common.bittorrent import AGENT_FINGERPRINT, Torrent, metainfo
from common.bittorrent.credentials import Credentials
from common.bittorrent.libtorrent import LibtorrentSession
from common.bittorrent.metainfo import Metainfo
from common.swarm_certificate import signed_request
from common.swarm_certificate_client import SignerAnswer, send_request
from common.tls import Identity, new_key_and_request
from deploy.demo.fleet import Fleet, Node
from proto.agent.v1 import agent_pb2
from tests.conformance.peer_certificates import authority, credentials
from tests.processes.fleets import push_blob, remove_everything, request_everywhere, request_on, wait_verified

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]


@pytest.fixture
def fleet(shared_fleet: Fleet) -> Iterator[Fleet]:
    yield shared_fleet
    remove_everything(shared_fleet)


def ready(fleet: Fleet, name: str) -> int:
    port = json.loads((fleet.services[name].data / "ready.json").read_bytes())["peer_port"]
    assert isinstance(port, int)
    return port


def swarm_of(data: Path, digest: str) -> Metainfo:
    (path,) = (data / "swarm").glob(f"{digest.replace(':', '-')}.*")
    return metainfo.parse(path.read_bytes())


def shown_by(data: Path) -> Credentials:
    newest = max((data / "credentials").glob("*.crt"), key=lambda path: path.stat().st_mtime)
    return Credentials(newest.read_bytes(), (data / "credentials" / "key.pem").read_bytes())


async def join(swarm: Metainfo, folder: Path, shown: Credentials, ports: list[int], seconds: float) -> int:
    """How many bytes a peer with that certificate got from the peers on these ports."""
    await asyncio.to_thread(folder.mkdir)
    async with LibtorrentSession("127.0.0.1", 0, AGENT_FINGERPRINT, tls=True) as session:
        handle = await session.add(Torrent(swarm, folder, credentials=shown))
        for port in ports:
            await handle.connect_peer("127.0.0.1", port)
        await asyncio.wait([asyncio.ensure_future(handle.complete())], timeout=seconds)
        status = handle.status()
        return status.from_agents_bytes + status.from_regionals_bytes


def test_without_a_certificate_of_the_tenant_a_peer_gets_nothing(fleet: Fleet, tmp_path: Path) -> None:
    blob = make_blob(tmp_path / "blob", 9)
    push_blob(fleet, blob, "acme/secret:1")
    request_everywhere(fleet, "acme/secret:1")
    wait_verified(fleet)
    insider = fleet.services["east-1"].data
    swarm = swarm_of(insider, str(blob.digest))
    assert swarm.authority_pem
    ports = [ready(fleet, name) for name in ("east-1", "regional-east")]
    stranger = credentials(authority(), [swarm.name])
    assert asyncio.run(join(swarm, tmp_path / "outside", stranger, ports, 2)) == 0
    assert asyncio.run(join(swarm, tmp_path / "inside", shown_by(insider), ports, 30)) >= blob.size


def test_a_revoked_host_gets_no_new_certificate(fleet: Fleet, tmp_path: Path) -> None:
    blob = make_blob(tmp_path / "blob", 9)
    push_blob(fleet, blob, "acme/revoked:1")
    host = fleet.join_host(fleet.idcs[0], Node("east-7"))
    host.wait_ready()
    request_on(fleet, "acme/revoked:1", "east/east-7")
    wait_verified(fleet)
    assignments = asyncio.run(Journal(host.data / "journal").load_message("assignments", agent_pb2.AssignmentSet()))
    assert assignments is not None
    (image,) = [one.image for one in assignments.assignments]
    assert str(blob.digest) in [content.digest for content in image.contents]
    identity = Identity.load(host.data / "identity")
    assert identity is not None
    request = signed_request(identity, new_key_and_request()[1], [image.token], [blob.digest.hex]).encode()
    assert asyncio.run(ask(fleet.url, request)).status == 200
    fleet.client.delete("/api/v1/hosts/east/east-7")
    host.stop()
    assert asyncio.run(ask(fleet.url, request)).status == 403


async def ask(url: str, request: bytes) -> SignerAnswer:
    async with aiohttp.ClientSession() as session:
        return await send_request(session, url, True, request, 5)
