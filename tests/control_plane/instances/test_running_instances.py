from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from common.clock import ManualClock
from common.content_token import ContentVerifier
from common.digest import Digest
from common.errors import Denied, Failure, Invalid, NotFound, Unauthenticated
from control_plane.database import Database
from control_plane.fleet.assigning import LayeredAssignments
from control_plane.fleet.model import HostUnknown, IdcUnknown
from control_plane.instances.model import DesiredState, Phase, PortMapping, RunRequest
from control_plane.instances.placing import NameTaken
from control_plane.instances.reading import InstanceReading, InstanceUnknown
from control_plane.instances.rules import InstanceNameInvalid, SpecInvalid
from control_plane.instances.service import HostRevoked, InstanceService
from control_plane.instances.transitions import InstanceBeingRemoved, InstanceDiffers
from control_plane.instances.views import InstanceFilter
from control_plane.swarm.service import SwarmService
from control_plane.swarm.tokens import ContentTokens
from control_plane.tenants.access import Principal
from control_plane.web.paging import PageRequest
from proto.agent.v1 import agent_pb2
from tests.control_plane.instances.parts import ADMIN, OPERATOR, STRANGER, VIEWER, WEB, run_request
from tests.control_plane.swarm.parts import Shelf, Tenants, add_host, announced, revoke_host

pytestmark = pytest.mark.usefixtures("fleet")


async def everything(reading: InstanceReading) -> list[str]:
    page = await reading.page(ADMIN, InstanceFilter(), PageRequest(page_size=200))
    return [f"{view.idc}/{view.host}:{view.instance.name}" for view in page.items]


async def test_one_instance_on_each_host_that_was_named(service: InstanceService, reading: InstanceReading) -> None:
    views = await service.run(OPERATOR, run_request("east/e1", "host-w1", environment={"A": "1"}))
    assert [f"{view.idc}/{view.host}" for view in views] == ["east/e1", "west/w1"]
    assert {view.instance.generation for view in views} == {1}
    assert {view.status.phase for view in views} == {Phase.PENDING}
    assert views[0].instance.spec.environment == {"A": "1"}
    assert (await reading.get(VIEWER, views[0].instance.id)) == views[0]


async def test_an_idc_and_everywhere_mean_all_their_hosts(service: InstanceService) -> None:
    assert len(await service.run(OPERATOR, run_request(idc="east"))) == 2
    assert len(await service.run(OPERATOR, run_request(all_hosts=True, name="other"))) == 3


async def test_a_host_named_twice_gets_one_instance(service: InstanceService) -> None:
    assert len(await service.run(OPERATOR, run_request("east/e1", "east/e1", "host-e1"))) == 1


async def test_the_host_hears_everything_that_was_asked(
    service: InstanceService, assignments: LayeredAssignments, shelf: Shelf, tokens: ContentTokens, clock: ManualClock
) -> None:
    (view,) = await service.run(
        OPERATOR,
        run_request("east/e1", command=("serve",), ports=(PortMapping(80, 8080),), cpus=0.5, memory_bytes=64 << 20),
    )
    snapshot = await assignments.assignments("host-e1")
    (assignment,) = snapshot.assignments.values()
    image = shelf.images[WEB, "amd64"]
    assert assignment.instance_id == view.instance.id
    assert (assignment.tenant, assignment.tenant_id, assignment.name) == ("acme", "t-acme", "web")
    assert assignment.desired_state == agent_pb2.DESIRED_STATE_RUNNING
    assert (assignment.image.repository, assignment.image.tag) == ("acme/web", "1.4")
    assert assignment.image.manifest.digest == str(image.manifest.digest)
    assert [content.digest for content in assignment.image.contents] == [str(one.digest) for one in image.contents]
    assert list(assignment.container.command) == ["serve"]
    assert (assignment.container.ports[0].host_port, assignment.container.ports[0].protocol) == (8080, "tcp")
    assert (assignment.container.cpus, assignment.container.memory_bytes) == (0.5, 64 << 20)
    assert not assignment.container.HasField("health_check")
    verifier = ContentVerifier(clock)
    verifier.replace_keys(tokens.verifying_keys())
    for content in (assignment.image.manifest, *assignment.image.contents):
        claim = verifier.verify(content.token, Digest.parse(content.digest))
        assert (claim.bearer, claim.idc, claim.tenant_id) == ("host/host-e1", "east", "t-acme")
    assert (await assignments.assignments("host-e2")).assignments == {}


