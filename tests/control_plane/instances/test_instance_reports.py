from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import ManualClock
from control_plane.database import Database
from control_plane.fleet.assigning import LayeredAssignments
from control_plane.fleet.model import HostUnknown
from control_plane.instances import wire
from control_plane.instances.assignments import InstanceAssignments
from control_plane.instances.model import Health, InstanceView, Phase
from control_plane.instances.reading import InstanceReading, InstanceUnknown
from control_plane.instances.service import InstanceService
from control_plane.swarm.service import SwarmService
from control_plane.swarm.tokens import ContentTokens
from proto.agent.v1 import agent_pb2
from tests.control_plane.instances.parts import OPERATOR, WEB, holds, run_request, said
from tests.control_plane.swarm.parts import Shelf, announced

pytestmark = pytest.mark.usefixtures("fleet")


@pytest.fixture
async def instance(fleet: None, service: InstanceService) -> InstanceView:
    """One on e1, at generation 1."""
    return (await service.run(OPERATOR, run_request("east/e1")))[0]


@pytest.fixture
def report(assignments: LayeredAssignments, instance: InstanceView) -> Callable[..., object]:
    async def accept(
        phase: agent_pb2.Phase.ValueType, generation: int = 1, host: str = "host-e1", **rest: object
    ) -> None:
        await assignments.accept_reports(host, [said(instance.instance.id, generation, phase, **rest)], [])  # type: ignore[arg-type]

    return accept


async def test_what_the_host_says_is_shown(
    instance: InstanceView, assignments: LayeredAssignments, reading: InstanceReading
) -> None:
    report = agent_pb2.InstanceReport(
        instance_id=instance.instance.id,
        generation=1,
        phase=agent_pb2.PHASE_RUNNING,
        health=agent_pb2.HEALTH_HEALTHY,
        detail="up",
        runtime_id="c0ffee",
        restart_count=3,
    )
    await assignments.accept_reports("host-e1", [report], [])
    status = (await reading.get(OPERATOR, instance.instance.id)).status
    assert (status.phase, status.health, status.observed_generation) == (Phase.RUNNING, Health.HEALTHY, 1)
    assert (status.detail, status.runtime_id, status.restart_count) == ("up", "c0ffee", 3)


async def test_an_older_report_never_overwrites_a_newer_one(
    instance: InstanceView, service: InstanceService, reading: InstanceReading, report: Callable[..., object]
) -> None:
    await service.stop(OPERATOR, instance.instance.id)
    await report(agent_pb2.PHASE_STOPPED, 2)
    await report(agent_pb2.PHASE_RUNNING, 1)
    status = (await reading.get(OPERATOR, instance.instance.id)).status
    assert (status.phase, status.observed_generation) == (Phase.STOPPED, 2)


async def test_within_one_generation_the_last_word_counts(
    instance: InstanceView, reading: InstanceReading, report: Callable[..., object]
) -> None:
    for phase in (agent_pb2.PHASE_FETCHING, agent_pb2.PHASE_RUNNING, agent_pb2.PHASE_FAILED):
        await report(phase)
    assert (await reading.get(OPERATOR, instance.instance.id)).status.phase is Phase.FAILED


async def test_a_batch_in_any_order_leaves_the_newest_generation(
    instance: InstanceView, service: InstanceService, assignments: LayeredAssignments, reading: InstanceReading
) -> None:
    await service.stop(OPERATOR, instance.instance.id)
    new = said(instance.instance.id, 2, agent_pb2.PHASE_STOPPED)
    old = said(instance.instance.id, 1, agent_pb2.PHASE_RUNNING)
    await assignments.accept_reports("host-e1", [new, old], [])
    assert (await reading.get(OPERATOR, instance.instance.id)).status.phase is Phase.STOPPED


