"""Orders of power at the regional: once, in time, over kill -9, and with no password on the disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from common.clock import ManualClock
from proto.regional.v1 import machines_pb2 as pb
from regional.machines.powering import PowerDesk
from regional.machines.reports import Writer
from regional.machines.store import Change, MachinesNotStored
from regional.power import PowerState, Turn
from regional.power.deeds import Deeds, Patience
from regional.power.memory import MemoryBmc, MemoryBmcs
from regional.power.networks import networks_of
from tests.pace import BUSY_SECONDS

SECRET = "a password of a BMC"


class Site:
    """`killed` ends all at once; the journal stays. `reports` are those on the disk."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = ManualClock()
        self.bmcs = MemoryBmcs(0.05)
        self.bmc = self.bmcs.bmcs["10.0.0.1", 443] = MemoryBmc("root", SECRET)
        self.reports: list[pb.PowerReport] = []
        self.told = asyncio.Event()
        self._numbers = iter(range(1000))

    @asynccontextmanager
    async def desk(self, networks: str = "10.0.0.0/24") -> AsyncIterator[PowerDesk]:
        tasks: list[asyncio.Task[None]] = []

        def spawn(name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
            tasks.append(asyncio.ensure_future(work))
            return tasks[-1]

        deeds = Deeds(self.clock, Patience(turn=10, shutdown=20))
        writer = Writer(lambda: f"report-{next(self._numbers)}")
        desk = PowerDesk(
            self.directory / "power.json", networks_of(networks), self.bmcs, deeds, writer, self.clock, self._write,
            self.told.set,
        )  # fmt: skip
        desk.open(spawn)
        try:
            yield desk
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _write(self, change: Change) -> None:
        self.reports += [pb.MachineReport.FromString(one.body).power for one in change.reports]

    def target(
        self, deed: int = pb.POWER_DEED_ON, order: str = "o1", seconds: float = 600, **bmc: Any
    ) -> pb.BootTarget:
        said = {"protocol": pb.BMC_PROTOCOL_REDFISH, "address": "10.0.0.1", "username": "root", "password": SECRET}
        return pb.BootTarget(
            machine_id="m1",
            macs=["52:54:00:00:00:01"],
            power=pb.PowerOrder(
                id=order,
                deed=deed,  # type: ignore[arg-type]
                not_after_ms=int((self.clock.now().timestamp() + seconds) * 1000),
                bmc=pb.Bmc(**{**said, **bmc}),
            ),
        )

    @property
    def phases(self) -> list[str]:
        return [pb.PowerPhase.Name(one.phase).removeprefix("POWER_PHASE_").lower() for one in self.reports]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(BUSY_SECONDS):
            while not condition():  # noqa: ASYNC110  threads write the journal
                await asyncio.sleep(0.002)

    async def ended(self, desk: PowerDesk) -> None:
        await self.until(lambda: desk.open_orders == 0)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_an_order_is_carried_out_once_and_its_password_is_on_no_disk(site: Site, tmp_path: Path) -> None:
    async with site.desk() as desk:
        target = site.target()
        await desk.take([target], whole=True)
        assert not target.HasField("power")  # what the ledger keeps
        await site.ended(desk)
        for _ in range(2):
            await desk.take([site.target()], whole=True)
        await desk.take([pb.BootTarget(machine_id="m1")], whole=False)
        assert (site.phases, site.bmc.turned) == (["started", "done"], [Turn.ON])
        assert (site.reports[-1].state, site.reports[-1].detail) == (pb.POWER_STATE_ON, "it is on")
        assert SECRET not in (tmp_path / "power.json").read_text()


async def test_the_same_order_twice_at_once_is_one(site: Site) -> None:
    async with site.desk() as desk:
        deed = pb.POWER_DEED_NETWORK
        await asyncio.gather(*(desk.take([site.target(deed)], whole=True) for _ in range(5)))
        await site.ended(desk)
    assert (site.bmc.turned, site.bmc.next_boot) == ([Turn.ON], "pxe")


@pytest.mark.parametrize(
    ("deed", "phases", "turned"),
    [
        (pb.POWER_DEED_ON, ["started", "started", "done"], [Turn.ON]),
        (pb.POWER_DEED_CYCLE, ["started", "uncertain"], []),
        (pb.POWER_DEED_NETWORK, ["started", "uncertain"], []),
    ],
)
async def test_killed_in_the_middle_only_what_is_harmless_is_done_again(
    site: Site, deed: int, phases: list[str], turned: list[Turn]
) -> None:
    site.bmc.hangs = True
    async with site.desk() as desk:
        await desk.take([site.target(deed)], whole=True)
        await site.until(lambda: site.phases == ["started"])
    site.bmc.hangs = False
    async with site.desk() as desk:
        assert desk.fresh  # so the centre says everything again
        await desk.take([site.target(deed)], whole=True)
        assert not desk.fresh
        await site.ended(desk)
    assert (site.phases, site.bmc.turned) == (phases, turned)
    async with site.desk() as desk:
        assert not desk.fresh


async def test_killed_before_it_was_begun_it_is_done_when_it_comes_again(site: Site) -> None:
    async with site.desk() as desk:
        await desk.take([site.target(pb.POWER_DEED_CYCLE)], whole=True)
        assert desk.open_orders == 1  # and killed, before its task ran
    assert site.phases == []
    async with site.desk() as desk:
        assert desk.fresh
        await desk.take([site.target(pb.POWER_DEED_CYCLE)], whole=True)
        await site.ended(desk)
    assert (site.phases, site.bmc.turned) == (["started", "done"], [Turn.ON])


async def test_what_was_withdrawn_is_not_begun(site: Site) -> None:
    async with site.desk() as desk:
        await desk.take([site.target()], whole=True)
        await desk.take([], ["m1"], whole=False)
        assert desk.open_orders == 0
    assert site.bmc.turned == []


@pytest.mark.parametrize(
    ("networks", "more", "phase", "words"),
    [
        ("", {}, "declined", "--bmc-network"),
        ("10.9.0.0/16", {}, "declined", "no network"),
        ("10.0.0.0/24", {"address": "bmc.example"}, "declined", "no IP address"),
        ("10.0.0.0/24", {"address": "::ffff:10.0.0.1"}, "declined", "plain IP"),
        ("10.0.0.0/24", {"password": "wrong"}, "failed", "login"),
        ("10.0.0.0/24", {"port": 444}, "failed", "does not answer"),
    ],
)
async def test_what_cannot_be_done_is_said(
    site: Site, networks: str, more: dict[str, Any], phase: str, words: str
) -> None:
    async with site.desk(networks) as desk:
        await desk.take([site.target(**more)], whole=True)
        await site.ended(desk)
    assert site.phases[-1] == phase
    assert words in site.reports[-1].detail
    assert site.bmc.turned == []


async def test_after_its_time_and_of_a_newer_centre_nothing_is_begun(site: Site) -> None:
    async with site.desk() as desk:
        await desk.take([site.target(seconds=-1)], whole=True)
        await site.ended(desk)
        await desk.take([site.target(999, "o2")], whole=True)
        await site.ended(desk)
    assert site.phases == ["failed", "failed"]
    assert ["its time" in site.reports[0].detail, "older" in site.reports[1].detail] == [True, True]


async def test_a_bmc_that_takes_words_and_does_nothing_is_found_out(site: Site) -> None:
    site.bmc.deaf = True
    async with site.desk() as desk:
        await desk.take([site.target()], whole=True)
        for _ in range(5):
            await site.until(lambda: site.clock.sleeping)
            await site.clock.advance(2)
        await site.ended(desk)
    assert site.phases == ["started", "failed"]
    assert "the machine is off" in site.reports[-1].detail


async def test_a_disk_that_refuses_takes_no_order(site: Site, tmp_path: Path) -> None:
    async with site.desk() as desk:
        desk._path = tmp_path / "none" / "power.json"
        with pytest.raises(MachinesNotStored):
            await desk.take([site.target()], whole=True)
        assert desk.open_orders == 0
        desk._path = tmp_path / "power.json"
        await desk.take([site.target()], whole=True)
        await site.ended(desk)
    assert site.bmc.state is PowerState.ON


async def test_a_damaged_journal_is_set_aside(site: Site, tmp_path: Path) -> None:
    (tmp_path / "power.json").write_text("[1]")
    async with site.desk() as desk:
        assert desk.open_orders == 0
    assert (tmp_path / "power.damaged").exists()
