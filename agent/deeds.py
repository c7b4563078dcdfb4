"""What a command makes this host do, once. Each deed changes what it names and nothing else, and answers in JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from typing import Any

import structlog

from agent.cache import ContentCache, verify_file
from agent.commands_model import Command, Verb
from agent.desired import DesiredBook
from agent.eviction import Eviction
from agent.model import LIVE_STATES, Assignment, Container, DesiredState
from agent.runtimes import EngineAway, RuntimeDriver
from common.digest import DigestMismatch
from common.errors import Conflict, Failure, NotFound

log = structlog.get_logger()

_MOST_SHOWN = 500


class NotAssigned(NotFound):
    code = "not_assigned"


class NothingRuns(Conflict):
    code = "nothing_runs"


class OnTheMove(Conflict):
    code = "on_the_move"


class Deeds:
    """`hold`: the reconciler leaves the instance alone inside. `try_again`: it forgets what went wrong with it.
    `about`: what this host is, for diagnostics.
    """

    def __init__(
        self,
        book: DesiredBook,
        driver: Callable[[], RuntimeDriver | None],
        cache: ContentCache,
        eviction: Eviction,
        hold: Callable[[str], AbstractAsyncContextManager[None]],
        try_again: Callable[[str], None],
        about: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._book = book
        self._driver = driver
        self._cache = cache
        self._eviction = eviction
        self._hold = hold
        self._try_again = try_again
        self._about = about
        self._deeds: Mapping[Verb, Callable[[Command], Awaitable[Mapping[str, Any]]]] = {
            Verb.RESTART: self._restart,
            Verb.REFETCH: self._refetch,
            Verb.PRUNE_CACHE: self._prune,
            Verb.COLLECT_DIAGNOSTICS: self._diagnose,
            Verb.SNAPSHOT: self._snapshot,
            Verb.LIST_SNAPSHOTS: self._snapshots,
            Verb.RESTORE_SNAPSHOT: self._restore,
            Verb.DELETE_SNAPSHOT: self._delete_snapshot,
        }

    async def carry_out(self, command: Command) -> str:
        """Its result as JSON. Raises the `Failure` that hinders it."""
        return json.dumps(await self._deeds[command.verb](command))

    async def _restart(self, command: Command) -> Mapping[str, Any]:
        assignment = self._assigned(command)
        if assignment.desired_state is not DesiredState.RUNNING:
            raise NothingRuns(f"{assignment.name} is not wanted running", action="start it instead")
        async with self._hold(assignment.instance_id):
            driver = self._engine()
            container = await self._container(driver, assignment)
            await driver.restart(container.runtime_id, assignment.container.stop_grace_seconds)
        return {"runtime_id": container.runtime_id}

    async def _refetch(self, command: Command) -> Mapping[str, Any]:
        """What is damaged on disk is dropped; the reconciler fetches what is missing."""
        assignment = self._assigned(command)
        sizes = {content.digest: content.size_bytes for content in assignment.image.everything}
        damaged: list[str] = []
        held = self._cache.held_files(sizes)
        for digest, path, _ in held:
            try:
                await asyncio.to_thread(verify_file, path, digest, sizes[digest])
            except (DigestMismatch, OSError) as error:
                log.error("held content is damaged", digest=str(digest), error=str(error))
                damaged.append(str(digest))
                await self._eviction.discard(digest)
        self._try_again(assignment.instance_id)
        return {"verified": len(held) - len(damaged), "damaged": damaged, "missing": len(sizes) - len(held)}

    async def _snapshot(self, command: Command) -> Mapping[str, Any]:
        async with self._standing_aside(command) as (driver, runtime_id):
            await driver.snapshot(runtime_id, command.argument)
        return {"name": command.argument}

    async def _snapshots(self, command: Command) -> Mapping[str, Any]:
        driver = self._engine()
        container = await self._any_container(driver, self._assigned(command))
        found = await driver.snapshots(container.runtime_id)
        return {"snapshots": [asdict(one) for one in found[-_MOST_SHOWN:]]}

    async def _restore(self, command: Command) -> Mapping[str, Any]:
        """Whether it runs afterwards is the reconciler's business, as ever."""
        async with self._standing_aside(command) as (driver, runtime_id):
            await driver.restore(runtime_id, command.argument)
        return {"name": command.argument}

    async def _delete_snapshot(self, command: Command) -> Mapping[str, Any]:
        async with self._standing_aside(command) as (driver, runtime_id):
            await driver.delete_snapshot(runtime_id, command.argument)
        return {"name": command.argument}

    @contextlib.asynccontextmanager
    async def _standing_aside(self, command: Command) -> AsyncIterator[tuple[RuntimeDriver, str]]:
        """The instance's container, of which the reconciler keeps its hands. Raises `OnTheMove`."""
        assignment = self._assigned(command)
        async with self._hold(assignment.instance_id):
            now = self._assigned(command)
            if now.hand_over is not None or now.take_over is not None:
                raise OnTheMove(f"{now.name} moves to another host", action="wait until it is there")
            driver = self._engine()
            yield driver, (await self._any_container(driver, now)).runtime_id

    async def _prune(self, _command: Command) -> Mapping[str, Any]:
        return {"freed_bytes": await self._eviction.empty(), "held_bytes": self._cache.used_bytes}

    async def _diagnose(self, _command: Command) -> Mapping[str, Any]:
        current = self._book.current
        assignments = [
            {"id": one.instance_id, "name": f"{one.tenant}/{one.name}", "generation": one.generation}
            | {"desired_state": one.desired_state.value, "spec_hash": one.spec_hash}
            for one in current.items.values()
        ]
        return {
            **self._about(),
            "generation": current.generation,
            "assignments": assignments[:_MOST_SHOWN],
            "unreadable": {key: one.reason for key, one in list(current.unreadable.items())[:_MOST_SHOWN]},
            "regionals": [one.content_url for one in self._book.endpoints],
            "cache": {
                "contents": len(self._cache.held),
                "used_bytes": self._cache.used_bytes,
                "lacking_bytes": self._cache.lacking_bytes(0),
            },
            "engine": await self._engine_told(),
        }

    async def _engine_told(self) -> Mapping[str, Any]:
        driver = self._driver()
        if driver is None:
            return {"kind": "none"}
        try:
            engine, containers = await driver.describe(), await driver.containers()
        except Failure as failure:
            return {"error": str(failure)}
        shown = [
            {"id": one.runtime_id, "name": one.name, "instance_id": one.instance_id, "state": one.state.value}
            | {"generation": one.generation, "exit_code": one.exit_code, "restart_count": one.restart_count}
            for one in containers[:_MOST_SHOWN]
        ]
        return {"kind": engine.kind, "version": engine.version, "containers": shown}

    def _assigned(self, command: Command) -> Assignment:
        found = self._book.current.items.get(command.instance_id)
        if found is None:
            raise NotAssigned(f"instance {command.instance_id} is not assigned to this host", action="look where it is")
        return found

    def _engine(self) -> RuntimeDriver:
        driver = self._driver()
        if driver is None:
            raise EngineAway("this host has no container engine", action="start the agent with a runtime")
        return driver

    async def _any_container(self, driver: RuntimeDriver, assignment: Assignment) -> Container:
        """Running or not; of several (an update under way) the one that is wished."""
        found = [one for one in await driver.containers() if one.instance_id == assignment.instance_id]
        if not found:
            raise NothingRuns(f"this host has no container of {assignment.name} yet", action="see its phase")
        return max(found, key=lambda one: (one.spec_hash == assignment.spec_hash, one.state in LIVE_STATES))

    async def _container(self, driver: RuntimeDriver, assignment: Assignment) -> Container:
        for container in await driver.containers():
            ours = container.instance_id == assignment.instance_id and container.spec_hash == assignment.spec_hash
            if ours and container.state in LIVE_STATES:
                return container
        raise NothingRuns(f"no container of {assignment.name} runs", action="see its phase; it may start soon")
