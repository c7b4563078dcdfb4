from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent.desired import DesiredBook
from agent.inventory_model import HostFacts
from agent.journal import Journal
from agent.model import InstanceReport, Phase
from agent.reporter import Reporter
from agent.session import FullSetWanted, Session, dialect
from common.clock import ManualClock
from common.errors import Stale
from common.patience import RoundEnded
from common.protocol_version import VERSION
from proto.agent.v1 import agent_pb2
from tests.agent.lab import message_of
from tests.agent.samples import INSTANCE, assignment, sample

IMAGE = sample(b"layer").image
WELCOME = agent_pb2.PlaneMessage(
    welcome=agent_pb2.Welcome(session_id="s", heartbeat_seconds=10, host_id="h", idc="east")
)


class Wire:
    """A sender that remembers; `over` once its round has ended."""

    def __init__(self) -> None:
        self.sent: list[agent_pb2.AgentMessage] = []
        self.over = False

    def send(self, message: agent_pb2.AgentMessage) -> None:
        if self.over:
            raise RoundEnded("over")
        self.sent.append(message)


class World:
    def __init__(self, directory: Path) -> None:
        self.clock = ManualClock()
        journal = Journal(directory)
        self.book = DesiredBook(journal, "http://centre")
        self.reporter = Reporter(journal, self.clock)
        self.session = Session(self.book, self.reporter, self.clock)

    async def take(self, **body: object) -> None:
        await self.session.received(agent_pb2.PlaneMessage(**body))  # type: ignore[arg-type]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_what_comes_down_is_journalled_and_seen(world: World, tmp_path: Path) -> None:
    await world.session.welcomed(WELCOME, Wire())
    await world.take(set=agent_pb2.AssignmentSet(results_in=4, assignments=[message_of(assignment(IMAGE))]))
    await world.take(regionals=agent_pb2.Regionals(endpoints=[agent_pb2.RegionalEndpoint(content_url="https://r")]))
    again = World(tmp_path)
    await again.book.load()
    assert again.book.current.generation == 4
    assert again.book.endpoints[0].content_url == "https://r"


async def test_a_gap_ends_the_round(world: World) -> None:
    await world.session.welcomed(WELCOME, Wire())
    with pytest.raises(Stale):
        await world.take(changes=agent_pb2.AssignmentChanges(applies_to=3, results_in=4))


async def test_messages_of_the_future_are_ignored(world: World) -> None:
    await world.session.welcomed(WELCOME, Wire())
    await world.session.received(agent_pb2.PlaneMessage())


async def test_reports_go_up_until_they_are_acknowledged(world: World) -> None:
    reporting = asyncio.ensure_future(world.session.report_forever())
    world.reporter.report(InstanceReport(INSTANCE, 1, Phase.RUNNING))
    await world.clock.advance(1)
    first, second = Wire(), Wire()
    await world.session.welcomed(WELCOME, first)
    await world.clock.advance(1)
    assert [len(message.reports.instances) for message in first.sent] == [1]
    await world.session.ended()
    await world.session.welcomed(WELCOME, second)
    await world.clock.advance(1)
    (again,) = second.sent
    await world.take(reports_ack=agent_pb2.ReportsAck(sequence=again.reports.sequence))
    await world.clock.advance(1)
    assert len(second.sent) == 1
    assert world.reporter.next_batch() is None
    reporting.cancel()


async def test_a_round_that_ended_while_reporting_loses_nothing(world: World) -> None:
    reporting = asyncio.ensure_future(world.session.report_forever())
    wire = Wire()
    await world.session.welcomed(WELCOME, wire)
    wire.over = True
    world.reporter.report(InstanceReport(INSTANCE, 1, Phase.RUNNING))
    await world.clock.advance(1)
    assert not world.session.attached
    later = Wire()
    await world.session.welcomed(WELCOME, later)
    await world.clock.advance(1)
    assert len(later.sent) == 1
    reporting.cancel()


async def test_rejected_tokens_end_the_round_at_most_once_a_minute(world: World) -> None:
    await world.session.welcomed(WELCOME, Wire())
    world.session.want_full_set()
    ack = agent_pb2.ReportsAck(sequence=1)
    await world.take(reports_ack=ack)
    world.clock.tick(61)
    with pytest.raises(FullSetWanted):
        await world.take(reports_ack=ack)
    await world.session.ended()
    await world.session.welcomed(WELCOME, Wire())
    await world.take(reports_ack=ack)


async def test_the_agents_words(world: World) -> None:
    facts = HostFacts("e1", "amd64", "linux", 2, 1 << 30, 1 << 40)
    words = dialect("process", "0.1", lambda: facts, world.book)
    await world.book.replace(agent_pb2.AssignmentSet(results_in=9))
    hello = words.hello().hello
    assert (hello.process_id, hello.version, hello.generation, hello.facts.hostname) == ("process", "0.1", 9, "e1")
    assert (hello.protocol_version, hello.image_tokens) == (VERSION, True)
    beat = words.heartbeat(3).heartbeat
    assert (beat.sequence, beat.generation) == (3, 9)
    assert words.probe_reply("n").probe_reply.nonce == "n"
    assert words.heartbeat_seconds(WELCOME) == 10
    assert words.heartbeat_seconds(agent_pb2.PlaneMessage()) is None
    assert words.probe_nonce(agent_pb2.PlaneMessage(probe=agent_pb2.Probe(nonce="n"))) == "n"
    assert words.probe_nonce(WELCOME) is None
