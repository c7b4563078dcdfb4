"""Reports reach the centre exactly once, whatever is lost on the way and whoever is killed."""

from __future__ import annotations

import asyncio
import itertools
import random
from pathlib import Path

from common.clock import SystemClock
from common.lifecycle import Lifecycle
from proto.regional.v1 import machines_pb2 as pb
from proto.regional.v1 import regional_pb2
from regional.machines.delivery import Delivery
from regional.machines.model import Phase as InstallPhase
from regional.machines.model import PhaseSaid, Sighting, StepPhase, StepSaid
from regional.machines.reports import Writer
from regional.machines.store import Change, Report, Store

from ...pace import BUSY_SECONDS
from .rack import NOW


class ForgetfulCentre:
    """Counts each id once, as the control plane does, and loses batches and acknowledgements."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self.counted: list[str] = []
        self.batches = 0
        self.lost = 0
        self.acks: list[int] = []

    def send(self, message: regional_pb2.RegionalMessage) -> None:
        self.batches += 1
        luck = self._chance.random()
        if luck < 0.3:
            self.lost += 1
            return
        for report in message.machines.reports:
            if report.id not in self.counted:
                self.counted.append(report.id)
        if luck < 0.6:
            self.lost += 1
            return
        self.acks.append(message.machines.sequence)


def reports(count: int, start: int = 0) -> list[Report]:
    numbers = itertools.count(start)
    writer = Writer(lambda: f"report-{next(numbers):05d}")
    return [writer.said("m1", "i1", StepSaid("write", StepPhase.LOG, 0, "x" * 2000), NOW) for _ in range(count)]


async def test_every_report_counts_once_with_acknowledgements_lost_and_kill_9(tmp_path: Path) -> None:
    centre = ForgetfulCentre(seed=5)
    for life in range(6):
        store = Store(tmp_path / "machines.db")
        store.open(NOW)
        store.write(Change(reports=reports(300, 300 * life)))
        # Until one acknowledgement came, or several were lost; then the process is killed.
        await _live(store, centre, rounds=6)
        store.close()
    store = Store(tmp_path / "machines.db")
    store.open(NOW)
    async with asyncio.timeout(BUSY_SECONDS * 3):
        while store.count_reports():
            await _live(store, centre, rounds=3)
    store.close()
    assert sorted(centre.counted) == [f"report-{number:05d}" for number in range(1800)]
    assert centre.lost


async def _live(store: Store, centre: ForgetfulCentre, rounds: int) -> None:
    async with Lifecycle() as lifecycle:
        delivery = Delivery(store, SystemClock())
        lifecycle.spawn("delivery", delivery.run())
        await asyncio.sleep(0)
        for _ in range(rounds):
            before = centre.batches
            delivery.begin_round(centre)
            async with asyncio.timeout(BUSY_SECONDS):
                while centre.batches == before and store.count_reports():  # noqa: ASYNC110
                    await asyncio.sleep(0.002)
            while centre.acks:
                await delivery.acknowledged(pb.MachineReportsAck(sequence=centre.acks.pop()))
            delivery.end_round()


async def test_an_acknowledgement_of_an_earlier_round_removes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "machines.db")
    store.open(NOW)
    store.write(Change(reports=reports(3)))
    delivery = Delivery(store, SystemClock())
    await delivery.acknowledged(pb.MachineReportsAck(sequence=0))
    await delivery.acknowledged(pb.MachineReportsAck(sequence=1))
    assert store.count_reports() == 3
    store.close()


def test_progress_that_waits_is_replaced_and_what_was_sent_is_not(tmp_path: Path) -> None:
    store = Store(tmp_path / "machines.db")
    store.open(NOW)
    numbers = itertools.count()
    writer = Writer(lambda: f"report-{next(numbers)}")
    for percent in range(5):
        store.write(Change(reports=[writer.said("m1", "i1", StepSaid("w", StepPhase.PROGRESS, percent), NOW)]))
    assert len(store.unsent(10, 1 << 20)) == 1
    store.write(Change(reports=[writer.said("m1", "i1", StepSaid("w", StepPhase.PROGRESS, 9), NOW)]))
    assert len(store.unsent(10, 1 << 20)) == 2
    store.write(Change(reports=[writer.said("m1", "i1", PhaseSaid(InstallPhase.COMPLETED), NOW)]))
    found = [pb.MachineReport.FromString(body) for _, body in store.unsent(10, 1 << 20)]
    assert [each.operation.percent for each in found] == [4, 9, 0]
    store.close()


def test_batches_are_bounded_and_never_empty_while_there_is_something(tmp_path: Path) -> None:
    store = Store(tmp_path / "machines.db")
    store.open(NOW)
    store.write(Change(reports=reports(5)))
    assert len(store.unsent(2, 1 << 20)) == 2
    assert len(store.unsent(10, 5000)) == 2
    assert len(store.unsent(10, 1)) == 1
    store.close()


def test_a_flood_that_nobody_takes_costs_the_oldest_sightings_and_no_outcome(tmp_path: Path) -> None:
    store = Store(tmp_path / "machines.db", most_reports=100)
    store.open(NOW)
    numbers = itertools.count()
    writer = Writer(lambda: f"report-{next(numbers)}")
    store.write(Change(reports=[writer.said("m1", "i1", PhaseSaid(InstallPhase.FAILED), NOW)]))
    for number in range(300):
        store.write(Change(reports=[writer.sighting("", Sighting(f"52:54:00:00:00:{number:03d}"), NOW)]))
    found = [pb.MachineReport.FromString(body) for _, body in store.unsent(1000, 1 << 20)]
    assert len(found) <= 101
    assert found[0].HasField("install")
    store.close()
