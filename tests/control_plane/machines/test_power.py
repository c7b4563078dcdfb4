"""Power at the centre: who may order what, which regional gets it, and what its words change."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from common.errors import Conflict, Denied, Failure, NotFound
from control_plane.audit.tables import inbox
from control_plane.fleet import store_members
from control_plane.machines.model import Machine
from control_plane.machines.power import rules
from control_plane.machines.power.model import BmcInvalid, BmcProtocol, Login, OrderState, PowerDeed, PowerState
from control_plane.machines.power.service import NewBmc
from control_plane.machines.power.tables import machine_bmcs
from control_plane.machines.store_events import events
from control_plane.machines.tasks import Approval
from control_plane.tenants.access import Principal, Role
from control_plane.web.paging import PageRequest
from proto.regional.v1 import machines_pb2 as wire
from tests.control_plane.machines.rack import EVERYBODY, Rack

ADMIN, OPERATOR, VIEWER, MANAGER = (EVERYBODY[name] for name in ("admin", "operator", "viewer", "manager"))
STRANGER = Principal("u-9", "gus", roles={"globex": Role.ADMIN})
SECRET = "correct horse"


def bmc(**more: Any) -> NewBmc:
    return NewBmc(
        **{"protocol": BmcProtocol.REDFISH, "address": "10.0.0.9", "username": "root", "password": SECRET} | more
    )


@pytest.fixture
async def machine(rack: Rack) -> Machine:
    """Of acme, with a BMC."""
    made = await rack.machine("web", tenant="acme")
    await rack.machines.power.describe(ADMIN, made.id, bmc())
    return made


async def ordered(rack: Rack, machine: Machine, deed: PowerDeed = PowerDeed.ON) -> wire.PowerOrder:
    await rack.machines.power.order(OPERATOR, machine.id, deed)
    told = await rack.target(machine)
    assert told.HasField("power")
    return told.power


async def says(rack: Rack, machine: Machine, order_id: str, phase: int, regional: str = "er", **more: Any) -> list[str]:
    said = wire.PowerReport(order_id=order_id, phase=phase, **more)  # type: ignore[arg-type]
    return await rack.says(rack.report(machine, power=said), regional=regional)


async def state_of(rack: Rack, machine: Machine, order_id: str) -> OrderState:
    return (await rack.machines.power.one(ADMIN, machine.id, order_id)).state


async def test_an_order_goes_to_one_regional_with_its_login_and_its_report_ends_it(
    rack: Rack, machine: Machine
) -> None:
    assert not (await rack.target(machine)).HasField("power")
    order = await ordered(rack, machine, PowerDeed.NETWORK)
    assert (order.deed, order.bmc.address, order.bmc.port) == (wire.POWER_DEED_NETWORK, "10.0.0.9", 443)
    assert (order.bmc.username, order.bmc.password) == ("root", SECRET)
    assert (await rack.target(machine)).power == order  # until it is over
    assert await says(rack, machine, order.id, wire.POWER_PHASE_STARTED) == []
    assert await state_of(rack, machine, order.id) is OrderState.RUNNING
    done = {"state": wire.POWER_STATE_ON, "detail": "it was restarted"}
    assert await says(rack, machine, order.id, wire.POWER_PHASE_DONE, **done) == []
    assert not (await rack.target(machine)).HasField("power")
    looked = await rack.machines.power.look(VIEWER, machine.id)
    assert looked.order is None
    assert looked.state is not None
    assert (looked.known, looked.bmc, looked.state.state) == (True, None, PowerState.ON)
    assert await says(rack, machine, order.id, wire.POWER_PHASE_FAILED, detail="late") == []
    assert await state_of(rack, machine, order.id) is OrderState.DONE
    async with rack.database.reading() as connection:
        lines = (await events(connection, machine.id, PageRequest())).items
    assert [(line.stage, line.detail) for line in lines] == [("power", "network: done, it was restarted")]


async def test_the_login_is_sealed_and_in_no_record_and_goes_to_no_other_address(rack: Rack, machine: Machine) -> None:
    async with rack.database.reading() as connection:
        row = (await connection.execute(select(machine_bmcs))).one()
        entries = [one.entry for one in await connection.execute(select(inbox.c.entry))]
    assert SECRET not in repr(row)
    assert SECRET not in repr(entries) + repr(await rack.machines.power.look(ADMIN, machine.id)) + repr(bmc())
    with pytest.raises(BmcInvalid, match="password is needed"):
        await rack.machines.power.describe(ADMIN, machine.id, bmc(password=None, address="10.0.0.66"))
    again = await rack.machines.power.describe(
        ADMIN, machine.id, bmc(password=None, username="", fingerprint="AB:" * 32)
    )
    assert again.bmc is not None
    assert (again.username, again.bmc.fingerprint) == ("root", "ab" * 32)
    assert (await ordered(rack, machine)).bmc.password == SECRET


@pytest.mark.parametrize(
    "wrong",
    [
        {"address": "bmc.example.org"},
        {"address": "0.0.0.0"},
        {"address": "::ffff:10.0.0.1"},
        {"address": "224.0.0.1"},
        {"port": 0},
        {"fingerprint": "abc"},
        {"username": ""},
        {"username": "a:b"},
        {"password": "line\nbreak"},
        {"system": "../../x"},
        {"system": "//evil/x"},
        {"protocol": BmcProtocol.IPMI, "password": "x" * 21},
        {"protocol": BmcProtocol.IPMI, "username": "x" * 17},
        {"protocol": BmcProtocol.IPMI, "fingerprint": "ab" * 32},
        {"protocol": BmcProtocol.IPMI, "system": "1"},
    ],
)
async def test_what_is_no_bmc_is_refused(wrong: dict[str, Any]) -> None:
    wish = bmc(**wrong)
    with pytest.raises(BmcInvalid) as refused:
        checked(wish)
    assert str(wish.password) not in str(refused.value)


def checked(wish: NewBmc) -> None:
    rules.check_address(wish.address)
    rules.check_port(wish.protocol, wish.port)
    rules.check_fingerprint(wish.protocol, wish.fingerprint)
    rules.check_system(wish.protocol, wish.system)
    rules.check_login(wish.protocol, Login(wish.username, wish.password or ""))


async def test_a_bmc_that_makes_no_sense_changes_nothing(rack: Rack, machine: Machine) -> None:
    before = await rack.machines.power.look(ADMIN, machine.id)
    with pytest.raises(BmcInvalid):
        await rack.machines.power.describe(ADMIN, machine.id, bmc(address="bmc.example.org", username="other"))
    assert await rack.machines.power.look(ADMIN, machine.id) == before


async def test_where_bmcs_are_is_the_platforms_and_orders_are_the_tenants(rack: Rack, machine: Machine) -> None:
    power = rack.machines.power
    for principal, failure in ((MANAGER, Denied), (OPERATOR, Denied), (STRANGER, Failure)):
        with pytest.raises(failure):
            await power.describe(principal, machine.id, bmc())
        with pytest.raises(failure):
            await power.forget(principal, machine.id)
    with pytest.raises(Denied):
        await power.order(VIEWER, machine.id, PowerDeed.OFF)
    order = await power.order(OPERATOR, machine.id, PowerDeed.OFF)
    for ask in (
        power.look(STRANGER, machine.id),
        power.history(STRANGER, machine.id, PageRequest()),
        power.one(STRANGER, machine.id, order.id),
        power.order(STRANGER, machine.id, PowerDeed.OFF),
        power.cancel(STRANGER, machine.id, order.id),
    ):
        with pytest.raises(NotFound):
            await ask
    assert (await power.cancel(OPERATOR, machine.id, order.id)).state is OrderState.CANCELLED
    assert not (await rack.target(machine)).HasField("power")
    await rack.machines.service.assign(ADMIN, machine.id, "globex")
    assert (await power.history(STRANGER, machine.id, PageRequest())).total_count == 0
    with pytest.raises(NotFound):
        await power.one(STRANGER, machine.id, order.id)
    assert (await power.history(ADMIN, machine.id, PageRequest())).total_count == 1


async def test_a_second_order_waits_for_the_first_to_be_over(rack: Rack, machine: Machine) -> None:
    first = await ordered(rack, machine)
    with pytest.raises(Conflict, match="not over"):
        await rack.machines.power.order(OPERATOR, machine.id, PowerDeed.OFF)
    with pytest.raises(Conflict, match="not over"):
        await rack.machines.power.describe(ADMIN, machine.id, bmc())
    await says(rack, machine, first.id, wire.POWER_PHASE_STARTED)
    with pytest.raises(Conflict, match="running"):
        await rack.machines.power.cancel(OPERATOR, machine.id, first.id)
    await says(rack, machine, first.id, wire.POWER_PHASE_FAILED, detail="the BMC does not answer")
    await rack.machines.power.order(OPERATOR, machine.id, PowerDeed.OFF)


async def test_without_a_bmc_nothing_is_ordered(rack: Rack) -> None:
    bare = await rack.machine("bare")
    with pytest.raises(NotFound, match="no BMC"):
        await rack.machines.power.order(ADMIN, bare.id, PowerDeed.ON)
    await rack.machines.power.forget(ADMIN, bare.id)
    looked = await rack.machines.power.look(ADMIN, bare.id)
    assert (looked.known, looked.bmc, looked.order) == (False, None, None)


async def second_regional(rack: Rack) -> None:
    """A further one of the IDC east, `regional-r2`; both have said where they are."""
    table = store_members.TABLES["regional"]
    async with rack.database.transaction() as unit:
        first = (await unit.connection.execute(select(table).where(table.c.id == "regional-er"))).one()
        await unit.connection.execute(table.insert().values(**{**first._mapping, "id": "regional-r2", "name": "r2"}))
        for regional in ("regional-er", "regional-r2"):
            await store_members.change(unit.connection, "regional", regional, content_url="https://10.0.0.1:1")


async def test_of_two_regionals_one_gets_it_and_who_cannot_hands_it_on(rack: Rack, machine: Machine) -> None:
    await second_regional(rack)
    order = await ordered(rack, machine, PowerDeed.CYCLE)
    assert not (await rack.targets("r2"))[machine.id].HasField("power")
    assert await says(rack, machine, order.id, wire.POWER_PHASE_DONE, "r2") != []  # it is not its order
    assert await says(rack, machine, order.id, wire.POWER_PHASE_DECLINED, detail="no network") == []
    assert not (await rack.target(machine)).HasField("power")
    assert (await rack.targets("r2"))[machine.id].power.id == order.id
    assert await says(rack, machine, order.id, wire.POWER_PHASE_FAILED, detail="old") != []
    assert await says(rack, machine, order.id, wire.POWER_PHASE_DECLINED, "r2", detail="not here either") == []
    over = await rack.machines.power.one(ADMIN, machine.id, order.id)
    assert (over.state, over.detail) == (OrderState.FAILED, "not here either")


async def test_a_regional_speaks_of_orders_of_its_own_machines_only(rack: Rack, machine: Machine) -> None:
    order = await ordered(rack, machine)
    other = await rack.machine("other")
    far = await rack.machine("far", "west")
    assert await says(rack, other, order.id, wire.POWER_PHASE_DONE) != []
    assert await says(rack, far, order.id, wire.POWER_PHASE_DONE, "wr") != []
    assert await says(rack, machine, "nonsense", wire.POWER_PHASE_DONE) == []
    assert await says(rack, machine, order.id, 999) == []
    assert await state_of(rack, machine, order.id) is OrderState.TAKEN


async def test_time_ends_what_nobody_took_and_what_is_not_heard_of(rack: Rack, machine: Machine) -> None:
    sweep = rack.machines.handlers["machines.silence"]
    waiting = await rack.machines.power.order(OPERATOR, machine.id, PowerDeed.ON)
    assert await sweep(None) == {"presumed_failed": 0, "power_orders_ended": 0}  # type: ignore[arg-type]
    rack.clock.tick(12 * 60)
    assert await sweep(None) == {"presumed_failed": 0, "power_orders_ended": 1}  # type: ignore[arg-type]
    assert await state_of(rack, machine, waiting.id) is OrderState.FAILED
    taken = await ordered(rack, machine)
    rack.clock.tick(26 * 60)
    await sweep(None)  # type: ignore[arg-type]
    assert await state_of(rack, machine, taken.id) is OrderState.UNCERTAIN
    # The regional had it done while the way was cut, and says so now.
    assert await says(rack, machine, taken.id, wire.POWER_PHASE_DONE, state=wire.POWER_STATE_ON) == []
    assert await state_of(rack, machine, taken.id) is OrderState.DONE
    rack.clock.tick(400 * 86400)
    await rack.machines.handlers["machines.forget"](None)  # type: ignore[arg-type]
    assert (await rack.machines.power.history(ADMIN, machine.id, PageRequest())).total_count == 0


async def test_approving_may_restart_the_machine_into_the_network(rack: Rack, machine: Machine) -> None:
    profile = await rack.debian()
    task = await rack.machines.tasks.ask(ADMIN, machine.id, profile.id)
    await rack.machines.tasks.approve(ADMIN, task.id, Approval(power=True))
    told = await rack.target(machine)
    assert (told.power.deed, told.intent.task_id) == (wire.POWER_DEED_NETWORK, task.id)
    await rack.machines.tasks.cancel(ADMIN, task.id)
    assert not (await rack.target(machine)).HasField("power")
    await rack.machines.tasks.retry(ADMIN, task.id, Approval(power=True))
    told = await rack.target(machine)
    # It was turned on by hand: a restart would break what has begun.
    await rack.says(rack.install(machine, told.intent.id, wire.INSTALL_PHASE_BOOTING))
    assert await state_of(rack, machine, told.power.id) is OrderState.CANCELLED


async def test_approving_a_machine_without_a_bmc_or_with_a_busy_one_is_approved_and_waits(
    rack: Rack, machine: Machine
) -> None:
    bare, profile = await rack.machine("bare"), await rack.debian()
    await ordered(rack, machine, PowerDeed.OFF)
    for one, why in ((bare, "no BMC"), (machine, "not over")):
        task = await rack.machines.tasks.ask(ADMIN, one.id, profile.id)
        approved = await rack.machines.tasks.approve(ADMIN, task.id, Approval(power=True))
        assert approved.state.value == "approved"
        async with rack.database.reading() as connection:
            line = (await events(connection, one.id, PageRequest())).items[0]
        assert (line.stage, line.trouble, why in line.detail) == ("power", True, True)


async def test_a_machine_that_is_removed_takes_its_bmc_and_its_orders_with_it(rack: Rack, machine: Machine) -> None:
    order = await ordered(rack, machine)
    await rack.machines.service.remove(ADMIN, machine.id)
    assert await says(rack, machine, order.id, wire.POWER_PHASE_DONE) != []
    assert await rack.targets() == {}
    async with rack.database.reading() as connection:
        assert (await connection.execute(select(machine_bmcs))).first() is None
