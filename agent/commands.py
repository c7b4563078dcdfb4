"""Commands of the control plane: each id is carried out once at most, whatever is repeated, killed or cut off.

Invariant: a command is in the journal before it is answered for, and its beginning is in the journal before its first
effect. So an id that is known is never begun again; one that was begun when the process ended is reported as
interrupted; one that was only accepted is begun after the restart, if it is not too late by then.

The newest `_REMEMBERED` ids are kept. The control plane repeats a command only until it is answered, and lets no more
than 100 wait for a host.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace

import structlog

from agent.commands_model import ENDED, Command, CommandReport, Stage, Verb
from agent.commands_wire import MOST_RESULT, command_from, command_of, command_record
from agent.journal import Journal
from agent.reporter import Reporter
from common.clock import Clock
from common.errors import Failure
from proto.agent.v1 import commands_pb2

log = structlog.get_logger()

_RECORD = "commands"
_REMEMBERED = 1000
# Outcomes that the control plane may not have acknowledged yet keep their results; older ones only their stage.
_WITH_RESULT = 20
_AT_ONCE = 4

# Carries out one command and gives its result as JSON; raises `Failure` when it cannot.
Deed = Callable[[Command], Awaitable[str]]


class Commands:
    def __init__(self, journal: Journal, reporter: Reporter, clock: Clock, deed: Deed) -> None:
        self._journal = journal
        self._reporter = reporter
        self._clock = clock
        self._deed = deed
        self._known: dict[str, Command] = {}  # oldest first
        self._due = asyncio.Event()
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._begun: set[str] = set()
        self._busy: set[str] = set()  # instances

    async def load(self) -> None:
        """What the last process knew: what it had begun is over, what it had accepted is still to be done."""
        document = await self._journal.load_document(_RECORD)
        for record in document.get("commands", ()):
            with contextlib.suppress(KeyError, TypeError, ValueError):
                command = command_of(record)
                self._known[command.id] = command
        for command in list(self._known.values()):
            if command.stage is Stage.BEGUN:
                detail = "the agent ended while it was carried out; look at what it was to change"
                self._known[command.id] = replace(command, stage=Stage.INTERRUPTED, detail=detail)
        if self._known:
            await self._save()
        for command in list(self._known.values())[-_WITH_RESULT:]:
            self._report(command)
        self._due.set()

    async def received(self, message: commands_pb2.Commands) -> None:
        """Journalled when this returns. What is known already is only answered for again."""
        now = self._clock.now().timestamp()
        news: list[Command] = []
        for one in message.commands:
            if one.command_id in self._known:
                self._report(self._known[one.command_id])
            elif one.command_id:
                news.append(command_from(one, now))
        for command_id in message.cancelled:
            known = self._known.get(command_id)
            if known is None:
                # So that it is not begun if it comes after all.
                news.append(Command(command_id, Verb.UNKNOWN, "", now, 0, Stage.CANCELLED, "it was not begun"))
            elif known.stage is Stage.ACCEPTED:
                news.append(replace(known, stage=Stage.CANCELLED, detail="it was not begun"))
            else:
                self._report(known)
        if news:
            await self._put(*news)
            self._due.set()

    async def run(self) -> None:
        """Until cancelled. Commands to one instance wait for each other."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._due.wait()
                self._due.clear()
                for command in list(self._known.values()):
                    waits = command.stage is Stage.ACCEPTED and command.id not in self._begun
                    if waits and (not command.instance_id or command.instance_id not in self._busy):
                        self._begun.add(command.id)
                        self._busy.add(command.instance_id)
                        group.create_task(self._carry_out(command))

    async def _carry_out(self, command: Command) -> None:
        try:
            async with self._turn:
                if self._known[command.id].stage is Stage.ACCEPTED:
                    await self._put(await self._outcome(command))
        except OSError as error:
            # The journal cannot be written: what was not written down is not begun, and what is done is told later.
            log.error("command not journalled", command=command.id, error=str(error))
            await self._clock.sleep(5.0)
        finally:
            self._begun.discard(command.id)
            self._busy.discard(command.instance_id)
            self._due.set()

    async def _outcome(self, command: Command) -> Command:
        if command.verb is Verb.UNKNOWN:
            return replace(command, stage=Stage.FAILED, detail="this agent does not know the verb; update the agent")
        if self._clock.now().timestamp() > command.begin_by:
            return replace(command, stage=Stage.EXPIRED, detail="it came too late to be begun")
        await self._put(replace(command, stage=Stage.BEGUN))
        log.info("command begun", command=command.id, verb=command.verb.value, instance=command.instance_id)
        try:
            async with asyncio.timeout(command.end_seconds):
                result = await self._deed(command)
        except TimeoutError:
            return replace(command, stage=Stage.FAILED, detail=f"not done after {command.end_seconds:g} s; given up")
        except (Failure, OSError) as error:
            return replace(command, stage=Stage.FAILED, detail=str(error))
        except Exception:
            # A defect in one deed must not end the agent, nor be begun again.
            log.exception("command broken", command=command.id, verb=command.verb.value)
            return replace(command, stage=Stage.FAILED, detail="a defect ended it; see the agent's log")
        return replace(command, stage=Stage.DONE, result=result if len(result) <= MOST_RESULT else "")

    async def _put(self, *commands: Command) -> None:
        before = {command.id: self._known.get(command.id) for command in commands}
        for command in commands:
            self._known[command.id] = command
        try:
            await self._save()
        except OSError:
            for command_id, known in before.items():
                if known is None:
                    del self._known[command_id]
                else:
                    self._known[command_id] = known
            raise
        for command in commands:
            self._report(command)

    async def _save(self) -> None:
        ended = [one.id for one in self._known.values() if one.stage in ENDED]
        for command_id in ended[: max(0, len(self._known) - _REMEMBERED)]:
            del self._known[command_id]
        for command_id in ended[:-_WITH_RESULT]:
            if command_id in self._known:
                self._known[command_id] = replace(self._known[command_id], result="")
        await self._journal.save_document(
            _RECORD, lambda: {"commands": [command_record(one) for one in self._known.values()]}
        )

    def _report(self, command: Command) -> None:
        self._reporter.report(CommandReport(command.id, command.stage, command.detail, command.result))
