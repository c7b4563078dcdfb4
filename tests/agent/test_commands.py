"""Commands on a real journal: what happens once, whatever is repeated, and wherever the process is killed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from agent.commands import Commands
from agent.commands_model import Command, CommandReport, Stage, Verb
from agent.commands_wire import command_of, command_record, report_from, report_message
from agent.journal import Journal
from agent.reporter import Reporter
from common.clock import ManualClock
from common.errors import Conflict
from proto.agent.v1 import commands_pb2
from tests.pace import BUSY_SECONDS

RESTART = commands_pb2.COMMAND_VERB_RESTART


class Killed(BaseException):
    """The process ends here."""


@contextlib.asynccontextmanager
async def running(commands: Commands) -> AsyncIterator[None]:
    """Killed at the end, in the middle of whatever it does."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(commands.run())
        try:
            yield
        finally:
            task.cancel()


class Host:
    """An agent's commands over one directory; `again()` is a new process over the same."""

    def __init__(self, path: Path, clock: ManualClock) -> None:
        self._path, self.clock = path, clock
        self.done: list[str] = []
        self.deed: Callable[[Command], Awaitable[str]] = self._note
        self.again()

    def again(self) -> None:
        self.journal = Journal(self._path)
        self.reporter = Reporter(self.journal, self.clock)
        self.commands = Commands(self.journal, self.reporter, self.clock, lambda command: self.deed(command))

    async def _note(self, command: Command) -> str:
        self.done.append(command.id)
        return '{"ok": true}'

    async def run(self) -> None:
        """Until everything that was accepted is over."""
        async with running(self.commands):
            for _ in range(2000):
                await asyncio.sleep(0.001)
                open_ = [one for one in self.commands._known.values() if one.stage in (Stage.ACCEPTED, Stage.BEGUN)]
                if not open_ and not self.commands._begun:
                    return
        raise TimeoutError("commands do not end")

    def said(self) -> dict[str, CommandReport]:
        """The newest report of each command that waits to be sent."""
        waiting = self.reporter._waiting.values()
        return {one.command_id: one for one in waiting if isinstance(one, CommandReport)}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def host(tmp_path: Path, clock: ManualClock) -> Host:
    return Host(tmp_path / "journal", clock)


def order(*ids: str, verb: commands_pb2.CommandVerb.ValueType = RESTART, **more: float) -> commands_pb2.Commands:
    within = {"begin_within_seconds": 60.0, "end_within_seconds": 60.0, **more}
    commands = [commands_pb2.Command(command_id=one, verb=verb, instance_id=f"i-{one}", **within) for one in ids]
    return commands_pb2.Commands(commands=commands)


async def test_a_command_is_done_once_and_its_result_is_reported(host: Host) -> None:
    await host.commands.received(order("a"))
    assert host.said()["a"].stage is Stage.ACCEPTED
    await host.run()
    assert host.done == ["a"]
    assert host.said()["a"] == CommandReport("a", Stage.DONE, "", '{"ok": true}')


async def test_a_repeated_command_is_only_answered_for(host: Host) -> None:
    await host.commands.received(order("a", "a"))
    await host.run()
    host.reporter._waiting.clear()
    await host.commands.received(order("a"))
    await host.run()
    assert host.done == ["a"]
    assert host.said()["a"].stage is Stage.DONE


async def test_what_was_done_is_known_after_a_restart(host: Host) -> None:
    await host.commands.received(order("a"))
    await host.run()
    host.again()
    await host.commands.load()
    assert host.said()["a"] == CommandReport("a", Stage.DONE, "", '{"ok": true}')
    await host.commands.received(order("a"))
    await host.run()
    assert host.done == ["a"]


class StoppedJournal(Journal):
    """The process ends before or after the n-th write."""

    writes, die_at, after = 0, -1, False

    async def save(self, record: str, payload: Callable[[], bytes]) -> None:
        number, self.writes = self.writes, self.writes + 1
        if number == self.die_at and not self.after:
            raise Killed
        await super().save(record, payload)
        if number == self.die_at:
            raise Killed


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("die_at", [0, 1, 2])
async def test_killed_at_any_write_it_is_never_done_twice(host: Host, die_at: int, after: bool) -> None:
    journal = StoppedJournal(host._path)
    journal.die_at, journal.after = die_at, after
    host.commands = Commands(journal, host.reporter, host.clock, lambda command: host.deed(command))
    killed = False
    try:
        await host.commands.received(order("a"))
        async with asyncio.timeout(BUSY_SECONDS):
            await host.commands.run()
    except (Killed, BaseExceptionGroup):
        killed = True
    assert killed
    before = list(host.done)
    host.again()
    await host.commands.load()
    # The control plane repeats what was not answered.
    await host.commands.received(order("a"))
    await host.run()
    assert len(host.done) <= 1
    begun_then_killed = (die_at, after) in ((1, True), (2, False))
    outcome = host.said()["a"].stage
    assert outcome is (Stage.INTERRUPTED if begun_then_killed else Stage.DONE)
    assert (host.done == ["a"]) is (outcome is Stage.DONE or (die_at, after) == (2, False))
    assert host.done[: len(before)] == before


