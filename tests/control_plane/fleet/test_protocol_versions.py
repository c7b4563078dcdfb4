"""Today's control plane and agents of the release before, and of one to come; and the other way round."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from agent.desired import DesiredBook
from agent.journal import Journal
from agent.model import InstanceReport, Phase
from agent.reporter import Reporter
from agent.session import Session, dialect
from common.attachment import Attachment
from common.clock import SystemClock
from common.errors import Failure
from common.patience import is_refusal
from common.protocol_version import VERSION, ProtocolUnsupported, require_spoken
from control_plane.fleet.authority import ServerCertificates
from control_plane.rpc.server import RpcListener
from proto.agent.v1 import agent_pb2
from tests.compatibility.descriptors import Protocol, following, previous
from tests.control_plane.fleet.edge import Edge, eventually, speaking
from tests.control_plane.fleet.plane import Plane

MakeEdge = Callable[..., Edge]
INSTANCE = "01900000-0000-7000-8000-000000000001"


@pytest.fixture
async def agent(plane: Plane, edge: MakeEdge) -> Edge:
    agent = edge()
    await agent.enrol(await plane.join_token())
    return agent


def shown(plane: Plane, name: str) -> str:
    lines = generate_latest(plane.registry).decode().splitlines()
    return "\n".join(line for line in lines if line.startswith(name))


async def test_an_agent_of_the_release_before_attaches_and_converges(plane: Plane, agent: Edge) -> None:
    agent.dialect = speaking(agent, previous())
    async with agent.attached():
        await plane.desired.assign(agent.id, a=1)
        await eventually(lambda: "a" in agent.held.items)
        await plane.desired.assign(agent.id, a=2, b=1)
        await eventually(lambda: set(agent.held.items) == {"a", "b"} and agent.held.items["a"].generation == 2)
        assert agent.sender is not None
        reports = {"sequence": 1, "instances": [{"instance_id": "a", "generation": 2}]}
        agent.sender.send(previous().message("AgentMessage")(reports=reports))
        await eventually(lambda: agent.acknowledged() == [1])

    assert [(one.instance_id, one.generation) for one in plane.desired.accepted] == [("a", 2)]


async def test_words_of_an_agent_to_come_are_passed_over_logged_and_counted(plane: Plane, agent: Edge) -> None:
    newer = following()
    agent.dialect = speaking(agent, newer, protocol_version=VERSION + 1, mood={"nonce": "bright"})
    with capture_logs() as logs:
        async with agent.attached():
            assert agent.sender is not None
            for _ in range(3):
                agent.sender.send(newer.message("AgentMessage")(telepathy={"nonce": "?"}))
            agent.sender.send(newer.message("AgentMessage")(reports={"sequence": 1}))
            await eventually(lambda: agent.acknowledged() == [1])

    told = [line for line in logs if line["event"] == "message not understood"]
    assert [line["count"] for line in told] == [1, 2]
    assert told[0]["fields"] == [900]
    assert shown(plane, "control_plane_fleet_not_understood_total") == (
        'control_plane_fleet_not_understood_total{kind="host"} 3.0'
    )


async def test_an_agent_two_versions_away_is_refused_with_what_to_do(plane: Plane, agent: Edge) -> None:
    agent.dialect = speaking(agent, following(), protocol_version=VERSION + 2)

    with capture_logs() as logs:
        failure = await agent.round()

    assert failure.code == "protocol_unsupported"
    assert failure.facts["theirs"] == VERSION + 2
    assert "update this end" in failure.action
    assert is_refusal(failure), "it waits long before it asks again"
    assert [line["code"] for line in logs if line["event"] == "call failed"] == ["protocol_unsupported"]
    assert 'code="protocol_unsupported"' in shown(plane, "control_plane_rpc_failures_total")


@contextlib.asynccontextmanager
async def foreign_plane(
    plane: Plane, protocol: Protocol, behave: Callable[[Any], Any]
) -> AsyncIterator[Callable[[], Any]]:
    """A listener with the plane's authority that speaks another version."""
    identity = ServerCertificates(plane.fleet.authority, ["127.0.0.1"])
    services = [protocol.serving(behave)]
    async with RpcListener("attach", "127.0.0.1:0", identity, services, mutual=True, grace_seconds=0) as listener:

        async def address() -> str:
            return listener.address

        yield address


