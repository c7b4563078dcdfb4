"""Orders of power of this IDC: taken, carried out once, and reported.

Invariants: an order is in the journal before it is known to have come, and again before the BMC hears of it. Killed in
between, this regional asks the centre for everything anew (`fresh`), so that the order comes again with its password,
which is on no disk here: what is harmless to repeat is repeated, and of a restart that was begun it is said that nobody
knows whether it was done. Nothing is begun after its time.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import structlog

from common.clock import Clock
from common.durable import write_file
from common.errors import Failure
from proto.regional.v1 import machines_pb2 as pb
from regional.machines.power_words import bmc_of, deed_of
from regional.machines.reports import Writer
from regional.machines.store import Change, MachinesNotStored, Report
from regional.power import BmcPort, PowerNotInstalled, PowerState
from regional.power.deeds import Deeds, Outcome
from regional.power.libraries import missing
from regional.power.networks import BmcNotAllowed, Network, check_address

log = structlog.get_logger()

Spawn = Callable[[str, Coroutine[Any, Any, None]], asyncio.Task[None]]
_AGAIN_SECONDS = 5.0
_NOBODY_KNOWS = "the regional was started anew in the middle of it; look what the machine does before you order again"


class Stage(StrEnum):
    TAKEN = "taken"
    BEGUN = "begun"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class _Entry:
    machine_id: str
    stage: Stage


class PowerDesk:
    """`write` takes reports to the disk, blocking, and raises `Failure`; `written` is told that there are some."""

    def __init__(
        self,
        path: Path,
        networks: Sequence[Network],
        port: BmcPort,
        deeds: Deeds,
        writer: Writer,
        clock: Clock,
        write: Callable[[Change], None],
        written: Callable[[], None],
    ) -> None:
        self._path = path
        self._networks = networks
        self._port = port
        self._deeds = deeds
        self._writer = writer
        self._clock = clock
        self._write = write
        self._written = written
        self._entries: dict[str, _Entry] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._running: set[str] = set()
        self._spawn: Spawn | None = None
        self._changing = asyncio.Lock()
        self.fresh = False

    def open(self, spawn: Spawn) -> None:
        """Blocking. Take up the journal; one that cannot be read is as lost as what was not written."""
        self._spawn = spawn
        if self._networks and (absent := missing()):
            log.error("power is not installed: longshore[power]", missing=absent)
        try:
            said = json.loads(self._path.read_bytes())
            self._entries = {key: _Entry(one["machine"], Stage(one["stage"])) for key, one in said.items()}
        except FileNotFoundError:
            self._entries = {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.error("journal of power orders not readable", path=str(self._path), error=str(error))
            self._path.replace(self._path.with_suffix(".damaged"))
        self.fresh = any(one.stage is not Stage.DONE for one in self._entries.values())

    @property
    def open_orders(self) -> int:
        return sum(one.stage is not Stage.DONE for one in self._entries.values())

    async def take(self, targets: Iterable[pb.BootTarget], removed: Sequence[str] = (), *, whole: bool) -> None:
        """What those targets say of power, which is taken out of them; `whole`: the others have no order any more.
        Durable when it returns. Raises `MachinesNotStored`; then nothing changed.
        """
        said = {target.machine_id: target for target in targets}
        orders = {target.power.id: target for target in said.values() if target.HasField("power")}
        async with self._changing:
            gone = [
                key
                for key, one in self._entries.items()
                if key not in orders and (whole or one.machine_id in said or one.machine_id in removed)
            ]
            after = {key: one for key, one in self._entries.items() if key not in gone}
            after |= {key: _Entry(t.machine_id, Stage.TAKEN) for key, t in orders.items() if key not in after}
            try:
                await self._remember(after)
            except OSError as error:
                raise MachinesNotStored(
                    f"the journal of power orders could not be written: {error}",
                    action="free space in the data directory, or look after its disk",
                    retry_after_seconds=10,
                ) from error
        for key in gone:
            self._withdraw(key)
        for key, target in orders.items():
            if after[key].stage is not Stage.DONE and key not in self._tasks:
                # Copied: what is kept of the target on the disk has no order.
                self._begin(pb.BootTarget(machine_id=target.machine_id, power=target.power), after[key].stage)
        for target in said.values():
            target.ClearField("power")
        self.fresh = self.fresh and not whole

    def _begin(self, target: pb.BootTarget, stage: Stage) -> None:
        assert self._spawn is not None  # noqa: S101  opened before it is given anything
        task = self._spawn(f"power order {target.power.id}", self._keep(target, stage))
        self._tasks[target.power.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(target.power.id, None))

    def _withdraw(self, key: str) -> None:
        """One that was begun goes on to its end: a machine that is off shall not stay so."""
        task = self._tasks.get(key)
        if task is not None and key not in self._running:
            task.cancel()

    async def _keep(self, target: pb.BootTarget, stage: Stage) -> None:
        order = target.power
        phase, state, detail = await self._carried_out(target, stage)
        report = self._writer.power(target.machine_id, order.id, phase, state, detail, self._clock.now().timestamp())
        await self._report(report)
        try:
            await self._enter(order.id, target.machine_id, Stage.DONE)
        except OSError as error:
            # The report is on the disk; at worst another one says that nobody knows, and the centre heard better.
            log.error("journal of power orders not written", error=str(error))
        log.info("power order ended", machine=target.machine_id, order=order.id, detail=detail)

    async def _carried_out(
        self, target: pb.BootTarget, stage: Stage
    ) -> tuple[pb.PowerPhase.ValueType, PowerState, str]:
        order = target.power
        deed = deed_of(order.deed)
        if deed is None:
            return pb.POWER_PHASE_FAILED, PowerState.UNKNOWN, "this regional is older than what it shall do"
        if stage is Stage.BEGUN and not deed.repeatable:
            return pb.POWER_PHASE_UNCERTAIN, PowerState.UNKNOWN, _NOBODY_KNOWS
        try:
            check_address(self._networks, order.bmc.address)
            outcome = await self._done(target)
        except (BmcNotAllowed, PowerNotInstalled) as failure:
            return pb.POWER_PHASE_DECLINED, PowerState.UNKNOWN, str(failure)
        except Failure as failure:
            return pb.POWER_PHASE_FAILED, PowerState.UNKNOWN, str(failure)
        except TimeoutError:  # is an OSError
            longest = self._deeds.patience.longest
            return pb.POWER_PHASE_FAILED, PowerState.UNKNOWN, f"it was not done after {longest:.0f} s"
        except OSError as error:
            return pb.POWER_PHASE_FAILED, PowerState.UNKNOWN, f"not begun, the regional's disk refuses: {error}"
        except Exception as error:
            # A library's or our own mistake about one BMC ends no regional.
            log.exception("power order failed unexpectedly", order=order.id)
            return pb.POWER_PHASE_FAILED, PowerState.UNKNOWN, f"it failed unexpectedly ({type(error).__name__})"
        if outcome is None:
            late = "its time was over before it could be begun: this regional was away, or busy, or its clock is wrong"
            return pb.POWER_PHASE_FAILED, PowerState.UNKNOWN, late
        return pb.POWER_PHASE_DONE, outcome.state, outcome.detail

    async def _done(self, target: pb.BootTarget) -> Outcome | None:
        """None: too late."""
        order, deed = target.power, deed_of(target.power.deed)
        assert deed is not None  # noqa: S101  asked before
        async with self._port.session(bmc_of(order.bmc)) as session:
            if self._clock.now().timestamp() * 1000 > order.not_after_ms:
                return None
            self._running.add(order.id)
            try:
                await self._enter(order.id, target.machine_id, Stage.BEGUN)
                now = self._clock.now().timestamp()
                started = self._writer.power(
                    target.machine_id, order.id, pb.POWER_PHASE_STARTED, PowerState.UNKNOWN, "", now
                )
                await self._report(started)
                async with asyncio.timeout(self._deeds.patience.longest):
                    return await self._deeds.carry_out(session, deed, uefi=order.uefi, http=order.http)
            finally:
                self._running.discard(order.id)

    async def _report(self, report: Report) -> None:
        """Durable when it returns; it waits for the disk."""
        while True:
            try:
                await asyncio.to_thread(self._write, Change(reports=[report]))
            except Failure as failure:
                log.error("report of a power order not written", error=str(failure))
                await self._clock.sleep(_AGAIN_SECONDS)
            else:
                self._written()
                return

    async def _enter(self, key: str, machine_id: str, stage: Stage) -> None:
        """One that was withdrawn meanwhile is not known any more, and needs no entry. Raises `OSError`."""
        async with self._changing:
            if key in self._entries:
                await self._remember({**self._entries, key: _Entry(machine_id, stage)})

    async def _remember(self, entries: Mapping[str, _Entry]) -> None:
        if entries != self._entries:
            body = {key: {"machine": one.machine_id, "stage": one.stage.value} for key, one in entries.items()}
            await asyncio.to_thread(write_file, self._path, json.dumps(body).encode())
            self._entries = dict(entries)
