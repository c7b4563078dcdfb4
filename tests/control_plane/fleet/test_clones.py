"""One identity, two processes: a copied disk, a copied directory, or the same machine coming back."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import grpc.aio
import pytest
from structlog.testing import capture_logs

from common.clock import SystemClock
from common.errors import Conflict
from common.patience import IDENTITY_IN_USE, Patience, RoundEnded
from common.tls import Name
from control_plane.database import Database
from control_plane.fleet.presence import Presence
from control_plane.fleet.session import IdentityInUse
from control_plane.rpc.peers import PeerIdentity
from proto.agent.v1 import agent_pb2
from tests.control_plane.fleet.edge import Edge, agent_dialect, eventually
from tests.control_plane.fleet.plane import Plane

MakeEdge = Callable[..., Edge]


@pytest.fixture
async def original(plane: Plane, edge: MakeEdge) -> Edge:
    made = edge("e1")
    await made.enrol(await plane.join_token())
    return made


@pytest.fixture
def copy(original: Edge, edge: MakeEdge) -> Edge:
    """Another process with the same key and certificate."""
    made = edge("copy")
    shutil.copytree(original.directory, made.directory)
    return made


async def test_a_copied_certificate_is_refused_and_the_first_process_keeps_working(
    plane: Plane, original: Edge, copy: Edge
) -> None:
    async with original.attached():
        with capture_logs() as logs:
            refusal = await copy.round()

        assert isinstance(refusal, Conflict)
        assert refusal.code == IDENTITY_IN_USE
        assert "host east/e1" in refusal.detail
        assert "join token of its own" in refusal.action
        assert [entry["member"] for entry in logs if entry.get("audit")] == ["host east/e1"]
        assert await plane.state("east/e1") == "conflict"
        generation = await plane.desired.assign(original.id, web=1)
        await eventually(lambda: original.held.generation == generation)
        assert original.failures == []


async def test_the_late_hello_of_a_process_that_died_is_refused_and_is_no_alarm(plane: Plane, original: Edge) -> None:
    died = _DiedAfterHello()
    peer = PeerIdentity(Name("east", "host", original.id), "0", "0")
    async with original.attached():
        there = plane.fleet.sessions.find("host", original.id)
        assert there is not None
        conversation = plane.fleet.sessions._attached["host", original.id]
        with capture_logs() as logs, pytest.raises(IdentityInUse):
            await plane.fleet.sessions.serve(peer, conversation.dialect, died)

        assert [entry for entry in logs if entry.get("audit")] == []
        assert await plane.state("east/e1") == "online"
        assert original.failures == []


class _DiedAfterHello:
    """What is left of the stream of a process that was killed."""

    def __init__(self) -> None:
        self._left = [agent_pb2.AgentMessage(hello=agent_pb2.Hello(process_id="the one before", version="1.2"))]

    async def read(self) -> Any:
        return self._left.pop() if self._left else grpc.aio.EOF

    async def write(self, message: Any) -> None:
        raise grpc.aio.UsageError("the stream is over")


async def test_a_refused_copy_waits_long_before_it_tries_again() -> None:
    refusal = Conflict("in use")
    vars(refusal)["code"] = IDENTITY_IN_USE
    patience = Patience(lambda: 0.999)

    waits = [patience.after(refusal, lasted_seconds=0) for _ in range(8)]

    assert waits[0] > 14
    assert 470 < waits[-1] <= 480


async def test_a_control_plane_that_restarts_is_tried_often_at_first_and_seldom_later() -> None:
    patience = Patience(lambda: 0.999)

    waits = [patience.after(RoundEnded("refused"), lasted_seconds=0) for _ in range(16)]

    assert [round(wait, 1) for wait in waits[:4]] == [0.5, 1.0, 2.0, 4.0]
    assert max(waits[:10]) < 4
    assert 59 < waits[-1] <= 60
    assert patience.after(RoundEnded("refused"), lasted_seconds=61) < 0.5


async def test_a_process_that_does_not_answer_gives_way_to_the_newcomer(original: Edge, copy: Edge) -> None:
    usual = agent_dialect(original.process_id, original.held, original.facts)
    original.dialect = replace(usual, probe_nonce=lambda down: None)  # hears the probe, does not answer

    async with original.attached(), copy.attached():
        await eventually(lambda: original.failures)
        assert copy.failures == []

    assert original.failures[0].code == "stream_replaced"


async def test_the_same_process_takes_its_own_place_at_once(original: Edge, copy: Edge) -> None:
    copy.process_id = original.process_id
    usual = agent_dialect(original.process_id, original.held, original.facts)
    probes: list[str | None] = []

    def probed(down: Any) -> str | None:
        probes.append(usual.probe_nonce(down))
        return probes[-1]

    original.dialect = replace(usual, probe_nonce=probed)

    async with original.attached(), copy.attached():
        await eventually(lambda: original.failures)

    assert not any(probes), "nobody was probed"

    assert original.failures[0].code == "stream_replaced"


async def test_of_two_copies_that_come_at_once_one_gets_in(original: Edge, copy: Edge) -> None:
    async with asyncio.TaskGroup() as group:
        rounds = [group.create_task(process.round()) for process in (original, copy)]
        done, pending = await asyncio.wait(rounds, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result().code for task in done] == [IDENTITY_IN_USE]
        assert len(pending) == 1
        for task in pending:
            task.cancel()


async def test_a_newer_session_on_another_replica_ends_the_older_one(
    plane: Plane, original: Edge, sqlite_url: str
) -> None:
    peer = PeerIdentity(Name("east", "host", original.id), "0", "0")
    other_database = Database(sqlite_url, SystemClock())
    other = Presence(other_database, "another-replica", SystemClock())
    async with original.attached():
        session = plane.fleet.sessions.find("host", original.id)
        assert session is not None
        await other.came(peer, "newer-session", {})
        await eventually(lambda: original.failures)
        member = (await plane.fleet.members.get("host", original.id)).member
        assert (member.session_id, member.session_replica) == ("newer-session", "another-replica")
    await other_database.close()

    assert original.failures[0].code == "stream_replaced"


async def test_a_machine_that_enrols_anew_under_its_name_puts_the_old_process_out(
    plane: Plane, original: Edge, edge: MakeEdge
) -> None:
    reinstalled = edge("reinstalled")
    async with original.attached():
        await reinstalled.enrol(await plane.join_token(name="e1"), "ignored")
        await eventually(lambda: original.failures)
        again = await original.round()
    async with reinstalled.attached():
        assert await plane.state("east/e1") == "online"

    assert reinstalled.id == original.id
    assert again.code == "identity_revoked"