async def test_a_report_that_says_nothing_new_writes_nothing(
    instance: InstanceView,
    reading: InstanceReading,
    report: Callable[..., object],
    clock: ManualClock,
    database: Database,
) -> None:
    await report(agent_pb2.PHASE_RUNNING)
    topics = await announced(database)
    shown = await reading.get(OPERATOR, instance.instance.id)
    clock.tick(60)
    await report(agent_pb2.PHASE_RUNNING)
    assert await reading.get(OPERATOR, instance.instance.id) == shown
    assert await announced(database) == topics


async def test_only_a_new_phase_or_health_is_announced(report: Callable[..., object], database: Database) -> None:
    await report(agent_pb2.PHASE_FETCHING, detail="10 %")
    await report(agent_pb2.PHASE_FETCHING, detail="20 %")
    await report(agent_pb2.PHASE_RUNNING, health=agent_pb2.HEALTH_STARTING)
    await report(agent_pb2.PHASE_RUNNING, health=agent_pb2.HEALTH_HEALTHY)
    assert (await announced(database)).count("instances.reported") == 3


async def test_a_host_speaks_of_its_own_instances_alone(
    instance: InstanceView, reading: InstanceReading, report: Callable[..., object]
) -> None:
    await report(agent_pb2.PHASE_FAILED, host="host-e2")
    assert (await reading.get(OPERATOR, instance.instance.id)).status.phase is Phase.PENDING


@pytest.mark.parametrize("generation", [0, 2, (1 << 64) - 1])
async def test_generations_that_were_never_given_out_are_not_believed(
    instance: InstanceView, reading: InstanceReading, report: Callable[..., object], generation: int
) -> None:
    await report(agent_pb2.PHASE_RUNNING, generation)
    assert (await reading.get(OPERATOR, instance.instance.id)).status.phase is Phase.PENDING


async def test_unknown_instances_and_unknown_phases_are_passed_over(
    instance: InstanceView, assignments: LayeredAssignments, reading: InstanceReading
) -> None:
    reports = [
        said("no such instance"),
        said(instance.instance.id, 1, 999),  # type: ignore[arg-type]
        said(instance.instance.id, 1, agent_pb2.PHASE_UNSPECIFIED),
        said("../../etc/passwd\0"),
    ]
    await assignments.accept_reports("host-e1", reports, [])
    assert (await reading.get(OPERATOR, instance.instance.id)).status.phase is Phase.PENDING


async def test_texts_of_hosts_are_cut_to_what_can_be_stored(
    instance: InstanceView, reading: InstanceReading, report: Callable[..., object]
) -> None:
    await report(agent_pb2.PHASE_FAILED, detail="no\0 room " + "x" * 10_000)
    detail = (await reading.get(OPERATOR, instance.instance.id)).status.detail
    assert detail.startswith("no\N{REPLACEMENT CHARACTER} room")
    assert len(detail) == wire.MAXIMUM_DETAIL


async def test_a_removed_instance_goes_when_its_host_says_so(
    instance: InstanceView,
    service: InstanceService,
    assignments: LayeredAssignments,
    reading: InstanceReading,
    swarm: SwarmService,
    report: Callable[..., object],
    database: Database,
) -> None:
    await service.remove(OPERATOR, instance.instance.id)
    # The host removed it once before, on its own account: that is not the answer.
    await report(agent_pb2.PHASE_REMOVED, 1)
    assert (await reading.get(OPERATOR, instance.instance.id)).status.phase is Phase.REMOVED
    before = await assignments.assignments("host-e1")
    await report(agent_pb2.PHASE_REMOVED, 2)
    with pytest.raises(InstanceUnknown):
        await reading.get(OPERATOR, instance.instance.id)
    after = await assignments.assignments("host-e1")
    assert (after.assignments, after.generation > before.generation) == ({}, True)
    assert (await swarm.orders("idc-east", "r")).orders == {}
    assert (await announced(database))[-1] == "instances.forgotten"
    await report(agent_pb2.PHASE_REMOVED, 2)  # its repetition finds nothing
    (again,) = await service.run(OPERATOR, run_request("east/e1"))
    assert again.instance.id != instance.instance.id


