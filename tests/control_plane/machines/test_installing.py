"""Install tasks: asked for, approved, told to regionals, reported, ended."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from common.errors import NotFound
from common.generations import changes_between
from common.reference import Reference
from control_plane.fleet.dialects import RegionalDialect
from control_plane.fleet.model import Member
from control_plane.machines import store_tasks
from control_plane.machines.model import MachineBusy, MachineNotReady
from control_plane.machines.profiles_model import BootSource, ProfileInUse, ProfileInvalid
from control_plane.machines.tasks import Approval
from control_plane.machines.tasks_model import InstallTask, StepPhase, TaskOver, TaskState
from control_plane.swarm.service import SwarmService
from control_plane.web.paging import PageRequest
from proto.regional.v1 import machines_pb2 as wire
from proto.regional.v1 import regional_pb2
from tests.control_plane.instances.parts import ADMIN
from tests.control_plane.machines.rack import BOOT_IMAGE, HASH, Rack, spec
from tests.control_plane.swarm.parts import Shelf, orders_generation

ALL = PageRequest(page_size=200)


async def now(rack: Rack, task: InstallTask) -> InstallTask:
    return await rack.machines.reading.task(ADMIN, task.id)


async def ordered(swarm: SwarmService, idc: str = "east") -> set[str]:
    return {digest for _, digest in (await swarm.orders(f"idc-{idc}", "regional-er")).orders}


async def test_an_approved_installation_is_told_to_the_regionals_of_its_idc(
    rack: Rack, swarm: SwarmService, shelf: Shelf
) -> None:
    machine, elsewhere = await rack.machine(), await rack.machine("m2", idc="west")
    asked = await rack.machines.tasks.ask(ADMIN, machine.id, (await rack.debian()).id)
    assert (asked.state, (await rack.target(machine)).HasField("intent")) == (TaskState.PENDING, False)
    before = await orders_generation(rack.database, "east")
    task = await rack.machines.tasks.approve(ADMIN, asked.id, Approval())
    assert await orders_generation(rack.database, "east") > before
    intent = (await rack.target(machine)).intent
    image = await shelf.resolve(Reference.parse(BOOT_IMAGE))
    kernel, *initrds = [str(layer.digest) for layer in image.contents[1:]]
    assert (intent.id, intent.task_id, intent.attempt, intent.consumed) == (task.intent_id, task.id, 1, False)
    assert (intent.boot.kernel.content.digest, [one.content.digest for one in intent.boot.initrds]) == (kernel, initrds)
    assert all(one.content.token for one in (intent.boot.kernel, *intent.boot.initrds))
    assert await ordered(swarm) == {kernel, *initrds}
    assert HASH in b"".join(one.content for one in intent.documents).decode()
    assert intent.placeholder_nonce in intent.boot.arguments
    assert [one.id for one in intent.operations] == ["os-install", "complete"]
    assert not (await rack.targets("wr"))[elsewhere.id].HasField("intent")
    assert await ordered(swarm, "west") == set()


async def test_an_image_is_installed_by_operations_of_the_regionals_own_installer(rack: Rack) -> None:
    machine = await rack.machine()
    await rack.approved(machine, await rack.disk())
    intent = (await rack.target(machine)).intent
    assert not intent.HasField("boot")
    assert [one.WhichOneof("what") for one in intent.operations] == [
        "hardware_config",
        "network_config",
        "disk_wipe",
        "image_install",
        "reboot",
        "complete",
    ]
    written = intent.operations[3].image_install
    assert (written.format, written.content.size_bytes, bool(written.content.token)) == ("raw", 14, True)
    assert set(written.seed_documents) == {one.name for one in intent.documents}


async def test_an_installation_goes_its_way_and_is_remembered(rack: Rack, swarm: SwarmService) -> None:
    machine = await rack.machine()
    task = await rack.approved(machine)
    intent = task.intent_id
    booting, installing = wire.INSTALL_PHASE_BOOTING, wire.INSTALL_PHASE_INSTALLING
    started, progress, log_ = wire.OPERATION_PHASE_STARTED, wire.OPERATION_PHASE_PROGRESS, wire.OPERATION_PHASE_LOG
    assert await rack.says(rack.install(machine, intent, booting)) == []
    assert (await rack.target(machine)).intent.consumed
    await rack.says(
        rack.install(machine, intent, installing),
        rack.step(machine, intent, "os-install", started),
        rack.step(machine, intent, "os-install", progress, 50),
        rack.step(machine, intent, "os-install", log_, text="partitioning\nunpacking\x1b[31m"),
    )
    found = await now(rack, task)
    assert (found.state, found.percent, found.steps[0].phase) == (TaskState.INSTALLING, 47, StepPhase.RUNNING)
    await rack.clock.advance(60)
    await rack.says(
        rack.step(machine, intent, "os-install", wire.OPERATION_PHASE_COMPLETE),
        rack.install(machine, intent, wire.INSTALL_PHASE_COMPLETED, "all is well"),
    )
    found = await now(rack, task)
    assert (found.state, found.percent, found.detail) == (TaskState.COMPLETED, 100, "all is well")
    assert (await rack.machines.reading.get(ADMIN, machine.id)).installed == "debian@1"
    assert not (await rack.target(machine)).HasField("intent")
    assert await ordered(swarm) == set()
    lines = (await rack.machines.reading.logs(ADMIN, task.id, 0, ALL)).items
    assert [line.text for line in lines] == ["partitioning", "unpacking [31m"]
    assert [line.text for line in (await rack.machines.reading.logs(ADMIN, task.id, 1, ALL)).items] == [
        "unpacking [31m"
    ]
    history = await rack.machines.reading.history(ADMIN, task.id)
    assert [(entry.state.value, entry.by) for entry in history] == [
        ("pending", "admin"),
        ("approved", "admin"),
        ("booting", ""),
        ("installing", ""),
        ("completed", ""),
    ]
    [statistics] = await rack.machines.reading.statistics(ADMIN)
    assert (statistics.ended, statistics.median_seconds) == ({TaskState.COMPLETED: 1}, 60.0)


async def test_a_report_counts_once_however_often_it_is_delivered(rack: Rack) -> None:
    machine = await rack.machine()
    task = await rack.approved(machine)
    log_ = rack.step(machine, task.intent_id, "os-install", wire.OPERATION_PHASE_LOG, text="once")
    event = rack.report(machine, event=wire.BootEvent(stage="dhcp", detail="asked"))
    for _ in range(3):
        assert await rack.says(log_, event) == []
    await asyncio.gather(*(rack.says(log_, event) for _ in range(3)))
    assert len((await rack.machines.reading.logs(ADMIN, task.id, 0, ALL)).items) == 1
    assert len((await rack.machines.reading.events(ADMIN, machine.id, ALL)).items) == 1


async def test_what_is_not_a_regionals_to_say_is_refused_and_changes_nothing(rack: Rack) -> None:
    machine, other = await rack.machine(), await rack.machine("m2")
    far = await rack.machine("m3", idc="west")
    task = await rack.approved(machine)
    completed = wire.INSTALL_PHASE_COMPLETED
    [wrong_idc] = await rack.says(rack.install(machine, task.intent_id, completed), regional="wr")
    assert "west has no machine" in wrong_idc
    good = rack.report(machine, event=wire.BootEvent(stage="dhcp", detail="asked"))
    bad = [
        rack.install(other, task.intent_id, completed),
        rack.install(far, task.intent_id, completed),
        rack.report(None, install=wire.InstallReport(intent_id=task.intent_id, phase=completed)),
        rack.install(machine, task.intent_id, 0),
        rack.sighting("no address"),
        wire.MachineReport(id="short", event=wire.BootEvent(mac=machine.macs[0])),
    ]
    reasons = await rack.says(*bad[:3], good, *bad[3:])
    assert len(reasons) == len(bad), reasons
    assert (await now(rack, task)).state is TaskState.APPROVED
    assert len((await rack.machines.reading.events(ADMIN, machine.id, ALL)).items) == 1


async def test_words_of_an_older_try_and_of_none_move_nothing(rack: Rack) -> None:
    machine = await rack.machine()
    first = await rack.approved(machine)
    await rack.says(rack.install(machine, first.intent_id, wire.INSTALL_PHASE_FAILED, "disk too small"))
    assert (await now(rack, first)).state is TaskState.FAILED
    again = await rack.machines.tasks.retry(ADMIN, first.id, Approval())
    assert (again.attempt, again.intent_id == first.intent_id) == (2, False)
    late = rack.install(machine, first.intent_id, wire.INSTALL_PHASE_COMPLETED)
    unheard = rack.install(machine, "0199b4a1-0000-7000-8000-000000000000", wire.INSTALL_PHASE_COMPLETED)
    assert await rack.says(late, unheard) == []
    assert (await now(rack, first)).state is TaskState.APPROVED


async def test_a_failure_is_tried_again_as_often_as_its_approval_allows(rack: Rack) -> None:
    machine = await rack.machine()
    task = await rack.approved(machine, retries=1)
    await rack.says(rack.install(machine, task.intent_id, wire.INSTALL_PHASE_FAILED, "no link"))
    second = await now(rack, task)
    assert (second.state, second.attempt) == (TaskState.APPROVED, 2)
    assert (await rack.target(machine)).intent.id == second.intent_id != task.intent_id
    await rack.says(rack.install(machine, second.intent_id, wire.INSTALL_PHASE_FAILED, "no link"))
    assert (await now(rack, task)).state is TaskState.FAILED
    assert not (await rack.target(machine)).HasField("intent")


async def test_cancelling_takes_the_intent_away_and_the_regionals_word_that_it_stopped_changes_nothing(
    rack: Rack, swarm: SwarmService
) -> None:
    machine = await rack.machine()
    task = await rack.approved(machine)
    await rack.says(rack.install(machine, task.intent_id, wire.INSTALL_PHASE_BOOTING))
    await rack.machines.tasks.cancel(ADMIN, task.id, "wrong rack")
    await rack.machines.tasks.cancel(ADMIN, task.id)
    assert not (await rack.target(machine)).HasField("intent")
    assert await ordered(swarm) == set()
    await rack.says(rack.install(machine, task.intent_id, wire.INSTALL_PHASE_STOPPED))
    assert ((await now(rack, task)).state, (await now(rack, task)).detail) == (TaskState.CANCELLED, "wrong rack")
    with pytest.raises(TaskOver):
        await rack.machines.tasks.approve(ADMIN, task.id, Approval())


async def test_silence_is_presumed_a_failure_and_a_late_word_is_the_truth(rack: Rack) -> None:
    machine = await rack.machine()
    task = await rack.approved(machine)
    await rack.says(rack.install(machine, task.intent_id, wire.INSTALL_PHASE_BOOTING))
    await rack.clock.advance(timedelta(hours=2, minutes=59).total_seconds())
    assert await rack.machines.tasks.sweep() == 0
    await rack.clock.advance(timedelta(minutes=2).total_seconds())
    assert await rack.machines.tasks.sweep() == 1
    presumed = await now(rack, task)
    assert (presumed.state, presumed.presumed) == (TaskState.FAILED, True)
    # The machine may still be at it: nothing is taken from it.
    assert (await rack.target(machine)).intent.consumed
    await rack.says(rack.install(machine, task.intent_id, wire.INSTALL_PHASE_COMPLETED))
    found = await now(rack, task)
    assert (found.state, found.presumed) == (TaskState.COMPLETED, False)
    assert not (await rack.target(machine)).HasField("intent")


async def test_a_newer_installation_ends_the_doubt_about_an_older_one(rack: Rack) -> None:
    machine, profile = await rack.machine(), await rack.debian()
    older = await rack.approved(machine, profile)
    await rack.clock.advance(timedelta(hours=26).total_seconds())
    await rack.machines.tasks.sweep()
    newer = await rack.approved(machine, profile)
    assert (await rack.target(machine)).intent.id == newer.intent_id
    await rack.says(rack.install(machine, older.intent_id, wire.INSTALL_PHASE_COMPLETED))
    assert ((await now(rack, older)).state, (await now(rack, newer)).state) == (TaskState.FAILED, TaskState.APPROVED)


async def test_a_machine_has_one_task_at_a_time_and_keeps_still_meanwhile(rack: Rack) -> None:
    machine, profile = await rack.machine(), await rack.debian()
    tasks = rack.machines.tasks
    found = await asyncio.gather(*(tasks.ask(ADMIN, machine.id, profile.id) for _ in range(3)), return_exceptions=True)
    assert sorted(type(one) is MachineBusy for one in found) == [False, True, True]
    for refused in (rack.machines.service.remove, rack.machines.service.ignore):
        with pytest.raises(MachineBusy):
            await refused(ADMIN, machine.id)
    with pytest.raises(MachineBusy):
        await rack.machines.service.assign(ADMIN, machine.id, "acme")
    with pytest.raises(ProfileInUse):
        await rack.machines.profiles.remove(ADMIN, profile.id)


async def test_nothing_is_installed_on_a_machine_that_nobody_accepted(rack: Rack) -> None:
    await rack.says(rack.sighting("52:54:00:00:01:01"))
    [machine_id] = await rack.targets()
    with pytest.raises(MachineNotReady):
        await rack.machines.tasks.ask(ADMIN, machine_id, (await rack.debian()).id)


async def test_a_task_keeps_the_version_and_the_images_that_it_was_asked_for_with(rack: Rack, shelf: Shelf) -> None:
    machine, profile = await rack.machine(), await rack.debian()
    task = await rack.machines.tasks.ask(ADMIN, machine.id, profile.id)
    await rack.machines.profiles.revise(ADMIN, profile.id, spec(boot=BootSource(kernel="kernels/vmlinuz")))
    shelf.put_image(BOOT_IMAGE, b"another kernel", b"another initrd")
    await rack.machines.tasks.approve(ADMIN, task.id, Approval())
    intent = (await rack.target(machine)).intent
    assert (len(intent.boot.initrds), intent.boot.kernel.content.size_bytes) == (2, 6)


async def test_what_cannot_be_installed_is_refused_when_it_is_written(rack: Rack) -> None:
    wrong = (
        spec(boot=BootSource()),
        spec(boot=BootSource(kernel="../vmlinuz")),
        spec(boot=BootSource(image=BOOT_IMAGE, kernel="kernels/vmlinuz")),
        spec(longest_seconds=5),
        spec(installer_arguments=("quiet\ninit=/bin/sh",)),
        spec(hardware_script="x" * 70_000),
    )
    for number, said in enumerate(wrong):
        with pytest.raises(ProfileInvalid):
            await rack.profile(f"p{number}", said)
    machine = await rack.machine()
    missing = await rack.profile("missing", spec(boot=BootSource(image="acme/none:1")))
    with pytest.raises(NotFound):
        await rack.machines.tasks.ask(ADMIN, machine.id, missing.id)
    assert (await rack.machines.reading.tasks(ADMIN, store_tasks.Filter(), ALL)).total_count == 0


async def test_the_stream_of_a_regional_carries_targets_with_orders_and_answers_reports(
    rack: Rack, swarm: SwarmService
) -> None:
    """As the fleet's conversation asks it: full set, changes, reports."""
    dialect = RegionalDialect(swarm, dict, machines=rack.machines.targets)
    regional: Member = await rack.regional()
    machine, going = await rack.machine(), await rack.machine("m2")
    first = await dialect.picture(regional)
    full = dialect.full(first)
    assert isinstance(full, regional_pb2.PlaneMessage)
    assert {one.machine_id for one in full.set.boot_targets} == {machine.id, going.id}
    await rack.approved(machine)
    await rack.machines.service.remove(ADMIN, going.id)
    second = await dialect.picture(regional)
    between = changes_between(first.items, first.generation, second.items, second.generation)
    message = dialect.changes(between)
    assert isinstance(message, regional_pb2.PlaneMessage)
    told = message.changes
    assert [one.machine_id for one in told.changed_targets] == [machine.id]
    assert (list(told.removed_machines), len(told.changed), len(told.removed)) == ([going.id], 3, 0)
    wrong = rack.sighting("no address")
    said = wire.MachineReports(sequence=7, reports=[rack.sighting(machine.macs[0]), wrong])
    answer = await dialect.accept(regional, regional_pb2.RegionalMessage(machines=said))
    assert isinstance(answer, regional_pb2.PlaneMessage)
    assert (answer.machines_ack.sequence, [one.id for one in answer.machines_ack.refused]) == (7, [wrong.id])


async def test_two_pictures_without_a_change_between_are_equal(rack: Rack) -> None:
    machine = await rack.machine()
    await rack.approved(machine)
    assert await rack.targets() == await rack.targets()
