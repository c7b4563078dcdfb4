"""Whole instances: from an assignment to a running container and its reports, while engine and sources fail."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from agent.ledger import ContentKey
from agent.model import Assignment, ContainerSpec, ContainerState, Content, ContentReport, DesiredState, Health, Phase
from agent.runtimes import ContainerOrder, labels_of
from agent.runtimes.memory import MemoryContainer
from agent.whole_download import WholeDownload
from proto.agent.v1 import agent_pb2
from tests.agent.lab import Agent, FakeSource, Lab, message_of
from tests.agent.samples import INSTANCE, Sample, assignment, noise, sample

SAMPLE = sample(noise(200_000, "layer"))
NEWER = sample(noise(200_000, "newer layer"), tag="1.5")
LARGE = sample(noise(3 << 20, "large layer"))
OTHER = "01900000-0000-7000-8000-0000cafebabe"


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with FakeSource() as centre:
        for one in (SAMPLE, NEWER, LARGE):
            centre.hold(*one.bytes_of.values())
        yield Lab(tmp_path, centre)


def wanted(one: Sample = SAMPLE, desired: DesiredState = DesiredState.RUNNING, **changes: object) -> Assignment:
    return assignment(one.image, desired, **changes)


async def eventually(condition: Callable[[], bool], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  an engine is looked at, it cannot be awaited
            await asyncio.sleep(0.005)


async def running(agent: Agent, *assignments: Assignment) -> None:
    agent.reconcile()
    await agent.assign(*assignments)
    for one in assignments:
        await agent.until(one.instance_id, Phase.RUNNING)


async def test_an_assignment_becomes_a_running_container(lab: Lab) -> None:
    async with lab.open() as agent:
        await running(agent, wanted())
        report = agent.reports[INSTANCE]
        (container,) = lab.engine.running(INSTANCE)
        assert (report.generation, report.health, report.runtime_id) == (1, Health.NONE, container.runtime_id)
        assert container.order.name == wanted().container_name


async def test_contents_are_reported_as_they_come_with_their_origin(lab: Lab) -> None:
    lab.centre.gate.clear()
    async with lab.open() as agent:
        agent.reconcile()
        await agent.assign(wanted())
        await agent.until(INSTANCE, Phase.FETCHING)
        lab.centre.gate.set()
        seen: dict[str, ContentReport] = {}

        def verified() -> bool:
            while (batch := agent.reporter.next_batch()) is not None:
                seen.update((str(one.digest), one) for one in batch.reports.values() if isinstance(one, ContentReport))
                agent.reporter.acknowledged(batch.sequence)
            return all(str(one.digest) in seen and seen[str(one.digest)].verified for one in SAMPLE.image.everything)

        await eventually(verified)
        for one in SAMPLE.image.everything:
            report = seen[str(one.digest)]
            assert report.held_bytes == report.size_bytes == one.size_bytes
            assert report.provenance.from_centre_bytes == one.size_bytes


async def test_without_an_engine_the_content_is_held(lab: Lab) -> None:
    lab = dataclasses.replace(lab, has_engine=False)
    async with lab.open() as agent:
        agent.reconcile()
        await agent.assign(wanted())
        report = await agent.until(INSTANCE, Phase.VERIFIED)
        assert "no container engine" in report.detail


async def test_held_is_held(lab: Lab) -> None:
    async with lab.open() as agent:
        agent.reconcile()
        await agent.assign(wanted(desired=DesiredState.HELD))
        await agent.until(INSTANCE, Phase.VERIFIED)
        assert not lab.engine.containers


async def test_stop_start_and_remove(lab: Lab) -> None:
    async with lab.open() as agent:
        await running(agent, wanted())
        await agent.assign(wanted(desired=DesiredState.STOPPED, generation=2))
        await agent.until(INSTANCE, Phase.STOPPED)
        await agent.assign(wanted(generation=3))
        await agent.until(INSTANCE, Phase.RUNNING)
        await agent.assign(wanted(desired=DesiredState.REMOVED, generation=4))
        report = await agent.until(INSTANCE, Phase.REMOVED)
        assert report.generation == 4
        assert not lab.engine.containers


async def test_what_vanishes_from_the_set_is_removed_and_reported(lab: Lab) -> None:
    async with lab.open() as agent:
        await running(agent, wanted())
        await agent.assign(wanted(desired=DesiredState.STOPPED, generation=2))
        await agent.until(INSTANCE, Phase.STOPPED)
        await agent.assign()
        report = await agent.until(INSTANCE, Phase.REMOVED)
        assert report.generation == 2
        assert not lab.engine.containers


async def test_a_restart_happens_once(lab: Lab) -> None:
    async with lab.open() as agent:
        await running(agent, wanted())
        await agent.assign(wanted(generation=2, restart_nonce=1))
        await eventually(lambda: lab.engine.running(INSTANCE)[0].starts == 2 if lab.engine.running(INSTANCE) else False)
        await asyncio.sleep(0.2)
        assert lab.engine.running(INSTANCE)[0].starts == 2
    async with lab.open() as agent:
        agent.reconcile()
        await agent.until(INSTANCE, Phase.RUNNING)
        await asyncio.sleep(0.1)
        assert lab.engine.running(INSTANCE)[0].starts == 2


async def test_what_the_engine_lost_is_started_again(lab: Lab) -> None:
    async with lab.open() as agent:
        await running(agent, wanted())
        lab.engine.kill_everything()
        await eventually(lambda: bool(lab.engine.running(INSTANCE)))


async def test_an_engine_that_is_away_is_reported_and_content_goes_on(lab: Lab) -> None:
    lab.engine.away = True
    async with lab.open() as agent:
        agent.reconcile()
        await agent.assign(wanted())
        report = await agent.until(INSTANCE, Phase.FAILED)
        assert "switched off" in report.detail
        assert agent.cache.held >= {one.digest for one in SAMPLE.image.everything}
        lab.engine.away = False
        await agent.until(INSTANCE, Phase.RUNNING)


async def test_an_update_replaces_the_container(lab: Lab) -> None:
    async with lab.open() as agent:
        await running(agent, wanted())
        await agent.assign(wanted(NEWER, generation=2))
        await eventually(lambda: agent.told()[INSTANCE].generation == 2)
        await agent.until(INSTANCE, Phase.RUNNING)
        await eventually(lambda: len(lab.engine.containers) == 1)
        (container,) = lab.engine.running(INSTANCE)
        assert container.order.manifest == NEWER.image.manifest.digest
        assert container.order.name == wanted().container_name


@pytest.mark.parametrize("trouble", ["refuse", "crash"])
async def test_an_update_that_fails_leaves_the_old_version_running(lab: Lab, trouble: str) -> None:
    newer = wanted(NEWER, generation=2)
    getattr(lab.engine, trouble).add(newer.spec_hash)
    async with lab.open() as agent:
        await running(agent, wanted())
        await agent.assign(newer)
        report = await agent.until(INSTANCE, Phase.FAILED)
        await eventually(lambda: "the previous version runs" in agent.told()[INSTANCE].detail)
        (container,) = lab.engine.running(INSTANCE)
        assert container.order.manifest == SAMPLE.image.manifest.digest
        assert report.generation == 2


async def test_an_instance_that_fails_holds_up_no_other(lab: Lab) -> None:
    missing = sample(noise(1000, "nobody has this"))
    broken = dataclasses.replace(wanted(missing), instance_id=OTHER, name="broken")
    async with lab.open() as agent:
        agent.reconcile()
        await agent.assign(broken, wanted())
        await agent.until(INSTANCE, Phase.RUNNING)
        report = await agent.until(OTHER, Phase.FAILED)
        assert "cannot be fetched" in report.detail
        assert "push the image again" in report.detail or "does not have" in report.detail


async def test_content_that_could_not_be_had_is_tried_again(lab: Lab) -> None:
    async with lab.open() as agent:
        lab.centre.refuse = 401
        agent.reconcile()
        await agent.assign(wanted())
        report = await agent.until(INSTANCE, Phase.FAILED)
        assert "token expired" in report.detail
        lab.centre.refuse = 0
        await agent.until(INSTANCE, Phase.RUNNING)


async def test_a_full_disk_is_reported_and_over_when_there_is_room(lab: Lab) -> None:
    room = [1000]
    lab = dataclasses.replace(lab, free=lambda _: room[0])
    async with lab.open() as agent:
        agent.reconcile()
        await agent.assign(wanted())
        report = await agent.until(INSTANCE, Phase.FAILED)
        assert "is full" in report.detail
        room[0] = 1 << 30
        await agent.until(INSTANCE, Phase.RUNNING)


async def test_removing_an_instance_ends_its_fetch(lab: Lab) -> None:
    lab.centre.gate.clear()
    async with lab.open() as agent:
        agent.reconcile()
        await agent.assign(wanted())
        await agent.until(INSTANCE, Phase.FETCHING)
        await agent.assign(wanted(desired=DesiredState.REMOVED, generation=2))
        await agent.until(INSTANCE, Phase.REMOVED)


async def test_after_a_restart_without_the_centre_everything_goes_on(lab: Lab) -> None:
    async with lab.open() as agent:
        await running(agent, wanted())
    lab.engine.kill_everything()
    await lab.centre.stop()
    async with lab.open() as agent:
        agent.reconcile()
        await eventually(lambda: bool(lab.engine.running(INSTANCE)))


async def test_a_damaged_journal_is_set_aside_and_removes_nothing(lab: Lab) -> None:
    async with lab.open() as agent:
        await running(agent, wanted())
    journal = lab.directory / "journal" / "assignments.journal"
    journal.write_bytes(journal.read_bytes()[:-3])
    async with lab.open() as agent:
        agent.reconcile()
        await asyncio.sleep(0.2)
        assert not agent.book.current.known
        assert lab.engine.running(INSTANCE)
        assert journal.with_suffix(".damaged").exists()
        await agent.assign(wanted())
        await agent.until(INSTANCE, Phase.RUNNING)
        assert lab.engine.running(INSTANCE)[0].starts == 1


async def test_containers_of_others_are_left_alone(lab: Lab) -> None:
    order = ContainerOrder("neighbours", OTHER, 1, "x", SAMPLE.image.manifest.digest, ContainerSpec())
    labels = dict(labels_of(order, "another-host"))
    lab.engine.containers["n"] = MemoryContainer("n", order, labels, ContainerState.EXITED)
    lab.engine.containers["f"] = MemoryContainer("f", dataclasses.replace(order, name="f"), {}, ContainerState.RUNNING)
    async with lab.open() as agent:
        await running(agent, wanted())
        await agent.assign()
        await agent.until(INSTANCE, Phase.REMOVED)
    assert lab.engine.containers["n"].state is ContainerState.EXITED
    assert lab.engine.containers["f"].state is ContainerState.RUNNING


async def test_an_assignment_in_words_of_the_future_is_reported_and_left_alone(lab: Lab) -> None:
    async with lab.open() as agent:
        await running(agent, wanted())
        unreadable = message_of(wanted(generation=2))
        unreadable.image.manifest.digest = "blake9:00"
        await agent.book.replace(agent_pb2.AssignmentSet(results_in=7, assignments=[unreadable]))
        report = await agent.until(INSTANCE, Phase.FAILED)
        assert (report.generation, "is not a digest" in report.detail) == (2, True)
        unknown = message_of(wanted(generation=3))
        unknown.desired_state = 99  # type: ignore[assignment]
        await agent.book.replace(agent_pb2.AssignmentSet(results_in=8, assignments=[unknown]))
        await eventually(lambda: agent.told()[INSTANCE].generation == 3)
        assert "update the agent" in agent.reports[INSTANCE].detail
        assert lab.engine.running(INSTANCE)


async def test_many_instances_of_one_image_fetch_it_once(lab: Lab) -> None:
    many = [
        dataclasses.replace(
            wanted(), instance_id=f"01900000-0000-7000-8000-0000000000{number:02d}", name=f"web-{number}"
        )
        for number in range(20)
    ]
    async with lab.open() as agent:
        await running(agent, *many)
        for one in SAMPLE.image.everything:
            assert lab.centre.sent[str(one.digest)] == one.size_bytes


async def test_a_kill_in_the_middle_of_a_fetch_loses_nothing_that_was_verified(lab: Lab) -> None:
    lab.centre.cut = 100_000
    async with lab.open() as agent:
        agent.reconcile()
        await agent.assign(wanted(LARGE))
        await eventually(lambda: lab.centre.sent.total() > 1 << 20)
    lab.centre.cut = 0
    async with lab.open() as agent:
        agent.reconcile()
        await agent.until(INSTANCE, Phase.RUNNING)
    total = sum(one.size_bytes for one in LARGE.image.everything)
    assert lab.centre.sent.total() <= total + 12 * 100_000


async def test_a_defect_in_one_instances_way_stops_no_other(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = dataclasses.replace(wanted(NEWER), instance_id=OTHER, name="broken")
    async with lab.open() as agent:
        whole = WholeDownload.run

        async def run(download: WholeDownload, content: Content, key: ContentKey) -> None:
            if content.digest == NEWER.image.manifest.digest:
                raise ZeroDivisionError
            await whole(download, content, key)

        monkeypatch.setattr(WholeDownload, "run", run)
        agent.reconcile()
        await agent.assign(broken, wanted())
        await agent.until(INSTANCE, Phase.RUNNING)
        report = await agent.until(OTHER, Phase.FAILED)
        assert "defect" in report.detail
