"""A rack for tests: machines that are seen, profiles to put on them, and regionals that speak."""

from __future__ import annotations

import itertools
from typing import Any

from common.clock import ManualClock
from control_plane.database import Database
from control_plane.fleet import store_members
from control_plane.fleet.model import Member
from control_plane.machines.answers.model import Family, System, User
from control_plane.machines.assembly import Machines
from control_plane.machines.model import Machine
from control_plane.machines.profiles import NewProfile
from control_plane.machines.profiles_model import BootSource, Method, Profile, ProfileSpec
from control_plane.machines.service import NewMachine
from control_plane.machines.tasks import Approval
from control_plane.machines.tasks_model import InstallTask
from control_plane.tenants.access import Principal, Role
from proto.regional.v1 import machines_pb2 as wire
from tests.control_plane.instances.parts import ADMIN, PRINCIPALS

BOOT_IMAGE, SYSTEM_IMAGE = "acme/boot:debian-12", "acme/disk:1"
HASH = "$6$saltsalt$" + "a" * 86
MANAGER = Principal("u-4", "mona", roles={"acme": Role.ADMIN})
EVERYBODY = PRINCIPALS | {"manager": MANAGER}
DEBIAN = System(Family.DEBIAN, "12")


def spec(**more: Any) -> ProfileSpec:
    """Debian by its own installer."""
    wanted: dict[str, Any] = {
        "system": DEBIAN,
        "boot": BootSource(image=BOOT_IMAGE),
        "root_password_hash": HASH,
        "users": (User("olga", password_hash=HASH, administrator=True),),
        "source": "/repos/debian/12",
    }
    return ProfileSpec(**(wanted | more))


def image_spec(**more: Any) -> ProfileSpec:
    """A disk image, with every operation there is."""
    wanted: dict[str, Any] = {
        "boot": BootSource(),
        "method": Method.IMAGE,
        "image": SYSTEM_IMAGE,
        "source": "",
        "hardware_script": "echo raid",
        "network_script": "echo vlan",
        "wipe": True,
    }
    return spec(**(wanted | more))


class Rack:
    def __init__(self, machines: Machines, database: Database, clock: ManualClock) -> None:
        self.machines = machines
        self.database = database
        self.clock = clock
        self._numbers = itertools.count(1)

    async def debian(self) -> Profile:
        return await self.profile("debian", spec())

    async def disk(self) -> Profile:
        return await self.profile("disk", image_spec())

    async def profile(self, name: str, said: ProfileSpec, tenant: str = "") -> Profile:
        return await self.machines.profiles.create(ADMIN, NewProfile(name, said, tenant))

    async def machine(self, name: str = "m1", idc: str = "east", tenant: str = "", **more: Any) -> Machine:
        number = next(self._numbers)
        wish = NewMachine(idc, [f"52:54:00:00:00:{number:02x}"], name, f"SN{number:04d}", tenant, **more)
        return await self.machines.service.create(ADMIN, wish)

    async def approved(self, machine: Machine, profile: Profile | None = None, retries: int = 0) -> InstallTask:
        chosen = profile or await self.debian()
        task = await self.machines.tasks.ask(ADMIN, machine.id, chosen.id)
        return await self.machines.tasks.approve(ADMIN, task.id, Approval(retries=retries))

    async def regional(self, name: str = "er") -> Member:
        async with self.database.reading() as connection:
            found = await store_members.find_member(connection, "regional", f"regional-{name}")
        assert found is not None
        return found

    async def targets(self, regional: str = "er") -> dict[str, wire.BootTarget]:
        return dict(await self.machines.targets.targets(await self.regional(regional)))

    async def target(self, machine: Machine) -> wire.BootTarget:
        return (await self.targets("er" if machine.idc == "east" else "wr"))[machine.id]

    async def says(self, *reports: wire.MachineReport, regional: str = "er") -> list[str]:
        """Reasons of what was refused."""
        refused = await self.machines.targets.accept_machine_reports(await self.regional(regional), reports)
        return [one.reason for one in refused]

    def report(self, machine: Machine | None = None, **body: Any) -> wire.MachineReport:
        return wire.MachineReport(
            id=f"report-{next(self._numbers)}",
            machine_id=machine.id if machine is not None else "",
            occurred_ms=int(self.clock.now().timestamp() * 1000),
            **body,
        )

    def install(self, machine: Machine, intent_id: str, phase: int, detail: str = "") -> wire.MachineReport:
        said = wire.InstallReport(intent_id=intent_id, phase=phase, detail=detail)  # type: ignore[arg-type]
        return self.report(machine, install=said)

    def step(
        self, machine: Machine, intent_id: str, operation: str, phase: int, percent: int = 0, text: str = ""
    ) -> wire.MachineReport:
        said = wire.OperationReport(
            intent_id=intent_id,
            operation_id=operation,
            phase=phase,  # type: ignore[arg-type]
            percent=percent,
            text=text,
        )
        return self.report(machine, operation=said)

    def sighting(self, mac: str, machine: Machine | None = None, **more: Any) -> wire.MachineReport:
        return self.report(machine, sighting=wire.Sighting(mac=mac, by="dhcp", **more))
