from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from common.clock import ManualClock
from control_plane.cache.memory import MemoryCache
from control_plane.database import Database
from control_plane.fleet import store_members
from control_plane.fleet.host_facts import recorded_facts
from control_plane.fleet.host_looks import HostLooks, SampleUnknown
from control_plane.fleet.hosts import Members
from control_plane.fleet.liveness import horizons
from control_plane.fleet.model import Host
from control_plane.fleet.sample_routes import build_router, moment_of
from control_plane.web.errors import install_error_handlers
from proto.agent.v1 import agent_pb2
from tests.control_plane.fleet.edge import Edge, eventually
from tests.control_plane.fleet.plane import Names, Plane
from tests.control_plane.swarm.parts import add_host, add_idc

FACTS = agent_pb2.HostFacts(
    hostname="e1",
    architecture="amd64",
    kernel="6.1.0",
    boot_id="b-1",
    memory_bytes=1 << 34,
    processor=agent_pb2.Processor(model="EPYC", threads=2, flags=["x86-64-v3"]),
    disks=[agent_pb2.Disk(name="sda", size_bytes=1 << 40, rotational=True)],
    interfaces=[agent_pb2.NetworkInterface(name="eth0", mac="02:00:00:00:00:01", addresses=["192.0.2.1/24"], up=True)],
    engines=[agent_pb2.Engine(kind="docker", version="29.0", storage_driver="overlayfs")],
)


@contextlib.contextmanager
def written(database: Database) -> Iterator[list[str]]:
    """Statements that change rows of hosts."""
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if "hosts" in statement and not statement.lstrip().upper().startswith("SELECT"):
            seen.append(statement)

    engine = database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


async def facts_of(database: Database, host_id: str) -> dict[str, object]:
    async with database.reading() as connection:
        found = await store_members.find_member(connection, "host", host_id)
    assert isinstance(found, Host)
    return dict(found.facts)


async def test_what_changes_while_attached_is_written_once_and_samples_never(
    plane: Plane, edge: Callable[..., Edge]
) -> None:
    agent = edge("e1")
    await agent.enrol(await plane.join_token())
    async with agent.attached():
        await eventually(lambda: agent.sender is not None)
        assert agent.sender is not None
        agent.sender.send(agent_pb2.AgentMessage(facts=FACTS))

        async def told() -> bool:
            return (await facts_of(plane.database, agent.id)).get("kernel") == "6.1.0"

        await eventually(told)
        with written(plane.database) as statements:
            agent.sender.send(agent_pb2.AgentMessage(facts=FACTS))
            agent.sender.send(agent_pb2.AgentMessage(sample=agent_pb2.Sample(taken_at_ms=5, busy_cpus=1.5)))

            async def sampled() -> bool:
                with contextlib.suppress(SampleUnknown):
                    return (await plane.looks.latest(agent.id)).busy_cpus == 1.5
                return False

            await eventually(sampled)
            assert [one for one in statements if "facts" in one] == []


@pytest.fixture
async def host_id(database: Database) -> str:
    await add_idc(database, "east")
    await add_host(database, "east", "e1")
    return "host-e1"


@pytest.fixture
def looks(database: Database, cache: MemoryCache) -> HostLooks:
    return HostLooks(database, cache)


@pytest.fixture
async def client(database: Database, clock: ManualClock, looks: HostLooks) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    app.include_router(build_router(Members(database, clock, horizons(clock, 10.0, 0.0)), looks))
    app.state.authenticator = Names()
    install_error_handlers(app)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://centre.example") as made:
        yield made


async def test_facts_are_recorded_whole(database: Database, looks: HostLooks, host_id: str) -> None:
    await looks.facts(host_id, FACTS)
    facts = await facts_of(database, host_id)
    assert facts == recorded_facts(FACTS)
    assert facts["processor"] == {"model": "EPYC", "sockets": 0, "cores": 0, "threads": 2, "flags": ["x86-64-v3"]}
    assert facts["engines"] == [{"kind": "docker", "version": "29.0", "storage_driver": "overlayfs"}]
    await looks.facts("nobody", FACTS)  # revoked meanwhile


async def test_how_busy_a_host_was_is_known_for_a_while(
    looks: HostLooks, host_id: str, client: httpx.AsyncClient, clock: ManualClock
) -> None:
    use = agent_pb2.InstanceSample(instance_id="i-1", cpu_seconds=3.5, memory_bytes=7)
    sample = agent_pb2.Sample(taken_at_ms=1_767_225_600_000, busy_cpus=0.5, memory_used_bytes=9, instances=[use])
    assert (await client.get("/api/v1/hosts/east/e1/metrics", headers={"Authorization": "admin"})).status_code == 404
    await looks.sample(host_id, sample)
    answer = await client.get("/api/v1/hosts/east/e1/metrics", headers={"Authorization": "admin"})
    assert answer.status_code == 200
    shown = answer.json()["data"]
    assert (shown["taken_at"], shown["busy_cpus"], shown["instances"]) == ("2026-01-01T00:00:00Z", 0.5, 1)
    assert (await looks.latest_of(host_id, "i-1")).use.cpu_seconds == 3.5
    with pytest.raises(SampleUnknown):
        await looks.latest_of(host_id, "i-2")
    assert (await client.get("/api/v1/hosts/east/none/metrics", headers={"Authorization": "admin"})).status_code == 404
    assert (await client.get("/api/v1/hosts/east/e1/metrics")).status_code == 401
    clock.tick(181)
    with pytest.raises(SampleUnknown):
        await looks.latest(host_id)


async def test_nonsense_in_a_sample_is_shown_as_nothing(
    looks: HostLooks, host_id: str, client: httpx.AsyncClient
) -> None:
    sample = agent_pb2.Sample(taken_at_ms=(1 << 64) - 1, busy_cpus=math.nan, load_1m=math.inf)
    await looks.sample(host_id, sample)
    answer = await client.get("/api/v1/hosts/east/e1/metrics", headers={"Authorization": "admin"})
    assert answer.status_code == 200
    assert (answer.json()["data"]["busy_cpus"], answer.json()["data"]["load_1m"]) == (0.0, 0.0)


async def test_a_sample_that_is_too_large_is_not_kept(looks: HostLooks, host_id: str) -> None:
    many = [agent_pb2.InstanceSample(instance_id=f"{number:036}") for number in range(10_000)]
    await looks.sample(host_id, agent_pb2.Sample(instances=many))
    with pytest.raises(SampleUnknown):
        await looks.latest(host_id)


@given(st.binary(max_size=300))
def test_whatever_a_host_says_of_itself_is_bounded(data: bytes) -> None:
    facts = agent_pb2.HostFacts()
    with contextlib.suppress(Exception):
        facts.ParseFromString(data)
    facts.hostname = "h\0" * 1000
    facts.memory_bytes = (1 << 64) - 1
    for _ in range(200):
        facts.disks.add(name="d" * 300)
    recorded = recorded_facts(facts)
    assert len(recorded["hostname"]) == 255
    assert "\0" not in recorded["hostname"]
    assert recorded["memory_bytes"] < 1 << 63
    assert len(recorded["disks"]) == 64


@given(st.integers(0, (1 << 64) - 1))
def test_any_clock_has_a_moment(milliseconds: int) -> None:
    assert moment_of(milliseconds).year >= 1970