async def test_the_idc_orders_what_its_instances_need(
    service: InstanceService, swarm: SwarmService, shelf: Shelf
) -> None:
    await service.run(OPERATOR, run_request("east/e1", "east/e2"))
    image = shelf.images[WEB, "amd64"]
    expected = {("t-acme", str(one.digest)) for one in (image.manifest, *image.contents)}
    assert set((await swarm.orders("idc-east", "regional-er")).orders) == expected
    assert (await swarm.orders("idc-west", "regional-wr")).orders == {}


async def test_hosts_get_the_image_of_their_architecture(
    service: InstanceService, database: Database, shelf: Shelf
) -> None:
    await add_host(database, "west", "arm", "aarch64")
    await add_host(database, "west", "silent", None)
    shelf.put_image(WEB, b"base for arm", architecture="arm64")
    views = await service.run(OPERATOR, run_request(idc="west"))
    digests = {view.host: view.instance.image.manifest.digest for view in views}
    assert digests["arm"] == shelf.images[WEB, "arm64"].manifest.digest
    assert digests["w1"] == digests["silent"] == shelf.images[WEB, "amd64"].manifest.digest


async def test_asking_again_changes_nothing(
    service: InstanceService, assignments: LayeredAssignments, database: Database, clock: ManualClock
) -> None:
    first = await service.run(OPERATOR, run_request(idc="east"))
    snapshot = await assignments.assignments("host-e1")
    topics = await announced(database)
    clock.tick(60)
    assert await service.run(OPERATOR, run_request(idc="east")) == first
    assert await assignments.assignments("host-e1") == snapshot
    assert await announced(database) == topics


async def test_asking_again_for_more_hosts_adds_the_missing_ones(service: InstanceService) -> None:
    (first,) = await service.run(OPERATOR, run_request("east/e1"))
    views = await service.run(OPERATOR, run_request(idc="east"))
    assert len(views) == 2
    assert first in views


async def test_another_specification_is_refused_and_changes_no_host(
    service: InstanceService, reading: InstanceReading, assignments: LayeredAssignments
) -> None:
    await service.run(OPERATOR, run_request("east/e1"))
    before = await assignments.assignments("host-e2")
    with pytest.raises(InstanceDiffers) as conflict:
        await service.run(OPERATOR, run_request(idc="east", cpus=2))
    assert conflict.value.facts["field"] == "cpus"
    assert await everything(reading) == ["east/e1:web"]
    assert await assignments.assignments("host-e2") == before


async def test_a_tag_that_moved_is_another_specification(service: InstanceService, shelf: Shelf) -> None:
    await service.run(OPERATOR, run_request("east/e1"))
    shelf.put_image(WEB, b"base", b"web, changed")
    with pytest.raises(InstanceDiffers) as conflict:
        await service.run(OPERATOR, run_request("east/e1"))
    assert conflict.value.facts["field"] == "digest"


async def test_what_was_held_can_be_asked_to_run(service: InstanceService) -> None:
    (held,) = await service.run(OPERATOR, run_request("east/e1", desired_state=DesiredState.HELD))
    assert held.instance.desired_state is DesiredState.HELD
    (running,) = await service.run(OPERATOR, run_request("east/e1"))
    assert (running.instance.id, running.instance.generation) == (held.instance.id, 2)
    assert running.instance.desired_state is DesiredState.RUNNING


