"""A swarm over real tables, real keys and tokens, with the neighbouring domains standing in."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from common.clock import ManualClock
from control_plane.audit.service import AuditTrail
from control_plane.database import Database
from control_plane.fleet.hosts import Members
from control_plane.fleet.liveness import horizons
from control_plane.jobs.service import JobService
from control_plane.queues.memory import MemoryQueue
from control_plane.sealing import SealedBox
from control_plane.sealing.keyring import KeyRing
from control_plane.swarm.bad_peers import BadPeers
from control_plane.swarm.describe import Describer
from control_plane.swarm.egress import EgressCounter
from control_plane.swarm.forgetting import Forgetting
from control_plane.swarm.keys import ContentKeys
from control_plane.swarm.provenance_metrics import SwarmMetrics
from control_plane.swarm.service import SwarmService
from control_plane.swarm.tokens import ContentTokens
from tests.control_plane.swarm.parts import Shelf, Tenants, add_host, add_idc, add_regional


def ring() -> KeyRing:
    return KeyRing({b"12345678": bytes(range(32))})


@pytest.fixture
def box() -> SealedBox:
    return SealedBox(ring())


@pytest.fixture
async def keys(database: Database, box: SealedBox, clock: ManualClock) -> ContentKeys:
    keys = ContentKeys(database, box, clock)
    await keys.load()
    return keys


@pytest.fixture
def tokens(keys: ContentKeys, clock: ManualClock) -> ContentTokens:
    return ContentTokens(keys, clock)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def jobs(database: Database, clock: ManualClock) -> JobService:
    return JobService(database, MemoryQueue(), clock)


@pytest.fixture
def members(database: Database, clock: ManualClock) -> Members:
    return Members(database, clock, horizons(clock, 10, 30))


@pytest.fixture
def tenants() -> Tenants:
    return Tenants("acme", "globex")


@pytest.fixture
def metrics() -> SwarmMetrics:
    return SwarmMetrics(CollectorRegistry())


@pytest.fixture
def swarm(
    database: Database, tokens: ContentTokens, shelf: Shelf, jobs: JobService, metrics: SwarmMetrics
) -> SwarmService:
    return SwarmService(database, tokens, shelf, jobs, metrics, smallest_bytes=1 << 20)


@pytest.fixture
def trail(database: Database, clock: ManualClock) -> AuditTrail:
    return AuditTrail(database, clock)


@pytest.fixture
def bad_peers(database: Database, trail: AuditTrail, tenants: Tenants, metrics: SwarmMetrics) -> BadPeers:
    return BadPeers(database, trail, tenants, metrics)


@pytest.fixture
def describer(database: Database, shelf: Shelf, keys: ContentKeys) -> Describer:
    return Describer(database, shelf, keys.swarm_secret)


@pytest.fixture
def forgetting(database: Database, shelf: Shelf) -> Forgetting:
    return Forgetting(database, shelf)


@pytest.fixture
def egress(database: Database, clock: ManualClock) -> EgressCounter:
    return EgressCounter(database, clock)


@pytest.fixture
async def fleet(database: Database) -> None:
    """IDC east with hosts e1, e2 and regional er; IDC west with host w1 and regional wr."""
    for idc, regional, members in (("east", "er", ("e1", "e2")), ("west", "wr", ("w1",))):
        await add_idc(database, idc)
        await add_regional(database, idc, regional)
        for name in members:
            await add_host(database, idc, name)
