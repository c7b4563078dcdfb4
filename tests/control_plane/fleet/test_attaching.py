"""The long stream from end to end: real agents' code against a real control plane on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, select

from common.attachment import Dialect, Sender
from common.discovery import keys
from common.discovery.memory import MemoryRegistry
from common.errors import Denied, Internal, Invalid, Stale, Unavailable
from common.generations import HeldSet
from common.patience import OutboxOverflow, RoundEnded
from control_plane.database.outbox import outbox
from control_plane.fleet.dialects import RegionalDialect
from control_plane.fleet.leases import follow_leases
from control_plane.fleet.liveness import Horizon, horizon, silence_limit
from control_plane.fleet.session import QUEUE_CAPACITY
from proto.agent.v1 import agent_pb2
from tests.control_plane.fleet.edge import Edge, agent_dialect, eventually, regional_dialect
from tests.control_plane.fleet.plane import PUBLIC_KEY, TEMPO, Plane, unavailable

MakeEdge = Callable[..., Edge]


@pytest.fixture
async def agent(plane: Plane, edge: MakeEdge) -> Edge:
    """An enrolled host `east/e1`."""
    made = edge("e1")
    await made.enrol(await plane.join_token())
    return made


async def test_a_stream_begins_with_welcome_regionals_limits_and_the_full_set(plane: Plane, agent: Edge) -> None:
    await plane.desired.assign(agent.id, web=1, db=3)

    async with agent.attached():
        welcome = agent.received[0].welcome
        assert agent.bodies()[:4] == ["welcome", "regionals", "limits", "set"]
        assert (welcome.host_id, welcome.idc, welcome.heartbeat_seconds) == (agent.id, "east", 0.5)
        assert welcome.smallest_swarm_bytes == 4 << 20
        assert {name: found.generation for name, found in agent.held.items.items()} == {"web": 1, "db": 3}
        assert await plane.state("east/e1") == "online"

    await eventually(lambda: _is(plane, "offline"))


async def test_a_change_arrives_as_a_change_that_applies_to_what_is_held(plane: Plane, agent: Edge) -> None:
    await plane.desired.assign(agent.id, web=1, db=1)
    async with agent.attached():
        generation = await plane.desired.assign(agent.id, web=2, db=None)
        await eventually(lambda: agent.held.generation == generation)

    changes = next(found.changes for found in agent.received if found.HasField("changes"))
    assert [found.instance_id for found in changes.changed] == ["web"]
    assert list(changes.removed) == ["db"]
    assert list(agent.held.items) == ["web"]


async def test_a_change_whose_announcement_was_lost_is_found_by_asking(plane: Plane, agent: Edge) -> None:
    async with agent.attached():
        generation = await plane.desired.assign(agent.id, announce=False, web=1)
        await plane.fleet.watch._poll()
        await eventually(lambda: agent.held.generation == generation)


async def test_a_hundred_changes_at_once_end_in_the_last_one(plane: Plane, agent: Edge) -> None:
    async with agent.attached():
        for number in range(100):
            generation = await plane.desired.assign(agent.id, **{f"i{number % 7}": number})
        await eventually(lambda: agent.held.generation == generation)
        assert agent.held.items == plane.desired.wanted[agent.id]


async def test_a_gap_ends_the_round_and_the_next_one_begins_with_a_full_set(plane: Plane, agent: Edge) -> None:
    await plane.desired.assign(agent.id, web=1)
    async with asyncio.timeout(20):
        async with agent.attached(forever=True):
            agent.held.generation = 1_000  # as if a change was lost on the way
            generation = await plane.desired.assign(agent.id, db=1)
            await eventually(lambda: agent.held.generation == generation)

    assert agent.bodies().count("set") == 2
    assert agent.held.items.keys() == {"web", "db"}


async def test_a_gap_is_named_to_whoever_watches_one_round(plane: Plane, agent: Edge) -> None:
    async with agent.attached():
        agent.held.generation = 1_000
        await plane.desired.assign(agent.id, db=1)
        await eventually(lambda: agent.failures)

    assert isinstance(agent.failures[0], Stale)


async def test_reports_are_acknowledged_only_after_they_were_accepted(plane: Plane, agent: Edge) -> None:
    plane.desired.accepting.clear()
    async with agent.attached():
        agent.report(7, "web")
        await _heartbeats(2)
        assert agent.acknowledged() == []

        plane.desired.accepting.set()
        await eventually(lambda: agent.acknowledged() == [7])

    assert [found.instance_id for found in plane.desired.accepted] == ["web"]


async def test_a_database_that_is_away_for_a_moment_ends_no_stream(plane: Plane, agent: Edge) -> None:
    async with agent.attached():
        plane.desired.failures = [unavailable(), unavailable()]
        agent.report(1, "web")
        await eventually(lambda: agent.acknowledged() == [1])
        plane.desired.failures = [unavailable()]
        generation = await plane.desired.assign(agent.id, web=1)
        await eventually(lambda: agent.held.generation == generation)

    assert agent.failures == []
    assert len(plane.desired.accepted) == 1


async def test_a_database_that_is_away_at_the_start_is_told_as_such(plane: Plane, agent: Edge) -> None:
    plane.desired.failures = [unavailable()]

    failure = await agent.round()

    assert isinstance(failure, Unavailable)
    assert failure.detail == "the database is away"


async def test_a_defect_in_the_plane_shows_nothing_of_its_insides(plane: Plane, agent: Edge) -> None:
    plane.desired.failures = [RuntimeError("secret")]  # type: ignore[list-item]

    failure = await agent.round()

    assert isinstance(failure, Internal)
    assert "secret" not in str(failure)
    assert "identifier" in failure.action


async def test_heartbeats_write_nothing_to_the_database(plane: Plane, agent: Edge) -> None:
    async with agent.attached():
        await eventually(lambda: _announced(plane))
        with _writes_of(plane) as writes:
            await _heartbeats(4)
            assert writes == []
            await plane.idc("north")
            assert len(writes) == 1, "the counter counts"
        assert plane.fleet.sessions.find("host", agent.id).silent_seconds < silence_limit(TEMPO.heartbeat_seconds)  # type: ignore


async def test_facts_are_written_down_when_they_changed(plane: Plane, agent: Edge) -> None:
    agent.facts.CopyFrom(
        agent_pb2.HostFacts(
            hostname="e1", architecture="arm64", cpus=4, engines=[agent_pb2.Engine(kind="docker", version="29")]
        )
    )
    async with agent.attached():
        host = (await plane.fleet.members.get("host", agent.id)).member

    facts = host.facts  # type: ignore[attr-defined]
    assert (facts["architecture"], facts["cpus"]) == ("arm64", 4)
    assert facts["engines"] == [{"kind": "docker", "version": "29", "storage_driver": ""}]


async def test_a_revoked_host_loses_its_stream_and_does_not_come_back(plane: Plane, agent: Edge) -> None:
    async with agent.attached():
        await plane.fleet.members.revoke("host", "east/e1")
        await eventually(lambda: agent.failures)
        again = await agent.round()

    assert [failure.code for failure in agent.failures] == ["identity_revoked", "identity_revoked"]
    assert isinstance(again, Denied)
    assert await plane.state(agent.id) == "revoked"


async def test_a_host_that_falls_silent_is_given_up_after_three_heartbeats(plane: Plane, agent: Edge) -> None:
    agent.dialect = _mute(agent)
    began = asyncio.get_running_loop().time()
    async with agent.attached():
        await eventually(lambda: agent.failures)

    assert "nothing was heard of host east/e1" in agent.failures[0].detail
    assert asyncio.get_running_loop().time() - began >= silence_limit(TEMPO.heartbeat_seconds)


async def test_nobody_is_given_up_because_the_control_plane_itself_stood_still(plane: Plane, agent: Edge) -> None:
    async with agent.attached():
        session = plane.fleet.sessions.find("host", agent.id)
        assert session is not None
        time.sleep(1.2 * silence_limit(TEMPO.heartbeat_seconds))  # noqa: ASYNC251  all of this process stands still
        silent = session.silent_seconds
        await asyncio.sleep(silence_limit(TEMPO.heartbeat_seconds))

        assert silent > silence_limit(TEMPO.heartbeat_seconds)
        assert not agent.failures
        assert plane.fleet.sessions.find("host", agent.id) is session


async def test_a_lapsed_lease_is_no_evidence_against_a_stream_that_speaks(plane: Plane, agent: Edge) -> None:
    directory = MemoryRegistry()
    async with agent.attached(), asyncio.TaskGroup() as group:
        following = group.create_task(follow_leases(directory, plane.fleet.sessions))
        async with directory.register(keys.host("east", agent.id), b"up", 30, final_value=keys.OFFLINE):
            pass
        await eventually(lambda: plane.fleet.sessions._lapsed == {("host", "east", agent.id)})
        await _heartbeats(4)
        assert agent.failures == []
        following.cancel()


async def test_a_lapsed_lease_hastens_the_verdict_on_a_silent_host(sqlite_url: str, edge: MakeEdge) -> None:
    beat = 2.0  # the two verdicts are 3 s apart: what a busy machine adds is less
    async with Plane(sqlite_url, tempo=replace(TEMPO, heartbeat_seconds=beat)) as plane:
        agent = edge("e1")
        agent.plane = plane
        await agent.enrol(await plane.join_token())
        agent.dialect = _mute(agent)
        began = asyncio.get_running_loop().time()
        async with agent.attached():
            plane.fleet.sessions.lease_changed(("host", "east", agent.id), lapsed=True)
            await eventually(lambda: agent.failures)

        waited = asyncio.get_running_loop().time() - began
        assert silence_limit(beat, lease_lapsed=True) <= waited < silence_limit(beat)


async def test_a_reader_that_does_not_read_is_let_go_when_the_queue_is_full(plane: Plane, agent: Edge) -> None:
    async with agent.attached():
        session = plane.fleet.sessions.find("host", agent.id)
        assert session is not None
        for _ in range(QUEUE_CAPACITY + 1):
            session.send(agent_pb2.PlaneMessage())
        await eventually(lambda: agent.failures)

    assert agent.failures[0].code == "stream_overflow"


async def test_a_process_that_froze_with_its_stream_open_holds_nothing_up(plane: Plane, agent: Edge) -> None:
    """It answers no read, so the last write is stuck in flow control; the stream is ended all the same."""
    gate = asyncio.Event()
    agent.dialect = replace(_mute(agent), probe_nonce=lambda down: None)
    async with agent.attached():
        session = plane.fleet.sessions.find("host", agent.id)
        assert session is not None
        agent.gate = gate
        filler = agent_pb2.PlaneMessage(probe=agent_pb2.Probe(nonce="x" * 1_000_000))
        for _ in range(64):
            session.send(filler)
        await asyncio.sleep(1.0)
        assert session.queue.qsize() > 32, "the writer is stuck"
        for _ in range(QUEUE_CAPACITY):
            session.send(filler)
        assert session.over
        await eventually(lambda: plane.fleet.sessions.find("host", agent.id) is None)
        await eventually(lambda: _is(plane, "offline"))
        gate.set()
        await eventually(lambda: agent.failures)


async def test_a_sender_that_sends_more_than_the_stream_takes_ends_its_round(plane: Plane, agent: Edge) -> None:
    async with agent.attached():
        sender = agent.sender
        assert sender is not None
        with pytest.raises(OutboxOverflow):
            _flood(sender)
        await eventually(lambda: agent.failures)
        with pytest.raises(RoundEnded):
            sender.send(agent_pb2.AgentMessage())

    assert isinstance(agent.failures[0], OutboxOverflow)


async def test_a_restart_of_the_plane_is_survived_and_nobody_is_declared_down_meanwhile(
    plane: Plane, agent: Edge
) -> None:
    await plane.desired.assign(agent.id, web=1)
    async with agent.attached(forever=True):
        before = plane.fleet.presence.replica_id
        wanted, generations = plane.desired.wanted, plane.desired.generations
        await plane.__aexit__(None, None, None)
        await plane.__aenter__()
        plane.desired.wanted, plane.desired.generations = wanted, generations
        assert await plane.state("east/e1") == "online"
        assert plane.fleet.presence.replica_id != before
        generation = await plane.desired.assign(agent.id, web=2)
        await eventually(lambda: agent.held.generation == generation)


async def test_who_does_not_come_back_after_a_restart_is_down_in_the_end(plane: Plane, agent: Edge) -> None:
    async with agent.attached():
        await plane.__aexit__(None, None, None)
    await plane.__aenter__()
    seen_at_first = await plane.state("east/e1")
    # What two missed flushes of the replica that is gone amount to.
    plane.fleet.members.look = lambda: _far_horizon(plane)

    assert seen_at_first == "online"
    assert await plane.state("east/e1") == "offline"


async def test_full_sets_are_repeated_so_that_tokens_renew(sqlite_url: str, edge: MakeEdge) -> None:
    tempo = type(TEMPO)(heartbeat_seconds=0.5, full_set_seconds=0.3)
    async with Plane(sqlite_url, tempo=tempo) as plane:
        agent = edge("e1")
        agent.plane = plane
        await agent.enrol(await plane.join_token())
        async with agent.attached():
            await eventually(lambda: agent.bodies().count("set") >= 3)


async def test_agents_are_told_of_regionals_that_come_and_keep_the_last_ones_known(
    plane: Plane, agent: Edge, edge: MakeEdge
) -> None:
    regional = edge("r1", kind="regional")
    await regional.enrol(await plane.join_token("regional"), "r1", addresses=["127.0.0.1"])
    other = edge("r2", kind="regional", content_url="https://127.0.0.1:9444")
    await other.enrol(await plane.join_token("regional"), "r2")
    elsewhere = edge("w1", kind="regional", content_url="https://127.0.0.1:9999")
    await elsewhere.enrol(await plane.join_token("regional", "west"), "w1")

    async with agent.attached(), elsewhere.attached():
        assert agent.regionals() == []
        async with other.attached():
            await eventually(lambda: agent.regionals() == ["https://127.0.0.1:9444"])
            async with regional.attached():
                await eventually(lambda: agent.regionals() == ["https://127.0.0.1:9443", "https://127.0.0.1:9444"])
            await eventually(lambda: agent.regionals() == ["https://127.0.0.1:9444"])
        # Now none is there: both may still serve what they hold.
        await eventually(lambda: agent.regionals() == ["https://127.0.0.1:9443", "https://127.0.0.1:9444"])
        await plane.fleet.members.revoke("regional", "east/r1")
        await eventually(lambda: agent.regionals() == ["https://127.0.0.1:9444"])


async def test_a_regional_gets_its_orders_and_the_keys_that_verify_tokens(plane: Plane, edge: MakeEdge) -> None:
    regional = edge("r1", kind="regional")
    await regional.enrol(await plane.join_token("regional"), "r1", addresses=["127.0.0.1"])
    idc_id = await plane.idc()
    await plane.desired.order(idc_id, "sha256:aa")

    async with regional.attached(forever=True):
        welcome = regional.received[0].welcome
        assert [(key.key_id, key.public_key_pem) for key in welcome.verifying_keys] == [("k1", PUBLIC_KEY)]
        assert len(regional.held.items) == 1
        await plane.desired.order(idc_id, "sha256:aa", "sha256:bb")
        changes = await eventually(lambda: [found.changes for found in regional.received if found.HasField("changes")])
        assert len(changes[0].changed) == 1
        plane.keys = {"k2": PUBLIC_KEY}
        await plane.fleet.watch._poll()
        await eventually(lambda: regional.bodies().count("welcome") == 2)

    assert {"welcome", "set"} & set(regional.bodies()[-3:-1])


async def test_a_regional_that_serves_without_tls_is_refused(plane: Plane, edge: MakeEdge) -> None:
    regional = edge("r1", kind="regional", content_url="http://127.0.0.1:1")
    await regional.enrol(await plane.join_token("regional"), "r1")

    assert isinstance(await regional.round(), Invalid)


async def test_each_kind_is_served_by_its_own_service_only(plane: Plane, agent: Edge, edge: MakeEdge) -> None:
    agent.dialect = regional_dialect("p", "")

    failure = await agent.round()

    assert failure.code == "wrong_service"
    assert RegionalDialect.kind == "regional"


async def test_a_stream_that_does_not_begin_with_hello_is_refused(plane: Plane, agent: Edge) -> None:
    usual = agent_dialect("", HeldSet(), agent.facts)
    agent.dialect = usual
    assert (await agent.round()).code == "hello_invalid"
    agent.dialect = replace(usual, hello=lambda: agent_pb2.AgentMessage(heartbeat=agent_pb2.Heartbeat()))
    assert (await agent.round()).code == "hello_invalid"


def _mute(agent: Edge) -> Dialect[Any, Any]:
    """Heartbeats once an hour, whatever it is told."""
    usual = agent_dialect(agent.process_id, agent.held, agent.facts)
    return replace(usual, heartbeat_seconds=lambda down: 3600.0)


def _flood(sender: Sender[Any]) -> None:
    for _ in range(1_000):
        sender.send(agent_pb2.AgentMessage())


async def _is(plane: Plane, state: str) -> bool:
    return await plane.state("east/e1") == state


def _far_horizon(plane: Plane) -> Horizon:
    return horizon(plane.clock.now() + timedelta(seconds=90), 90, TEMPO.heartbeat_seconds, 30)


async def _heartbeats(number: int) -> None:
    """Wait for so many of them: what is shown is that nothing happens meanwhile."""
    await asyncio.sleep(TEMPO.heartbeat_seconds * number * 1.1)


@contextlib.contextmanager
def _writes_of(plane: Plane) -> Iterator[list[str]]:
    """The statements that change anything, as they reach the database."""
    writes: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip().split()[0].upper() in ("INSERT", "UPDATE", "DELETE"):
            writes.append(statement)

    engine = plane.database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    yield writes
    event.remove(engine, "before_cursor_execute", note)


async def _announced(plane: Plane) -> bool:
    """Whether the relay has published, and so deleted, all that was announced."""
    async with plane.database.reading() as connection:
        return (await connection.execute(select(outbox))).first() is None
