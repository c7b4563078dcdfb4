"""Two hosts in one process, over real mutual TLS: what stands at one is copied by the other, and by nobody else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agent.copies import GONE
from agent.desired import DesiredBook
from agent.inventory_model import HostFacts, Interface, Machine
from agent.journal import Journal
from agent.ledger import Ledger
from agent.model import Content, DesiredState, HandOver, InstanceReport, MoveReport, Phase, TakeOver
from agent.moves.assembly import reachable
from agent.moves.handing import Handing
from agent.moves.line import LineBroken, SourceRefuses
from agent.moves.taking import SourceOutOfReach, Taking
from agent.reconciler import Reconciler
from agent.reporter import Reporter
from agent.runtimes.memory import MemoryEngine, MemoryRuntimeDriver
from common.clock import SystemClock
from common.lifecycle import Lifecycle
from common.tls import Identity, Name, new_key_and_request
from control_plane.fleet.certificates import Signer, new_authority, requested_key
from proto.agent.v1 import agent_pb2, moves_pb2
from tests.agent.lab import message_of
from tests.agent.lxd_samples import unified_sample
from tests.agent.samples import INSTANCE, assignment
from tests.pace import BUSY_SECONDS

MOVE = "01900000-0000-7000-8000-000000000001"
IMAGE = unified_sample(b"an image").image
RUNNING, STOPPED, HELD = DesiredState.RUNNING, DesiredState.STOPPED, DesiredState.HELD


class NothingToFetch:
    async def fetch(self, content: Content, tenant_id: str) -> None:
        raise AssertionError("everything is held")

    def held_bytes(self, content: Content, tenant_id: str) -> int:
        return content.size_bytes


class Host:
    """`again()`: the agent was killed, and another one starts over the same directory and the same engine."""

    def __init__(self, name: str, directory: Path, signer: Signer, lifecycle: Lifecycle) -> None:
        self.name, self.directory, self.lifecycle = name, directory, lifecycle
        self.engine = MemoryEngine()
        self.driver = MemoryRuntimeDriver(self.engine, name)
        key, request = new_key_and_request()
        issued = signer.member(
            Name("east", "host", name), requested_key(request), (), SystemClock().now(), timedelta(hours=1)
        )
        ca = signer.certificate.public_bytes(serialization.Encoding.PEM)
        Identity(key, issued.pem, ca).save(directory / "identity")
        self.generation = 0
        self.tasks: list[asyncio.Task[None]] = []
        self.build()

    def build(self) -> None:
        clock, journal = SystemClock(), Journal(self.directory / "journal")
        self.book = DesiredBook(journal, "http://127.0.0.1:1")
        self.reporter = Reporter(journal, clock)
        identity = self.directory / "identity"
        self.taking = Taking(self.book, lambda: self.driver, self.reporter, clock, identity)
        self.handing = Handing(
            self.book,
            lambda: self.driver,
            self.reporter,
            clock,
            identity,
            "127.0.0.1",
            0,
            lambda port: [f"127.0.0.1:{port}"],
        )
        held = frozenset(content.digest for content in IMAGE.everything)
        self.reconciler = Reconciler(
            self.book,
            lambda: self.driver,
            NothingToFetch(),
            lambda: held,
            Ledger(journal, clock),
            self.reporter,
            clock,
            lambda: 0.02,
            poll_seconds=0.05,
            archives=self.taking.open,
        )
        self.book.changed = self.reconciler.wake

    async def start(self) -> None:
        await self.book.load()
        spawn = self.lifecycle.spawn
        self.tasks = [spawn("reconciler", self.reconciler.run()), spawn("handing over", self.handing.run())]
        self.tasks.append(spawn("leftovers", self.taking.run()))

    async def kill(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)
        self.build()

    async def assign(
        self, *, state: DesiredState, hand_over: HandOver | None = None, take_over: TakeOver | None = None
    ) -> None:
        self.generation += 1
        message = message_of(assignment(IMAGE, state, generation=self.generation))
        if hand_over is not None:
            message.hand_over.CopyFrom(
                moves_pb2.HandOver(move_id=hand_over.move_id, target_host_id=hand_over.target_host_id)
            )
        if take_over is not None:
            message.take_over.CopyFrom(
                moves_pb2.TakeOver(
                    move_id=take_over.move_id,
                    source_host_id=take_over.source_host_id,
                    addresses=take_over.addresses,
                )
            )
        await self.book.replace(agent_pb2.AssignmentSet(results_in=self.generation, assignments=[message]))

    def said(self) -> InstanceReport | None:
        found = self.reporter._waiting.get(INSTANCE)
        return found if isinstance(found, InstanceReport) and found.generation == self.generation else None

    async def until(self, phase: Phase) -> InstanceReport:
        await eventually(lambda: (said := self.said()) is not None and said.phase is phase)
        said = self.said()
        assert said is not None
        return said

    async def addresses(self) -> tuple[str, ...]:
        def waits() -> MoveReport | None:
            found = self.reporter._waiting.get(f"move {MOVE}")
            return found if isinstance(found, MoveReport) and found.addresses else None

        await eventually(lambda: waits() is not None)
        found = waits()
        assert found is not None
        return found.addresses

    @property
    def files(self) -> dict[str, bytes]:
        (found,) = self.engine.containers
        return self.engine.files.setdefault(found, {})


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(BUSY_SECONDS):
        while not condition():  # noqa: ASYNC110  several parts of two agents
            await asyncio.sleep(0.01)


@pytest.fixture
async def lifecycle() -> AsyncIterator[Lifecycle]:
    async with Lifecycle() as lifecycle:
        yield lifecycle


@pytest.fixture
def signer() -> Signer:
    key = ec.generate_private_key(ec.SECP256R1())
    return Signer(new_authority(key, SystemClock().now()), key)


@pytest.fixture
async def source(tmp_path: Path, signer: Signer, lifecycle: Lifecycle) -> Host:
    """The instance stands there, with a file and a snapshot, and may be copied by the target."""
    host = Host("source", tmp_path / "source", signer, lifecycle)
    await host.start()
    await host.assign(state=RUNNING)
    said = await host.until(Phase.RUNNING)
    host.files["/mark"] = b"early"
    await host.driver.snapshot(said.runtime_id, "before")
    host.files["/mark"] = b"late"
    await host.assign(state=STOPPED, hand_over=HandOver(MOVE, "target"))
    await host.until(Phase.STOPPED)
    return host


@pytest.fixture
async def target(tmp_path: Path, signer: Signer, lifecycle: Lifecycle) -> Host:
    host = Host("target", tmp_path / "target", signer, lifecycle)
    await host.start()
    return host


async def test_what_stands_at_one_host_runs_at_the_other(source: Host, target: Host) -> None:
    await target.assign(state=HELD, take_over=TakeOver(MOVE, "source"))
    await target.until(Phase.PENDING)  # nobody knows yet where to read it
    await target.assign(state=HELD, take_over=TakeOver(MOVE, "source", await source.addresses()))
    said = await target.until(Phase.STOPPED)
    assert target.files["/mark"] == b"late"
    assert [one.name for one in await target.driver.snapshots(said.runtime_id)] == ["before"]
    await target.assign(state=RUNNING, take_over=TakeOver(MOVE, "source"))
    await target.until(Phase.RUNNING)
    await source.assign(state=DesiredState.REMOVED)
    await source.until(Phase.REMOVED)
    assert source.engine.containers == {}
    await target.assign(state=RUNNING)  # the move is over
    await target.until(Phase.RUNNING)
    assert [one.starts for one in target.engine.containers.values()] == [1]


async def test_a_copy_that_is_lost_is_never_made_anew(source: Host, target: Host) -> None:
    await target.assign(state=HELD, take_over=TakeOver(MOVE, "source", await source.addresses()))
    await target.until(Phase.STOPPED)
    target.engine.containers.clear()
    await target.assign(state=RUNNING, take_over=TakeOver(MOVE, "source"))
    assert (await target.until(Phase.FAILED)).detail == GONE
    assert target.engine.containers == {}


async def test_both_agents_may_be_killed_on_the_way(source: Host, target: Host) -> None:
    old = await source.addresses()
    await source.kill()
    await target.assign(state=HELD, take_over=TakeOver(MOVE, "source", old))
    await eventually(lambda: (said := target.said()) is not None and "not reached" in said.detail)
    await target.kill()
    await target.start()
    await source.start()
    await target.assign(state=HELD, take_over=TakeOver(MOVE, "source", await source.addresses()))
    await target.until(Phase.STOPPED)
    await target.kill()
    await target.start()
    await target.until(Phase.STOPPED)
    assert len(target.engine.containers) == 1


async def test_what_an_earlier_move_left_gives_way(source: Host, target: Host) -> None:
    await target.assign(state=HELD, take_over=TakeOver(MOVE, "source", await source.addresses()))
    await target.until(Phase.STOPPED)
    other = MOVE.replace("1", "2")
    await target.assign(state=HELD, take_over=TakeOver(other, "source"))
    await eventually(lambda: not target.engine.containers)


async def read(host: Host, take_over: TakeOver) -> bytes:
    async with host.taking.open(take_over) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def test_nobody_else_reads_it(
    source: Host, target: Host, tmp_path: Path, signer: Signer, lifecycle: Lifecycle
) -> None:
    where = await source.addresses()
    assert await read(target, TakeOver(MOVE, "source", where))
    thief = Host("thief", tmp_path / "thief", signer, lifecycle)
    with pytest.raises(SourceRefuses, match="nothing is handed over to you"):
        await read(thief, TakeOver(MOVE, "source", where))
    with pytest.raises(SourceRefuses):
        await read(target, TakeOver(MOVE.replace("1", "2"), "source", where))
    with pytest.raises(SourceOutOfReach, match="host source answers"):
        await read(target, TakeOver(MOVE, "somebody", where))
    key = ec.generate_private_key(ec.SECP256R1())
    stranger = Host("target", tmp_path / "stranger", Signer(new_authority(key, SystemClock().now()), key), lifecycle)
    with pytest.raises(SourceOutOfReach):
        await read(stranger, TakeOver(MOVE, "source", where))


async def test_what_runs_is_not_read(source: Host, target: Host) -> None:
    where = await source.addresses()
    source.driver.containers = none_but_live(source)  # type: ignore[method-assign, assignment]
    with pytest.raises(SourceRefuses, match="still runs"):
        await read(target, TakeOver(MOVE, "source", where))


def none_but_live(host: Host) -> Callable[[], object]:
    seen = host.driver.containers

    async def containers() -> object:
        for one in list(host.engine.containers):
            await MemoryRuntimeDriver(host.engine, host.name).start(one)
        return await seen()

    return containers


async def test_it_is_read_no_more_once_it_is_not_handed_over(source: Host, target: Host) -> None:
    where, first = await source.addresses(), asyncio.Event()
    export = source.driver.export

    @contextlib.asynccontextmanager
    async def slow(runtime_id: str, *, with_snapshots: bool = False) -> AsyncIterator[AsyncIterator[bytes]]:
        async with export(runtime_id, with_snapshots=with_snapshots) as chunks:

            async def parts() -> AsyncIterator[bytes]:
                async for chunk in chunks:
                    yield chunk
                first.set()
                await asyncio.Event().wait()

            yield parts()

    source.driver.export = slow  # type: ignore[method-assign]
    reading = asyncio.ensure_future(read(target, TakeOver(MOVE, "source", where)))
    await first.wait()
    await source.assign(state=RUNNING)
    with pytest.raises((LineBroken, SourceRefuses)):
        await reading
    await source.until(Phase.RUNNING)


def test_a_host_that_listens_everywhere_names_addresses_that_reach_it() -> None:
    up = Interface("eth0", "aa", ("10.0.0.5/24", "fe80::1/64", "2001:db8::5/64"), 0, True)
    down = Interface("eth1", "bb", ("10.9.9.9/24",), 0, False)
    facts = HostFacts("h", "amd64", "linux", 1, 1, 1, machine=Machine(interfaces=(up, down)))
    assert reachable("0.0.0.0", 9, facts) == ["10.0.0.5:9", "[2001:db8::5]:9"]
    assert reachable("192.0.2.1", 9, facts) == ["192.0.2.1:9"]