@pytest.mark.parametrize(
    ("principal", "request_", "failure"),
    [
        (Principal(), run_request("east/e1"), Unauthenticated),
        (VIEWER, run_request("east/e1"), Denied),
        (STRANGER, run_request("east/e1"), NotFound),
        (ADMIN, run_request("east/e1", tenant="nobody"), NotFound),
        (OPERATOR, run_request("east/e1", image="globex/web:1"), NotFound),
        (OPERATOR, run_request("east/e1", image="acme/none:1"), NotFound),
        (OPERATOR, run_request("east/e1", image="../etc/passwd"), Invalid),
        (OPERATOR, run_request("east/e1", image="acme/" + "w" * 300), Invalid),
        (OPERATOR, run_request("east/e1", name="../web"), InstanceNameInvalid),
        (OPERATOR, run_request("east/e1", cpus=-1), SpecInvalid),
        (OPERATOR, run_request(), SpecInvalid),
        (OPERATOR, run_request("east/e1", "east/none"), HostUnknown),
        (OPERATOR, run_request("east/e1", "../../etc/passwd"), HostUnknown),
        (OPERATOR, run_request(idc="none"), IdcUnknown),
    ],
)
async def test_what_cannot_be_done_changes_nothing(
    service: InstanceService,
    reading: InstanceReading,
    database: Database,
    principal: Principal,
    request_: RunRequest,
    failure: type[Failure],
) -> None:
    with pytest.raises(failure):
        await service.run(principal, request_)
    assert await everything(reading) == []
    assert await announced(database) == []


async def test_one_revoked_host_stops_a_request_that_names_it(
    service: InstanceService, reading: InstanceReading, database: Database
) -> None:
    await revoke_host(database, "host-e2")
    with pytest.raises(HostRevoked):
        await service.run(OPERATOR, run_request("east/e1", "east/e2"))
    assert await everything(reading) == []
    assert len(await service.run(OPERATOR, run_request(idc="east"))) == 1


async def test_an_idc_whose_hosts_are_all_revoked_has_none(service: InstanceService, database: Database) -> None:
    await revoke_host(database, "host-w1")
    with pytest.raises(HostUnknown):
        await service.run(OPERATOR, run_request(idc="west"))


async def test_of_two_that_ask_at_once_for_different_things_one_is_refused(
    service: InstanceService,
    reading: InstanceReading,
    open_replica: Callable[[], Database],
    clock: ManualClock,
    shelf: Shelf,
    tenants: Tenants,
    swarm: SwarmService,
) -> None:
    other = InstanceService(open_replica(), clock, shelf, tenants, swarm, reading)
    for attempt in range(5):
        outcomes = await asyncio.gather(
            service.run(OPERATOR, run_request(idc="east", name=f"web{attempt}", cpus=1)),
            other.run(OPERATOR, run_request(idc="east", name=f"web{attempt}", cpus=2)),
            return_exceptions=True,
        )
        lost = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert len(lost) == 1
        assert isinstance(lost[0], InstanceDiffers | NameTaken)
    found = await reading.page(ADMIN, InstanceFilter(), PageRequest(page_size=50))
    assert len(found.items) == 10
    assert all(
        len({view.instance.spec.cpus for view in found.items if view.instance.name == name}) == 1
        for name in {view.instance.name for view in found.items}
    )


async def test_each_verb_raises_the_generation_of_instance_and_host(
    service: InstanceService, assignments: LayeredAssignments
) -> None:
    (view,) = await service.run(OPERATOR, run_request("east/e1"))
    instance_id = view.instance.id
    generations = [(await assignments.assignments("host-e1")).generation]
    for number, verb in enumerate((service.stop, service.start, service.restart), start=2):
        assert (await verb(OPERATOR, instance_id)).instance.generation == number
        snapshot = await assignments.assignments("host-e1")
        assert snapshot.assignments[instance_id].generation == number
        generations.append(snapshot.generation)
    assert generations == sorted(set(generations))
    assert snapshot.assignments[instance_id].restart_nonce == 1


async def test_a_verb_that_changes_nothing_wakes_nobody(service: InstanceService, database: Database) -> None:
    (view,) = await service.run(OPERATOR, run_request("east/e1"))
    topics = await announced(database)
    assert await service.start(OPERATOR, view.instance.id) == view
    assert await announced(database) == topics


async def test_a_removal_waits_for_the_host(
    service: InstanceService, assignments: LayeredAssignments, swarm: SwarmService
) -> None:
    (view,) = await service.run(OPERATOR, run_request("east/e1"))
    left = await service.remove(OPERATOR, view.instance.id)
    assert left is not None
    assert left.instance.desired_state is DesiredState.REMOVED
    again = await service.remove(OPERATOR, view.instance.id)
    assert again == left
    (assignment,) = (await assignments.assignments("host-e1")).assignments.values()
    assert assignment.desired_state == agent_pb2.DESIRED_STATE_REMOVED
    assert (await swarm.orders("idc-east", "r")).orders
    for verb in (service.start, service.stop, service.restart):
        with pytest.raises(InstanceBeingRemoved):
            await verb(OPERATOR, view.instance.id)
    with pytest.raises(InstanceBeingRemoved):
        await service.run(OPERATOR, run_request("east/e1"))


