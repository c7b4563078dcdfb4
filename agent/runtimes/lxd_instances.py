"""Which instances of an LXD are ours, and how to reach one by its id.

Invariant: nothing is done to an instance whose labels do not name this host, unless it was claimed by its id.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from agent.model import ContainerState
from agent.runtimes.failures import ContainerUnknown, EngineRefused, NotOurs
from agent.runtimes.lxd_calls import AlreadyThere, LxdCalls, Missing
from agent.runtimes.lxd_sessions import LxdSession
from agent.runtimes.lxd_shapes import KEY_NAME, Instance, id_of, instance_name, labels_in, state_in
from agent.runtimes.orders import LABEL_HOST, Adoption
from agent.runtimes.streams import ExecOrder

_NOTED = ("volatile.", "image.")


class LxdInstances:
    """`adoptions`: instances without our labels that count as ours, by id."""

    def __init__(self, calls: LxdCalls, host_id: str) -> None:
        self._calls = calls
        self._host_id = host_id
        self._names: dict[str, str] = {}
        self.adoptions: dict[str, Adoption] = {}

    async def ours(self) -> Sequence[tuple[str, Instance]]:
        return [(key, one) for key, one in (await self._all()).items() if self._is_ours(key, one)]

    async def of_nobody(self) -> Sequence[Instance]:
        """Neither ours nor another agent's."""
        found = await self._all()
        return [one for key, one in found.items() if key not in self.adoptions and LABEL_HOST not in labels_in(one)]

    async def everybody(self) -> Sequence[Instance]:
        return list((await self._listed()).values())

    def adopted(self, runtime_id: str) -> Adoption | None:
        return self.adoptions.get(runtime_id)

    async def own(self, runtime_id: str) -> Instance:
        """Raises `ContainerUnknown`, and `NotOurs` for somebody else's."""
        instance = await self._found(runtime_id)
        if not self._is_ours(runtime_id, instance):
            raise NotOurs(f"instance {instance['name']} is not of this host's agent", action="leave it alone")
        return instance

    async def id_of_name(self, name: str) -> str:
        return id_of(await self._calls.get("instances", name))

    async def state(self, name: str) -> ContainerState:
        return state_in(await self._calls.get("instances", name))

    async def runs(self, name: str) -> bool:
        with contextlib.suppress(Missing):
            return await self.state(name) in (ContainerState.RUNNING, ContainerState.PAUSED)
        return False

    async def reset(self, name: str, wanted: Instance) -> None:
        """Give it the configuration, devices and profiles of `wanted`, and nothing else beside what LXD itself notes:
        what a backup or a snapshot says of them was never allowed here.
        """
        now: Instance = await self._calls.get("instances", name)
        noted = {key: value for key, value in (now.get("config") or {}).items() if key.startswith(_NOTED)}
        config = {key: value for key, value in (wanted.get("config") or {}).items() if not key.startswith(_NOTED)}
        body = {key: now[key] for key in ("architecture", "description", "ephemeral") if key in now}
        body |= {"config": {**noted, **config}, "devices": wanted["devices"], "profiles": wanted["profiles"]}
        await self._calls.send("PUT", "instances", name, body=body)

    async def rename(self, instance: Instance, name: str) -> None:
        """In two steps; after a crash between them it shows LXD's name, and is renamed again."""
        known, wanted = str(instance["name"]), instance_name(name)
        if known != wanted:
            try:
                await self._calls.send("POST", "instances", known, body={"name": wanted})
            except AlreadyThere as error:
                raise EngineRefused(
                    f"another instance of LXD has the name {wanted}", action="rename or remove it"
                ) from error
            self._names[id_of(instance)] = wanted
        if (instance.get("config") or {}).get(KEY_NAME) != name:
            await self._calls.send("PATCH", "instances", wanted, body={"config": {KEY_NAME: name}})

    async def identity(self, name: str, user: str) -> Mapping[str, int]:
        """`user` as `name`, `uid` or `uid:gid`, in LXD's words."""
        if not user:
            return {}
        who, _, group = user.partition(":")
        if who.isdecimal():
            return {"user": int(who), "group": int(group) if group.isdecimal() else 0}
        for line in (await self._read(name, "/etc/passwd")).splitlines():
            fields = line.split(":")
            if len(fields) > 3 and fields[0] == who and fields[2].isdecimal() and fields[3].isdecimal():
                return {"user": int(fields[2]), "group": int(fields[3])}
        raise EngineRefused(f"the instance has no user {who[:80]!r}", action="name one of its /etc/passwd, or a number")

    async def passes(
        self,
        runtime_id: str,
        argv: tuple[str, ...],
        seconds: float,
        execute: Callable[[str, ExecOrder], AbstractAsyncContextManager[LxdSession]],
    ) -> bool:
        """Whether the command ends with 0 in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), execute(runtime_id, ExecOrder(argv)) as session:
                while await session.read() is not None:
                    pass
                return await session.exit_code() == 0
        return False

    async def _read(self, name: str, path: str) -> str:
        try:
            return (await self._calls.read("instances", name, "files", path=path)).decode(errors="replace")
        except Missing:
            return ""

    async def _listed(self) -> dict[str, Instance]:
        """By name: what only begins to be has no id yet."""
        listed: Sequence[Mapping[str, Any]] = await self._calls.get("instances", recursion=1)
        return {str(one["name"]): one for one in listed}

    async def _all(self) -> dict[str, Instance]:
        listed = (await self._listed()).values()
        found = {id_of(one): one for one in listed if id_of(one) and one.get("type") == "container"}
        self._names = {key: str(one["name"]) for key, one in found.items()}
        return found

    async def _found(self, runtime_id: str) -> Instance:
        if (name := self._names.get(runtime_id)) is not None:
            with contextlib.suppress(Missing):
                instance: Instance = await self._calls.get("instances", name)
                if id_of(instance) == runtime_id:
                    return instance
        instance_or_none = (await self._all()).get(runtime_id)
        if instance_or_none is None:
            raise ContainerUnknown(f"LXD has no instance {runtime_id}", action="look at the engine again")
        return instance_or_none

    def _is_ours(self, runtime_id: str, instance: Instance) -> bool:
        host = labels_in(instance).get(LABEL_HOST)
        return host == self._host_id or (host is None and runtime_id in self.adoptions)
