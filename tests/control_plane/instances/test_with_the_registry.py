"""From a push to the bytes on a host, over the real registry and real jobs; only agent and regional are played."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from common.bittorrent import metainfo
from common.clock import ManualClock
from common.digest import Digest
from control_plane.audit.service import AuditTrail
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.database import Database
from control_plane.fleet.assigning import LayeredAssignments
from control_plane.fleet.hosts import Members
from control_plane.instances.model import Phase
from control_plane.instances.reading import InstanceReading
from control_plane.instances.service import InstanceService
from control_plane.jobs.service import JobService
from control_plane.jobs.worker import Worker
from control_plane.queues.memory import MemoryQueue
from control_plane.registry.manifests import OCI_MANIFEST
from control_plane.registry.service import RegistryService
from control_plane.swarm import queries
from control_plane.swarm.access import ContentAccess
from control_plane.swarm.bad_peers import BadPeers
from control_plane.swarm.content_routes import ContentRoutes
from control_plane.swarm.describe import Describer
from control_plane.swarm.egress import EgressCounter
from control_plane.swarm.forgetting import Forgetting
from control_plane.swarm.jobs import build_handlers
from control_plane.swarm.keys import ContentKeys
from control_plane.swarm.provenance_metrics import SwarmMetrics
from control_plane.swarm.service import SwarmService
from control_plane.swarm.statements import Statements
from control_plane.swarm.tokens import ContentTokens
from control_plane.tenants.access import Principal, Role
from control_plane.web.errors import install_error_handlers
from tests.control_plane.instances.parts import holds, run_request, said
from tests.control_plane.registry.people import image_manifest
from tests.control_plane.registry.pushing import push_blob
from tests.control_plane.swarm.parts import Tenants

pytestmark = pytest.mark.usefixtures("fleet")

OPERATOR = Principal("u-1", "olga", roles={"acme": Role.OPERATOR})
CONFIG = b'{"architecture":"amd64","os":"linux"}'
LAYER = bytes(range(256)) * (5 << 12)  # 5 MiB: large enough for a swarm


@pytest.fixture
def blobs(clock: ManualClock) -> MemoryBlobStore:
    return MemoryBlobStore(clock)


@pytest.fixture
def registry(database: Database, blobs: MemoryBlobStore, tenants: Tenants, clock: ManualClock) -> RegistryService:
    return RegistryService(database, blobs, tenants, clock)


@pytest.fixture
def queue() -> MemoryQueue:
    return MemoryQueue()


@pytest.fixture
def swarm(
    database: Database, tokens: ContentTokens, registry: RegistryService, queue: MemoryQueue, clock: ManualClock
) -> SwarmService:
    return SwarmService(
        database, tokens, registry, JobService(database, queue, clock), SwarmMetrics(CollectorRegistry())
    )


@pytest.fixture
def service(
    database: Database,
    clock: ManualClock,
    registry: RegistryService,
    tenants: Tenants,
    swarm: SwarmService,
    reading: InstanceReading,
) -> InstanceService:
    return InstanceService(database, clock, registry, tenants, swarm, reading)


@pytest.fixture
def worker(
    database: Database,
    queue: MemoryQueue,
    registry: RegistryService,
    keys: ContentKeys,
    tenants: Tenants,
    clock: ManualClock,
) -> Worker:
    describer = Describer(database, registry, keys.swarm_secret)
    bad_peers = BadPeers(database, AuditTrail(database, clock), tenants, SwarmMetrics(CollectorRegistry()))
    forgetting = Forgetting(database, registry.contents)
    return Worker(database, queue, build_handlers(describer, keys, bad_peers, forgetting), clock)


@pytest.fixture
async def centre(
    tokens: ContentTokens,
    keys: ContentKeys,
    members: Members,
    registry: RegistryService,
    swarm: SwarmService,
    egress: EgressCounter,
    clock: ManualClock,
) -> AsyncIterator[httpx.AsyncClient]:
    routes = ContentRoutes(ContentAccess(tokens, members, clock), registry, swarm, Statements(keys), egress).routes()
    app = Starlette(routes=routes)
    install_error_handlers(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://centre") as client:
        yield client


async def push(registry: RegistryService) -> bytes:
    for data in (CONFIG, LAYER):
        await push_blob(registry, data, "acme/web", OPERATOR)
    payload = image_manifest(CONFIG, [LAYER])
    await registry.images.push(OPERATOR, "acme/web", payload, OCI_MANIFEST, tags=["1.4"])
    return payload


async def test_what_was_pushed_reaches_the_host_that_should_run_it(
    registry: RegistryService,
    service: InstanceService,
    assignments: LayeredAssignments,
    reading: InstanceReading,
    swarm: SwarmService,
    worker: Worker,
    centre: httpx.AsyncClient,
    egress: EgressCounter,
    database: Database,
) -> None:
    manifest = await push(registry)
    (view,) = await service.run(OPERATOR, run_request("east/e1"))
    assert view.instance.image.manifest.digest == Digest.of(manifest)
    assert await worker.run_waiting() == 1
    (assignment,) = (await assignments.assignments("host-e1")).assignments.values()
    fetched = {}
    for content in (assignment.image.manifest, *assignment.image.contents):
        answer = await centre.get(f"/content/v1/{content.digest}", headers={"Authorization": f"Bearer {content.token}"})
        assert answer.status_code == 200
        assert len(answer.content) == content.size_bytes
        fetched[content.digest] = answer.content
    assert list(fetched.values()) == [manifest, CONFIG, LAYER]
    (order,) = [
        one
        for one in (await swarm.orders("idc-east", "regional-er")).orders.values()
        if one.content.digest == str(Digest.of(LAYER))
    ]
    described = await centre.get(
        f"/content/v1/{order.content.digest}/metainfo", headers={"Authorization": f"Bearer {order.content.token}"}
    )
    assert metainfo.parse(described.content).name == Digest.of(LAYER).hex
    await assignments.accept_reports(
        "host-e1",
        [said(view.instance.id)],
        [holds(digest, len(data), from_centre_bytes=len(data)) for digest, data in fetched.items()],
    )
    shown = await reading.get(OPERATOR, view.instance.id)
    assert (shown.status.phase, shown.holdings.verified) == (Phase.RUNNING, True)
    total = sum(len(data) for data in fetched.values())
    assert shown.holdings.held_bytes == shown.holdings.from_centre_bytes == total
    await egress.flush()
    async with database.reading() as connection:
        assert await queries.egress_totals(connection, None) == {"east": total}


async def test_a_blob_that_lost_bytes_is_neither_described_nor_served(
    registry: RegistryService,
    service: InstanceService,
    assignments: LayeredAssignments,
    blobs: MemoryBlobStore,
    worker: Worker,
    centre: httpx.AsyncClient,
) -> None:
    await push(registry)
    blobs.damage(Digest.of(LAYER), LAYER[:-1])
    await service.run(OPERATOR, run_request("east/e1"))
    assert await worker.run_waiting() == 1
    (assignment,) = (await assignments.assignments("host-e1")).assignments.values()
    layer = assignment.image.contents[1]
    for path in (f"/content/v1/{layer.digest}", f"/content/v1/{layer.digest}/metainfo"):
        answer = await centre.get(path, headers={"Authorization": f"Bearer {layer.token}"})
        assert answer.json()["code"] in ("blob_damaged", "blob_missing", "content_corrupted")


async def test_what_instances_are_made_of_is_known_until_they_are_gone(
    registry: RegistryService, service: InstanceService, reading: InstanceReading
) -> None:
    manifest = Digest.of(await push(registry))
    assert await reading.running_images("acme/web") == set()
    (view,) = await service.run(OPERATOR, run_request("east/e1"))
    assert await reading.running_images("acme/web") == {manifest}
    assert await reading.running_images("acme/api") == set()
    await service.stop(OPERATOR, view.instance.id)
    assert await reading.running_images("acme/web") == {manifest}