async def test_force_forgets_at_once_and_lets_the_host_clean_up(
    service: InstanceService, assignments: LayeredAssignments, swarm: SwarmService, reading: InstanceReading
) -> None:
    (view,) = await service.run(OPERATOR, run_request("east/e1"))
    before = await assignments.assignments("host-e1")
    assert await service.remove(OPERATOR, view.instance.id, force=True) is None
    after = await assignments.assignments("host-e1")
    assert after.assignments == {}
    assert after.generation > before.generation
    assert (await swarm.orders("idc-east", "r")).orders == {}
    with pytest.raises(InstanceUnknown):
        await reading.get(OPERATOR, view.instance.id)


async def test_a_revoked_host_is_not_waited_for(
    service: InstanceService, reading: InstanceReading, database: Database
) -> None:
    (view,) = await service.run(OPERATOR, run_request("east/e1"))
    await revoke_host(database, "host-e1")
    assert await service.remove(OPERATOR, view.instance.id) is None
    assert await everything(reading) == []


async def test_a_removal_whose_host_is_revoked_later_ends_too(
    service: InstanceService, reading: InstanceReading, database: Database, swarm: SwarmService
) -> None:
    doomed, kept = await service.run(OPERATOR, run_request(idc="east"))
    await service.remove(OPERATOR, doomed.instance.id)
    assert await service.sweep() == 0
    await revoke_host(database, doomed.instance.host_id)
    await revoke_host(database, kept.instance.host_id)
    assert await service.sweep() == 1
    # What nobody asked to remove stays until somebody does.
    assert [view.instance.id for view in (await reading.page(ADMIN, InstanceFilter(), PageRequest())).items] == [
        kept.instance.id
    ]


async def test_the_last_instance_takes_the_orders_with_it(
    service: InstanceService, swarm: SwarmService, shelf: Shelf
) -> None:
    shelf.put_image("acme/api:1", b"base", b"api")
    (web,) = await service.run(OPERATOR, run_request("east/e1"))
    (api,) = await service.run(OPERATOR, run_request("east/e2", name="api", image="acme/api:1"))
    await service.remove(OPERATOR, web.instance.id, force=True)
    image = shelf.images["acme/api:1", "amd64"]
    assert set((await swarm.orders("idc-east", "r")).orders) == {
        ("t-acme", str(one.digest)) for one in (image.manifest, *image.contents)
    }
    await service.remove(OPERATOR, api.instance.id, force=True)
    assert (await swarm.orders("idc-east", "r")).orders == {}


async def test_lists_are_filtered_and_paged(service: InstanceService, reading: InstanceReading, shelf: Shelf) -> None:
    shelf.put_image("globex/db:1", b"db", tenant_id="t-globex")
    await service.run(OPERATOR, run_request(all_hosts=True))
    await service.run(STRANGER, run_request("west/w1", name="db", tenant="globex", image="globex/db:1"))

    async def found(wanted: InstanceFilter, who: Principal = ADMIN) -> list[str]:
        page = await reading.page(who, wanted, PageRequest())
        assert page.total_count == len(page.items)
        return [f"{view.instance.tenant}:{view.idc}/{view.host}" for view in page.items]

    assert len(await found(InstanceFilter())) == 4
    assert await found(InstanceFilter(tenant="globex")) == ["globex:west/w1"]
    assert await found(InstanceFilter(idc="west")) == ["acme:west/w1", "globex:west/w1"]
    assert await found(InstanceFilter(host="east/e2")) == ["acme:east/e2"]
    assert await found(InstanceFilter(host="host-e1")) == ["acme:east/e1"]
    assert await found(InstanceFilter(name="db", idc="east")) == []
    assert await found(InstanceFilter(), STRANGER) == ["globex:west/w1"]
    with pytest.raises(NotFound):
        await found(InstanceFilter(tenant="acme"), STRANGER)
    page = await reading.page(ADMIN, InstanceFilter(), PageRequest(2, 3))
    assert (len(page.items), page.total_count, page.total_pages) == (1, 4, 2)