async def test_killed_in_the_middle_of_the_deed_it_is_interrupted(host: Host) -> None:
    reached = asyncio.Event()

    async def half(command: Command) -> str:
        host.done.append(command.id)
        reached.set()
        await asyncio.sleep(60)
        return "{}"

    host.deed = half
    await host.commands.received(order("a", "b"))
    async with running(host.commands):
        await reached.wait()
    host.deed = host._note
    done, host.done = host.done, []
    host.again()
    await host.commands.load()
    await host.commands.received(order("a", "b"))
    await host.run()
    outcomes = {one: host.said()[one].stage for one in "ab"}
    assert all(outcomes[one] is Stage.INTERRUPTED for one in done)
    assert set(host.done).isdisjoint(done)
    # The other one was begun afterwards, unless its beginning was being written down.
    assert all((outcomes[one] is Stage.DONE) is (one in host.done) for one in "ab")
    assert set(outcomes.values()) <= {Stage.INTERRUPTED, Stage.DONE}


async def test_what_comes_too_late_is_not_begun(host: Host, clock: ManualClock) -> None:
    await host.commands.received(order("a", begin_within_seconds=5))
    await clock.advance(6)
    await host.run()
    assert (host.done, host.said()["a"].stage) == ([], Stage.EXPIRED)


async def test_what_takes_too_long_is_given_up(host: Host) -> None:
    async def forever(command: Command) -> str:
        await asyncio.sleep(60)
        return "{}"

    host.deed = forever
    await host.commands.received(order("a", end_within_seconds=0.05))
    await host.run()
    assert host.said()["a"].stage is Stage.FAILED
    assert "given up" in host.said()["a"].detail


async def test_a_refusal_and_a_defect_are_told(host: Host) -> None:
    async def refuse(command: Command) -> str:
        if command.id == "a":
            raise Conflict("no container of web runs", action="see its phase")
        raise ZeroDivisionError

    host.deed = refuse
    await host.commands.received(order("a", "b"))
    await host.run()
    assert host.said()["a"] == CommandReport("a", Stage.FAILED, "no container of web runs (see its phase)")
    assert host.said()["b"].stage is Stage.FAILED


async def test_a_verb_of_a_newer_control_plane_is_refused(host: Host) -> None:
    await host.commands.received(order("a", verb=99))  # type: ignore[arg-type]
    await host.run()
    assert (host.done, host.said()["a"].stage) == ([], Stage.FAILED)


async def test_a_cancelled_command_is_not_begun_even_if_it_comes_afterwards(host: Host) -> None:
    await host.commands.received(commands_pb2.Commands(cancelled=["a"]))
    await host.commands.received(order("a", "b"))
    await host.commands.received(commands_pb2.Commands(cancelled=["b"]))
    await host.run()
    assert host.done == []
    assert {one.stage for one in host.said().values()} == {Stage.CANCELLED}


async def test_cancelling_what_is_done_changes_nothing(host: Host) -> None:
    await host.commands.received(order("a"))
    await host.run()
    await host.commands.received(commands_pb2.Commands(cancelled=["a"]))
    assert host.said()["a"].stage is Stage.DONE


async def test_commands_to_one_instance_wait_for_each_other(host: Host) -> None:
    at_once, most = 0, 0

    async def slow(command: Command) -> str:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.02)
        at_once -= 1
        return "{}"

    host.deed = slow
    message = order("a", "b", "c")
    for one in message.commands:
        one.instance_id = "i-1"
    await host.commands.received(message)
    await host.run()
    assert most == 1
    assert {one.stage for one in host.said().values()} == {Stage.DONE}


async def test_a_full_disk_loses_nothing_and_repeats_nothing(host: Host) -> None:
    class FullDisk(Journal):
        full = True

        async def save(self, record: str, payload: Callable[[], bytes]) -> None:
            if self.full:
                raise OSError(28, "No space left on device")
            await super().save(record, payload)

    journal = FullDisk(host._path)
    host.commands = Commands(journal, host.reporter, host.clock, lambda command: host.deed(command))
    with pytest.raises(OSError, match="No space"):
        await host.commands.received(order("a"))
    assert host.said() == {}
    journal.full = False
    await host.commands.received(order("a"))
    await host.run()
    assert host.done == ["a"]


async def test_thousands_are_remembered_and_the_oldest_outcomes_give_way(host: Host) -> None:
    ids = [f"c{number:04}" for number in range(1100)]
    host.commands._known = {one: Command(one, Verb.RESTART, "", 0, 1, Stage.DONE, "", "{}") for one in ids}
    await host.commands.received(order("new"))
    await host.run()
    host.again()
    await host.commands.load()
    known = host.commands._known
    assert len(known) == 1000
    assert [one for one in [*ids, "new"] if one not in known] == ids[:101]
    assert sum(bool(one.result) for one in known.values()) <= 21


async def test_results_are_reported_in_bounded_batches(host: Host) -> None:
    async def long(command: Command) -> str:
        return "x" * 200_000

    host.deed = long
    await host.commands.received(order(*"abcdef"))
    await host.run()
    sent = host.reporter.next_batch()
    assert sent is not None
    assert len(sent.message().SerializeToString()) < 1 << 20


def test_what_is_journalled_is_read_again() -> None:
    command = Command("a", Verb.RESTART, "i-1", 12.5, 3.0, Stage.BEGUN, "detail", "{}")
    assert command_of(command_record(command)) == command
    for stage in Stage:
        read = report_from(report_message(CommandReport("a", stage, "d", "{}")))
        assert read.stage is (Stage.ACCEPTED if stage is Stage.BEGUN else stage)