async def test_a_removal_that_nobody_asked_for_forgets_nothing(
    instance: InstanceView, reading: InstanceReading, report: Callable[..., object]
) -> None:
    await report(agent_pb2.PHASE_REMOVED, 1)
    assert (await reading.get(OPERATOR, instance.instance.id)).status.phase is Phase.REMOVED


async def test_an_instance_shows_what_its_host_holds_and_where_it_came_from(
    instance: InstanceView, assignments: LayeredAssignments, reading: InstanceReading, shelf: Shelf
) -> None:
    image = shelf.images[WEB, "amd64"]
    contents = [image.manifest, *image.contents]
    total = sum(content.size for content in contents)
    assert instance.holdings.total_bytes == total
    assert (instance.holdings.held_bytes, instance.holdings.verified) == (0, False)
    reports = [holds(str(one.digest), one.size, from_peers_bytes=one.size) for one in contents[1:]]
    half = holds(str(image.manifest.digest), image.manifest.size, 1, from_centre_bytes=5, from_regional_bytes=6)
    await assignments.accept_reports("host-e1", [], [*reports, half])
    holdings = (await reading.get(OPERATOR, instance.instance.id)).holdings
    assert (holdings.held_bytes, holdings.verified) == (total - image.manifest.size + 1, False)
    assert (holdings.from_centre_bytes, holdings.from_regional_bytes) == (5, 6)
    assert holdings.from_peers_bytes == total - image.manifest.size
    await assignments.accept_reports("host-e1", [], [holds(str(image.manifest.digest), image.manifest.size)])
    assert (await reading.get(OPERATOR, instance.instance.id)).holdings.verified


async def test_what_another_host_holds_is_not_counted(
    instance: InstanceView, assignments: LayeredAssignments, reading: InstanceReading, shelf: Shelf
) -> None:
    for one in (shelf.images[WEB, "amd64"].manifest, *shelf.images[WEB, "amd64"].contents):
        await assignments.accept_reports("host-e2", [], [holds(str(one.digest), one.size)])
    assert (await reading.get(OPERATOR, instance.instance.id)).holdings.held_bytes == 0


async def test_two_streams_of_one_host_cannot_turn_time_back(
    instance: InstanceView,
    service: InstanceService,
    reading: InstanceReading,
    open_replica: Callable[[], Database],
    tokens: ContentTokens,
    swarm: SwarmService,
) -> None:
    streams = [InstanceAssignments(open_replica(), tokens, swarm) for _ in range(2)]
    for generation in range(2, 8):
        await (service.stop if generation % 2 == 0 else service.start)(OPERATOR, instance.instance.id)
        await asyncio.gather(
            streams[0].accept_reports("host-e1", [said(instance.instance.id, generation)], []),
            streams[1].accept_reports(
                "host-e1", [said(instance.instance.id, generation - 1, agent_pb2.PHASE_FAILED)], []
            ),
        )
        status = (await reading.get(OPERATOR, instance.instance.id)).status
        assert (status.observed_generation, status.phase) == (generation, Phase.RUNNING)


async def test_an_unknown_host_has_no_assignments(assignments: LayeredAssignments) -> None:
    with pytest.raises(HostUnknown):
        await assignments.assignments("host-none")


async def test_a_new_host_begins_with_an_empty_set(assignments: LayeredAssignments) -> None:
    snapshot = await assignments.assignments("host-e1")
    assert (snapshot.generation, snapshot.assignments) == (1, {})


@given(st.binary(max_size=200))
def test_no_report_from_the_wire_breaks_the_reader(data: bytes) -> None:
    try:
        parsed = agent_pb2.InstanceReport.FromString(data)
    except Exception:  # protobuf refuses what is no message at all
        return
    found = wire.observation_of(parsed)
    assert found is None or (found.generation < 1 << 63 and found.restart_count < 1 << 63)