class TodaysAgent:
    def __init__(self, directory: Path, identity_dir: Path, address: Callable[[], Any]) -> None:
        clock = SystemClock()
        journal = Journal(directory / "journal")
        self.book = DesiredBook(journal, "http://centre")
        self.reporter = Reporter(journal, clock)
        self.session = Session(self.book, self.reporter, clock)
        words = dialect("process", "today", _facts, self.book)
        self.attachment = Attachment(words, self.session, identity_dir, address, clock, lambda: 0.5)
        self.failure: Failure | None = None

    async def round(self) -> None:
        try:
            await self.attachment.run_round()
        except Failure as failure:
            self.failure = failure


def _facts() -> Any:
    from_the_book: Any = agent_pb2.HostFacts()
    return from_the_book


@pytest.fixture(autouse=True)
def no_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.session.facts_message", lambda facts: facts)


async def served(plane: Plane, agent: Edge, protocol: Protocol, tmp_path: Path, **welcome: Any) -> TodaysAgent:
    """Today's agent through one round with a control plane of another version that assigns, and takes a report."""
    down, heard = protocol.message("PlaneMessage"), []

    async def behave(context: Any) -> None:
        heard.append(await context.read())
        await context.write(down(welcome={"heartbeat_seconds": 5, "host_id": "h1", **welcome}))
        if "telepathy" in down.DESCRIPTOR.fields_by_name:
            await context.write(down(telepathy={"nonce": "?"}))
        assigned = {"instance_id": INSTANCE, "generation": 1, "desired_state": 2, "image": {"repository": "acme/web"}}
        await context.write(down(set={"results_in": 4, "assignments": [assigned]}))
        while not (message := await context.read()).HasField("reports"):
            pass
        heard.append(message)
        await context.write(down(reports_ack={"sequence": message.reports.sequence}))

    async with foreign_plane(plane, protocol, behave) as address, asyncio.TaskGroup() as group:
        todays = TodaysAgent(tmp_path, agent.directory, address)
        todays.reporter.report(InstanceReport(INSTANCE, 1, Phase.STOPPED))
        reporting = group.create_task(todays.session.report_forever())
        await asyncio.wait_for(todays.round(), 20)
        reporting.cancel()
    if todays.failure is not None and todays.failure.code == "round_ended":
        assert heard[0].hello.process_id == "process"
        assert [one.generation for one in heard[1].reports.instances] == [1]
        assert todays.book.current.generation == 4
        assert todays.reporter.next_batch() is None, "the report was acknowledged"
    return todays


async def test_todays_agent_converges_with_a_control_plane_of_the_release_before(
    plane: Plane, agent: Edge, tmp_path: Path
) -> None:
    todays = await served(plane, agent, previous(), tmp_path)

    assert todays.failure is not None
    assert todays.failure.code == "round_ended"


async def test_words_of_a_control_plane_to_come_are_passed_over(plane: Plane, agent: Edge, tmp_path: Path) -> None:
    newer = {"protocol_version": VERSION + 1, "mood": {"nonce": "bright"}}
    todays = await served(plane, agent, following(), tmp_path, **newer)

    assert todays.failure is not None
    assert todays.failure.code == "round_ended"
    assert todays.session.not_understood.count == 1


async def test_a_control_plane_two_versions_away_is_left_with_what_to_do(
    plane: Plane, agent: Edge, tmp_path: Path
) -> None:
    todays = await served(plane, agent, following(), tmp_path, protocol_version=VERSION + 2)

    assert isinstance(todays.failure, ProtocolUnsupported)
    assert todays.book.current.generation == 0


@pytest.mark.parametrize(
    ("said", "ours", "fits"), [(0, 1, True), (0, 2, True), (0, 3, False), (1, 2, True), (4, 3, True)]
)
def test_an_end_tolerates_the_version_before_and_after_its_own(said: int, ours: int, fits: bool) -> None:
    if fits:
        assert require_spoken(said, "somebody", ours) == (said or 1)
        return
    with pytest.raises(ProtocolUnsupported, match="version 1"):
        require_spoken(said, "somebody", ours)
