"""`longshore-agent supervise`: the agent's parent, which outlives it, tries new versions and goes back from bad ones.

It speaks to the agent by files alone (agent/updates/layout.py), knows nothing of the fleet, and listens on nothing: it
is the one part that is not replaced with the agent.

Invariants: what it is about to start is written down before it starts, so a crash at any moment leads to the same
decision; two agents never work at once, for it waits for the directory's lock; containers are not its children, and no
change of version touches them.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from agent.updates.layout import Layout
from agent.updates.model import BUILT_IN, State, refused, started, taken_up, trusted
from common.backoff import Backoff
from common.clock import Clock

log = structlog.get_logger()

_PR_SET_PDEATHSIG = 1  # prctl(2)


@dataclass(frozen=True, slots=True)
class Tempo:
    """Seconds. `stop`: for the agent to end by itself; `settled`: after which an end is no sign of a bad version."""

    poll: float = 0.5
    stop: float = 30.0
    lock: float = 60.0
    settled: float = 60.0
    restart: float = 1.0
    restart_cap: float = 60.0


class Supervisor:
    """`arguments`: what each version is started with after its program; `data`: the agent's directory, whose lock says
    whether one works there.
    """

    def __init__(
        self,
        layout: Layout,
        data: Path,
        built_in: Sequence[str],
        arguments: Sequence[str],
        clock: Clock,
        random: Callable[[], float],
        tempo: Tempo | None = None,
    ) -> None:
        self._layout = layout
        self._data = data
        self._built_in = tuple(built_in)
        self._arguments = tuple(arguments)
        self._clock = clock
        self._tempo = tempo or Tempo()
        self._backoff = Backoff(random, initial_seconds=self._tempo.restart, cap_seconds=self._tempo.restart_cap)
        self._state = State()
        self._ours = False

    async def run(self, stopping: asyncio.Event) -> None:
        """Until `stopping` is set; the agent is asked to end then, and containers go on. Raises `OSError` when the
        directory cannot be made.
        """
        self._layout.prepare()
        self._state = self._layout.read_state()
        while not stopping.is_set():
            self._before_start()
            began = self._clock.monotonic()
            code = await self._one_life(stopping)
            if stopping.is_set():
                return
            await self._after_end(code, self._clock.monotonic() - began, stopping)

    def _before_start(self) -> None:
        known = self._layout.read_state()
        wanted = self._layout.read_wanted()
        state = taken_up(known, wanted, wanted is not None and self._layout.installed(wanted.digest))
        try:
            self._layout.clear_healthy()
            self._put(self._with_files(started(state)))
        except OSError as error:
            # Nothing is tried that is not written down; but a full disk must not keep a host without its agent.
            log.error("state not written", error=str(error), action="what is trusted runs; check the disk")
            self._state = self._with_files(refused(known, f"its state could not be written down: {error}"))

    def _with_files(self, state: State) -> State:
        """Somebody may have removed a version's files."""
        installed = self._layout.installed
        if state.trial is not None and not installed(state.to_run):
            state = refused(state, "its files are gone")
        if not installed(state.to_run):
            log.error("version missing", version=state.trusted, action="another one runs in its place")
            state = replace(state, trusted=state.former if installed(state.former) else BUILT_IN)
        return state

    async def _one_life(self, stopping: asyncio.Event) -> int:
        await self._until_free(stopping)
        command = self._command(self._state.to_run)
        log.info("agent started", version=self._state.to_run or "built in", trial=self._state.trial is not None)
        try:
            process = await asyncio.create_subprocess_exec(*command, preexec_fn=_ends_with(os.getpid()))
        except OSError as error:
            log.error("agent not started", command=command[0], error=str(error))
            return -1
        try:
            return await self._watch(process, stopping)
        finally:
            await self._end(process)

    async def _watch(self, process: asyncio.subprocess.Process, stopping: asyncio.Event) -> int:
        """Until it ends, or must end."""
        trial = self._state.trial
        give_up_at = self._clock.monotonic() + trial.order.patience_seconds if trial is not None else None
        while process.returncode is None and not stopping.is_set():
            self._look()
            if self._state.trial is not None and give_up_at is not None and self._clock.monotonic() >= give_up_at:
                seconds = self._state.trial.order.patience_seconds
                with contextlib.suppress(OSError):  # then it is tried again, and ends the same
                    self._put(refused(self._state, f"it was not attached and well within {seconds:.0f} s"))
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._tempo.poll):
                    await process.wait()
        return process.returncode if process.returncode is not None else 0

    def _look(self) -> None:
        """What the agent wrote meanwhile."""
        state, healthy = self._state, self._layout.read_healthy()
        if healthy is not None:
            state = trusted(state, healthy)
        wanted = self._layout.read_wanted()
        if state.trial is None and wanted is not None and wanted.digest == state.trusted:
            state = taken_up(state, wanted, installed=True)
        try:
            self._put(state)
        except OSError as error:
            log.warning("state not written", error=str(error), action="it is tried again; check the disk")

    async def _after_end(self, code: int, lived_seconds: float, stopping: asyncio.Event) -> None:
        wanted = self._layout.read_wanted()
        if taken_up(self._state, wanted, wanted is not None and self._layout.installed(wanted.digest)) != self._state:
            return  # it ended so that the next version begins
        log.warning(
            "agent ended", code=code, lived_seconds=round(lived_seconds), version=self._state.to_run or "built in"
        )
        if lived_seconds >= self._tempo.settled:
            self._backoff.reset()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._backoff.next_delay()):
                await stopping.wait()

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(self._tempo.stop):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _until_free(self, stopping: asyncio.Event) -> None:
        """An agent that outlived an earlier supervisor is told to end by the kernel, and may take a while."""
        until = self._clock.monotonic() + self._tempo.lock
        while not stopping.is_set() and self._clock.monotonic() < until and _is_locked(self._data / "lock"):
            await self._clock.sleep(0.1)

    def _command(self, digest: str) -> list[str]:
        program = self._built_in if digest == BUILT_IN else (str(self._layout.entry(digest)),)
        return [*program, *self._arguments]

    def _put(self, state: State) -> None:
        before = self._state
        if state != before or not self._ours:
            self._layout.write_state(state)
            self._state, self._ours = state, True
            if state.trial is None and state.trusted != before.trusted:
                log.info("version trusted", version=state.trusted or "built in", order=state.last_order)
            if state.refusal is not None and state.refusal != before.refusal:
                log.error("version refused", version=state.refusal.order.digest, reason=state.refusal.reason)


def built_in_command() -> list[str]:
    """How the version that is installed on the host is started: as this process was."""
    return [sys.executable, "-m", "agent"]


def _ends_with(parent: int) -> Callable[[], None]:
    """Run in the child before its program: asked to end when `parent` is gone, however that came about. By us, not by
    the agent: one whose supervisor was killed while its interpreter still loaded would otherwise never know.
    """
    prctl = ctypes.CDLL(None).prctl

    def bind() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return bind


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
