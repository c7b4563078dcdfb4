from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from agent.model import AgentUpdate, Assignments, DesiredState, InstanceReport, Phase
from agent.updates.layout import ENTRY, Layout
from agent.updates.model import Order, Refusal, State, Trial
from agent.updates.updater import Standing, Updater, standing
from agent.wire import assignment_from
from common.clock import ManualClock
from common.digest import Digest
from proto.agent.v1 import agent_pb2
from tests.agent.lab import message_of
from tests.agent.samples import INSTANCE, Sample, assignment, assignments, sample
from tests.agent.updates.test_unpacking import archive
from tests.pace import BUSY_SECONDS

VERSION = sample(archive((ENTRY, b"#!/bin/sh\n")), repository="acme/agent")
BROKEN = sample(archive(("readme", b"no program")), repository="acme/agent")


class Contents:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.held: frozenset[Digest] = frozenset()

    def find(self, digest: Digest) -> Path | None:
        return self._directory / digest.hex if digest in self.held else None

    def take(self, version: Sample) -> None:
        for digest, data in version.bytes_of.items():
            (self._directory / digest.hex).write_bytes(data)
        self.held = frozenset(version.bytes_of)


class World:
    def __init__(self, root: Path) -> None:
        self.layout = Layout(root / "agent")
        self.layout.prepare()
        (root / "contents").mkdir()
        self.contents = Contents(root / "contents")
        self.clock = ManualClock()
        self.wanted = Assignments()
        self.attached = True
        self.ended = False

    def wish(self, version: Sample, number: int = 1) -> str:
        wish = AgentUpdate(number, f"{number}.0", 30.0, 300.0)
        self.wanted = assignments(assignment(version.image, DesiredState.HELD, agent_update=wish))
        return version.image.manifest.digest.hex

    def updater(self, supervised: bool = True, artifact: str = "") -> Updater:
        def end() -> None:
            self.ended = True

        return Updater(
            self.layout,
            Standing(supervised, artifact),
            lambda: self.wanted,
            self.contents,
            lambda: self.attached,
            self.clock,
            end,
        )

    async def live(self, updater: Updater, seconds: float = 3.0) -> None:
        running = asyncio.ensure_future(updater.run())
        for _ in range(int(seconds)):
            async with asyncio.timeout(BUSY_SECONDS):
                while not (self.clock.sleeping or running.done()):  # noqa: ASYNC110  threads answer in real time
                    await asyncio.sleep(0.002)
            await self.clock.advance(1.0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def said(updater: Updater, phase: Phase = Phase.VERIFIED) -> tuple[Phase, str]:
    report = updater.amend(InstanceReport(INSTANCE, 1, phase))
    assert isinstance(report, InstanceReport)
    return report.phase, report.detail


async def test_what_is_held_is_unpacked_written_down_and_the_agent_ends(world: World) -> None:
    updater, digest = world.updater(), world.wish(VERSION)
    await world.live(updater)
    assert not world.ended  # its contents are still on their way
    assert said(updater, Phase.FETCHING) == (Phase.FETCHING, "")
    world.contents.take(VERSION)
    await world.live(updater)
    assert world.ended
    assert world.layout.installed(digest)
    assert world.layout.read_wanted() == Order(1, digest, "1.0", 30.0, 300.0)
    assert said(updater) == (Phase.VERIFIED, "")


async def test_without_a_supervisor_nothing_happens_and_the_centre_is_told_why(world: World) -> None:
    updater = world.updater(supervised=False)
    world.wish(VERSION)
    world.contents.take(VERSION)
    await world.live(updater)
    assert not world.ended
    phase, detail = said(updater)
    assert phase is Phase.FAILED
    assert "supervise" in detail


async def test_a_version_that_cannot_be_used_is_looked_at_once(world: World) -> None:
    updater, digest = world.updater(), world.wish(BROKEN)
    world.contents.take(BROKEN)
    await world.live(updater)
    assert not world.ended
    assert not world.layout.installed(digest)
    assert said(updater)[0] is Phase.FAILED
    assert world.layout.read_wanted() is None


async def test_a_replayed_order_never_goes_back(world: World) -> None:
    digest = world.wish(VERSION, number=3)
    world.contents.take(VERSION)
    world.layout.write_state(State(trusted="b" * 64, last_order=7))
    updater = world.updater(artifact="b" * 64)
    await world.live(updater)
    assert not world.ended
    assert not world.layout.installed(digest)
    phase, detail = said(updater)
    assert phase is Phase.FAILED
    assert "older than order 7" in detail


async def test_while_tried_it_is_well_once_attached_without_a_gap(world: World) -> None:
    digest = world.wish(VERSION)
    world.contents.take(VERSION)
    order = Order(1, digest, "1.0", 3.5, 300.0)  # not at a look, of which there is one a second
    world.layout.write_state(State(last_order=1, trial=Trial(order, 1)))
    updater = world.updater(artifact=digest)
    await world.live(updater, 3)
    assert world.layout.read_healthy() is None
    assert said(updater)[0] is Phase.CREATING
    world.attached = False
    await world.live(updater, 2)
    world.attached = True
    await world.live(updater, 3)
    assert world.layout.read_healthy() is None
    await world.live(updater, 5)
    assert world.layout.read_healthy() == order
    world.layout.write_state(State(trusted=digest, last_order=1))
    await world.live(updater)
    assert said(updater) == (Phase.RUNNING, "")
    assert not world.ended


async def test_after_going_back_the_reason_is_told(world: World) -> None:
    digest = world.wish(VERSION)
    world.contents.take(VERSION)
    order = Order(1, digest, "1.0", 30.0, 300.0)
    world.layout.write_state(State(last_order=1, refusal=Refusal(order, "it died")))
    updater = world.updater()
    await world.live(updater)
    assert said(updater) == (Phase.FAILED, "the former version runs again: it died")
    assert not world.ended


async def test_an_order_for_what_runs_is_only_noted(world: World) -> None:
    digest = world.wish(VERSION, number=2)
    world.contents.take(VERSION)
    world.layout.write_state(State(trusted=digest, last_order=1))
    await world.live(world.updater(artifact=digest))
    assert not world.ended
    wanted = world.layout.read_wanted()
    assert wanted is not None
    assert wanted.number == 2


async def test_versions_that_nobody_needs_are_removed_before_the_next_one(world: World) -> None:
    for name in ("b" * 64, "c" * 64, "d" * 64):
        world.layout.version(name).mkdir()
    world.layout.write_state(State(trusted="b" * 64, former="c" * 64, last_order=1))
    digest = world.wish(VERSION, number=2)
    world.contents.take(VERSION)
    await world.live(world.updater(artifact="b" * 64))
    assert {path.name for path in world.layout.versions.iterdir()} == {"b" * 64, "c" * 64, digest}


def test_what_is_no_version_is_reported_as_it_is(world: World) -> None:
    world.wanted = assignments(assignment(VERSION.image, DesiredState.HELD))
    assert said(world.updater()) == (Phase.VERIFIED, "")


def test_the_wish_survives_the_wire() -> None:
    wish = AgentUpdate(4, "1.2", 60, 300)
    made = assignment(VERSION.image, DesiredState.HELD, agent_update=wish)
    message = message_of(made)
    message.agent_update.CopyFrom(
        agent_pb2.AgentUpdate(order=4, version="1.2", healthy_seconds=60, patience_seconds=300)
    )
    assert assignment_from(message).agent_update == wish


def test_only_the_childs_parent_supervises(world: World) -> None:
    assert standing(world.layout) == Standing(False, "")
    world.layout.write_state(State(trusted="b" * 64))  # written by this process, which is not our parent
    assert world.layout.supervisor() == os.getpid()
    assert standing(world.layout) == Standing(False, "")
