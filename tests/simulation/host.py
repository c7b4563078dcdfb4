"""One simulated host: a disk and an engine that outlive the agent, and the agent itself, which is the real one.

Real: reconciler, planner, execution, attempts, journal, book, reporter, ledger, session, attachment. Simulated: the
disk under the journal, the engine (the memory driver, made slow and unreliable), the fetcher of contents, the network.

Invariants, held after every call to the engine: no two containers of one instance run at once, and what is not ours is
as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from agent.desired import DesiredBook
from agent.execution import ContentFetcher
from agent.inventory_model import HostFacts
from agent.journal import Journal
from agent.ledger import Ledger
from agent.model import ContainerState, Content
from agent.reconciler import Reconciler
from agent.reporter import Reporter
from agent.runtimes import LABEL_INSTANCE, ContainerOrder, EngineAway, labels_of
from agent.runtimes.memory import MemoryContainer, MemoryEngine, MemoryRuntimeDriver
from agent.session import Session, dialect
from common.attachment import Attachment, attach_forever
from common.digest import Digest
from common.errors import Unavailable
from tests.simulation.network import SLOWEST_SECONDS, Network
from tests.simulation.simulated_loop import Power, SimulatedClock, running_process
from tests.simulation.tempo import SimulatedTempo

_FOREIGN = ("a database somebody else runs", "another agent's")


class Broken(AssertionError):
    """What must always hold does not."""


class SimulatedDisk:
    """`agent.journal.Disk`: what was written is there after a crash, unless `full`."""

    def __init__(self) -> None:
        self.files: dict[Path, bytes] = {}
        self.last: Path | None = None
        self.full = False

    def read(self, path: Path) -> bytes:
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path]

    def write(self, path: Path, data: bytes) -> None:
        if self.full:
            raise OSError(28, "no space left on device")
        self.files[path] = data
        self.last = path

    def move(self, path: Path, to: Path) -> None:
        self.files[to] = self.files.pop(path)

    def tear_last(self, chance: random.Random) -> None:
        """The file system lied about the last write: only the beginning of it is there."""
        if self.last in self.files:
            data = self.files[self.last]
            self.files[self.last] = data[: chance.randrange(len(data))]


class _SlowDriver:
    """The memory driver behind an engine that takes its time, and of which an answer is lost now and then."""

    def __init__(self, inner: MemoryRuntimeDriver, host: SimulatedHost, power: Power) -> None:
        self._inner = inner
        self._host = host
        self._power = power

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if not inspect.iscoroutinefunction(method):
            return method

        async def call(*arguments: Any) -> Any:
            chance = self._power.chance
            await asyncio.sleep(chance.uniform(0.0, self._host.tempo.engine_seconds))
            self._power.check()
            try:
                answer = await method(*arguments)
            finally:
                self._host.check(f"{name}{arguments}")
            if chance.random() < self._host.lost_answers:
                raise EngineAway("the connection to the engine broke before it answered", retry_after_seconds=1)
            await asyncio.sleep(chance.uniform(0.0, self._host.tempo.engine_seconds))
            self._power.check()
            return answer

        return call


class _Fetcher(ContentFetcher):
    """Contents come after a while, or not at all this time; what came stays on the disk."""

    def __init__(self, host: SimulatedHost, power: Power) -> None:
        self._host = host
        self._power = power

    async def fetch(self, content: Content, tenant_id: str) -> None:
        if content.digest in self._host.held:
            return
        await asyncio.sleep(self._power.chance.uniform(0.05, self._host.tempo.fetch_seconds))
        self._power.check()
        if self._power.chance.random() < self._host.lost_answers:
            raise Unavailable("no source had it", retry_after_seconds=1)
        self._host.held.add(content.digest)

    def held_bytes(self, content: Content, tenant_id: str) -> int:
        return content.size_bytes if content.digest in self._host.held else 0


class _SimulatedAttachment(Attachment[Any, Any]):
    """Over the simulated network instead of gRPC; the round itself is the real one."""

    def __init__(self, host: SimulatedHost, network: Network, words: Any, session: Session, clock: Any) -> None:
        super().__init__(words, session, Path(), _nowhere, clock, host.chance.random)
        self._host_id = host.id
        self._network = network

    async def run_round(self) -> NoReturn:
        try:
            call: Any = await self._network.dial(self._host_id)
        except Exception as error:
            raise Unavailable("the control plane cannot be reached", action="it is tried again") from error
        await self.serve(call, "the simulated plane")


class SimulatedHost:
    def __init__(self, host_id: str, network: Network, tempo: SimulatedTempo, seed: str) -> None:
        self.id = host_id
        self.network = network
        self.tempo = tempo
        self.chance = random.Random(f"{seed} {host_id}")
        self.disk = SimulatedDisk()
        self.engine = MemoryEngine()
        self.held: set[Digest] = set()
        self.lost_answers = 0.0
        self.skew_seconds = 0.0
        self.processes = 0
        self.deaths = 0
        self.died_at: dict[str, float] = {}  # by process
        self.running: _Process | None = None
        # Every (instance, spec) that ever ran here.
        self.has_run: set[tuple[str, str]] = set()
        self._foreign = self._put_foreign()

    # What people and fate do to it.

    def start(self, group: asyncio.TaskGroup) -> None:
        if self.running is None:
            self.processes += 1
            self.running = _Process(self, self.processes)
            self.running.task = group.create_task(self.running.run(), name=f"agent of {self.id}")

    async def kill(self, *, torn: bool = False) -> None:
        """As by SIGKILL: nothing that the process would still do has an effect."""
        process, self.running = self.running, None
        if process is None:
            return
        self.deaths += 1
        self.died_at[process.name] = asyncio.get_running_loop().time()
        process.power.on = False
        if torn:
            self.disk.tear_last(self.chance)
        assert process.task is not None
        process.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await process.task

    def engine_killed(self) -> None:
        self.engine.kill_everything()
        # What belongs to others was killed with the rest, and stands there as it now is.
        self._foreign = {key: self.engine.containers[key] for key in self._foreign}

    # What must always hold.

    def check(self, after: str) -> None:
        live: dict[str, str] = {}
        for key, one in self.engine.containers.items():
            if one.state is not ContainerState.RUNNING or key in self._foreign:
                continue
            instance_id = one.labels[LABEL_INSTANCE]
            if instance_id in live:
                raise Broken(f"{self.id}: {live[instance_id]} and {one.order.name} run at once after {after}")
            live[instance_id] = one.order.name
            self.has_run.add((instance_id, one.order.spec_hash))
        for key, one in self._foreign.items():
            if self.engine.containers.get(key) is not one:
                raise Broken(f"{self.id}: the foreign {one.order.name} was touched by {after}")

    def taken_for_a_copy(self, process: str) -> None:
        """No host is ever copied here, so nobody may be; who has just died is forgiven, while its end is under way."""
        if self.running is not None and process == self.running.name:
            raise Broken(f"{self.id} was taken for a copy of itself")
        dead_seconds = asyncio.get_running_loop().time() - self.died_at.get(process, math.inf)
        if dead_seconds > SLOWEST_SECONDS:
            raise Broken(f"{process}, dead for {dead_seconds:.1f} s, was taken for a copy of {self.id}")

    def ours(self) -> list[MemoryContainer]:
        return [one for key, one in self.engine.containers.items() if key not in self._foreign]

    def _put_foreign(self) -> dict[str, MemoryContainer]:
        manifest = Digest.of(b"foreign")
        placed: dict[str, MemoryContainer] = {}
        for number, name in enumerate(_FOREIGN):
            order = ContainerOrder(name, f"foreign-{number}", 1, "spec", manifest)
            labels = {"com.example": "mine"} if number == 0 else dict(labels_of(order, "another host"))
            one = MemoryContainer(f"foreign-{number}", order, labels, ContainerState.RUNNING)
            placed[one.runtime_id] = self.engine.containers[one.runtime_id] = one
        return placed


class _Process:
    """One life of the agent."""

    def __init__(self, host: SimulatedHost, number: int) -> None:
        self.host = host
        self.name = f"{host.id} {number}"
        self.power = Power(random.Random(host.chance.random()))
        self.task: asyncio.Task[None] | None = None
        self.attached: Callable[[], bool] = lambda: False

    async def run(self) -> None:
        running_process.set(self.power)
        host, chance = self.host, self.power.chance.random
        clock = SimulatedClock(asyncio.get_running_loop(), host.skew_seconds)
        journal = Journal(Path("journal"), host.disk)
        book = DesiredBook(journal, "https://plane")
        flush = host.tempo.flush_seconds
        ledger, reporter = Ledger(journal, clock, flush_seconds=flush), Reporter(journal, clock, flush_seconds=flush)
        for part in (book, ledger, reporter):
            await part.load()
        driver: Any = _SlowDriver(MemoryRuntimeDriver(host.engine, host.id), host, self.power)
        reconciler = Reconciler(
            book,
            lambda: driver,
            _Fetcher(host, self.power),
            lambda: frozenset(host.held),
            ledger,
            reporter,
            clock,
            chance,
            poll_seconds=host.tempo.agent_poll_seconds,
            progress_seconds=host.tempo.progress_seconds,
        )
        book.changed = reconciler.wake
        session = Session(book, reporter, clock)
        self.attached = lambda: session.attached
        words = dialect(self.name, "1", self._facts, book)
        attachment = _SimulatedAttachment(host, host.network, words, session, clock)
        async with asyncio.TaskGroup() as group:
            group.create_task(ledger.flush_forever())
            group.create_task(reporter.flush_forever())
            group.create_task(reconciler.run())
            group.create_task(session.report_forever())
            group.create_task(attach_forever(attachment, clock))

    def _facts(self) -> HostFacts:
        return HostFacts(self.host.id, "amd64", "simulated", 2, 1 << 30, 1 << 30)


async def _nowhere() -> str:
    raise AssertionError("the simulated network needs no address")
