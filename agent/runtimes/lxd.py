"""LXD as a container engine: system containers behind the same contract as Docker's.

An instance is known by its `volatile.uuid`, which stays when it is renamed; labels are config keys `user.<label>`.
Facts it is built on (measured, LXD 5.0.2): an instance is renamed only while it stands; LXD that was ended or killed
leaves its instances running and finds them again; a start of what runs, and a stop of what stands, are errors there.
"""

from __future__ import annotations

import contextlib
import functools
import socket
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import Any

from agent.model import Container, ContainerState, Engine, Health, HealthCheck, PortMapping
from agent.runtimes.failures import ContainerUnknown, EngineRefused
from agent.runtimes.lxd_adoption import inherited_from, stranger_of
from agent.runtimes.lxd_archives import LxdArchives
from agent.runtimes.lxd_calls import QUESTION_SECONDS, WORK_SECONDS, AlreadyThere, LxdCalls, Missing
from agent.runtimes.lxd_health import HealthChecks, Spawn
from agent.runtimes.lxd_images import LxdImages, OpenHeld
from agent.runtimes.lxd_instances import LxdInstances
from agent.runtimes.lxd_logs import LxdConsoles
from agent.runtimes.lxd_moves import LxdMoves
from agent.runtimes.lxd_places import LxdPlaces
from agent.runtimes.lxd_sessions import LxdSession, command, console
from agent.runtimes.lxd_shapes import (
    KEY_UNFINISHED,
    Instance,
    container_of,
    health_check_in,
    instance_body,
    instance_name,
    require_possible,
    sample_of,
    state_in,
)
from agent.runtimes.orders import (
    LABEL_ADOPT,
    LABEL_HOST,
    LABEL_INSTANCE,
    LABEL_SPEC,
    Adoption,
    Capabilities,
    ContainerOrder,
    Sample,
    Snapshot,
    Stranger,
)
from agent.runtimes.streams import ExecOrder, LogQuery, Piece, Size
from common.clock import Clock
from common.digest import Digest
from common.errors import Failure

_PROBE = "a health check"


class LxdRuntimeDriver:
    """`socket_path`: LXD's unix socket. `open_held`: verified contents of this host, of which images are made. `spawn`
    owns the tasks of health checks.

    profile, pool, network: what instances get unless their specification says otherwise; empty pool and network: the
    profile's.
    """

    def __init__(
        self,
        socket_path: str,
        host_id: str,
        open_held: OpenHeld,
        clock: Clock,
        spawn: Spawn,
        *,
        profile: str = "default",
        pool: str = "",
        network: str = "",
        question_seconds: float = QUESTION_SECONDS,
        work_seconds: float = WORK_SECONDS,
    ) -> None:
        self._host_id = host_id
        self._calls = LxdCalls(socket_path, question_seconds=question_seconds, work_seconds=work_seconds)
        self._instances = LxdInstances(self._calls, host_id)
        self._images = LxdImages(self._calls, open_held)
        self._archives = LxdArchives(self._calls)
        self._moves = LxdMoves(self._calls, self._instances, host_id)
        self._places = LxdPlaces(self._calls, profile, pool, network)
        self._consoles = LxdConsoles(self._calls, clock)
        self._checks = HealthChecks(clock, spawn, self._probe)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(console=True, snapshots=True, move=True, disk_limit=self._places.pool_limits)

    async def describe(self) -> Engine:
        environment = (await self._calls.get())["environment"]
        return Engine("lxd", str(environment.get("server_version", "")), await self._places.storage_driver())

    async def containers(self) -> Sequence[Container]:
        ours = await self._instances.ours()
        for part in (self._checks, self._consoles):
            part.forget_all_but({runtime_id for runtime_id, _ in ours})
        return [container_of(one, self._instances.adopted(key), self._health(key, one)) for key, one in ours]

    async def images(self, wanted: Collection[Digest]) -> frozenset[Digest]:
        return await self._images.held(wanted)

    async def pull(self, repository: str, manifest: Digest) -> None:
        await self._images.pull(manifest)

    async def pull_ahead(self, repository: str, manifest: Digest) -> None:
        """LXD takes an image as a whole."""

    async def create(self, order: ContainerOrder) -> str:
        place = await self._places.place()
        require_possible(order.spec, place)
        fingerprint = await self._images.fingerprint(order.manifest)
        inherited = inherited_from(await self._instances.own(order.successor_of)) if order.successor_of else {}
        for mount in order.spec.mounts:
            if not mount.host_path:
                await self._places.ensure_volume(place.pool, mount.volume)
        body = instance_body(order, self._host_id, fingerprint, place, _free_port, inherited)
        try:
            await self._calls.send("POST", "instances", body=body)
        except AlreadyThere:
            return await self._same(order)
        await self._calls.send("PATCH", "instances", body["name"], body={"config": {KEY_UNFINISHED: ""}})
        return await self._instances.id_of_name(body["name"])

    async def start(self, runtime_id: str) -> None:
        instance = await self._instances.own(runtime_id)
        if state_in(instance) not in (ContainerState.RUNNING, ContainerState.PAUSED):
            await self._become(instance, "start")

    async def stop(self, runtime_id: str, grace_seconds: int) -> None:
        await self._stop(await self._instances.own(runtime_id), grace_seconds)

    async def restart(self, runtime_id: str, grace_seconds: int) -> None:
        instance = await self._instances.own(runtime_id)
        await self._stop(instance, grace_seconds)
        await self._become(instance, "start")

    async def pause(self, runtime_id: str) -> None:
        instance = await self._instances.own(runtime_id)
        if state_in(instance) is not ContainerState.PAUSED:
            await self._become(instance, "freeze")

    async def resume(self, runtime_id: str) -> None:
        instance = await self._instances.own(runtime_id)
        if state_in(instance) is not ContainerState.RUNNING:
            await self._become(instance, "unfreeze")

    async def rename(self, runtime_id: str, name: str) -> None:
        await self._instances.rename(await self._instances.own(runtime_id), name)

    async def remove(self, runtime_id: str) -> None:
        with contextlib.suppress(ContainerUnknown, Missing):
            instance = await self._instances.own(runtime_id)
            await self._stop(instance, 0)
            await self._calls.send("DELETE", "instances", str(instance["name"]))

    @contextlib.asynccontextmanager
    async def logs(self, runtime_id: str, query: LogQuery) -> AsyncIterator[AsyncIterator[Piece]]:
        name = await self._name(runtime_id)
        runs = functools.partial(self._instances.runs, name)
        async with contextlib.aclosing(self._consoles.pieces(runtime_id, name, query, runs)) as pieces:
            yield pieces

    @contextlib.asynccontextmanager
    async def execute(self, runtime_id: str, order: ExecOrder) -> AsyncIterator[LxdSession]:
        name = await self._name(runtime_id)
        identity = await self._instances.identity(name, order.user)
        async with command(self._calls, name, order, identity) as session:
            yield session

    @contextlib.asynccontextmanager
    async def console(self, runtime_id: str, size: Size) -> AsyncIterator[LxdSession]:
        async with console(self._calls, await self._name(runtime_id), size) as session:
            yield session

    async def sample(self, runtime_id: str) -> Sample:
        instance = await self._instances.own(runtime_id)
        return sample_of(instance, await self._calls.get("instances", str(instance["name"]), "state"))

    async def snapshot(self, runtime_id: str, name: str) -> None:
        await self._archives.snapshot(await self._name(runtime_id), name)

    async def snapshots(self, runtime_id: str) -> Sequence[Snapshot]:
        return await self._archives.snapshots(await self._name(runtime_id))

    async def restore(self, runtime_id: str, name: str) -> None:
        instance = await self._instances.own(runtime_id)
        await self._stop(instance, 0)  # LXD would start it again as it was then, before we could mend that
        await self._archives.restore(str(instance["name"]), name)
        await self._instances.reset(str(instance["name"]), instance)

    async def delete_snapshot(self, runtime_id: str, name: str) -> None:
        await self._archives.delete_snapshot(await self._name(runtime_id), name)

    @contextlib.asynccontextmanager
    async def export(self, runtime_id: str, *, with_snapshots: bool = False) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self._archives.export(await self._name(runtime_id), with_snapshots=with_snapshots) as chunks:
            yield chunks

    async def take_in(self, order: ContainerOrder, move_id: str, archive: AsyncIterator[bytes]) -> str:
        place = await self._places.place()
        require_possible(order.spec, place)
        body = instance_body(order, self._host_id, "", place, _free_port, {})
        return await self._moves.take_in(body, move_id, archive, place.pool)

    async def clear_taken(self, keep: Callable[[], Collection[str]]) -> None:
        await self._moves.clear(keep)

    async def strangers(self, named: Collection[str] = ()) -> Sequence[Stranger]:
        found = []
        for instance in await self._instances.of_nobody():
            config = instance.get("config") or {}
            wanted = {str(instance["name"]), str(config.get("volatile.uuid"))} & set(named)
            if wanted or f"user.{LABEL_ADOPT}" in config:
                manifests = await self._images.manifests_of(str(config.get("volatile.base_image", "")))
                found.append(stranger_of(instance, manifests))
        return found

    def claim(self, adoptions: Mapping[str, Adoption]) -> None:
        self._instances.adoptions = dict(adoptions)

    async def close(self) -> None:
        await self._calls.close()

    async def _name(self, runtime_id: str) -> str:
        return str((await self._instances.own(runtime_id))["name"])

    async def _same(self, order: ContainerOrder) -> str:
        """The id of the instance that holds the name, if an earlier call made it for this very order."""
        name = instance_name(order.name)
        instance = await self._calls.get("instances", name)
        config: dict[str, Any] = instance["config"]
        found = tuple(config.get(f"user.{label}") for label in (LABEL_HOST, LABEL_INSTANCE, LABEL_SPEC))
        if found != (self._host_id, order.instance_id, order.spec_hash):
            raise EngineRefused(f"another instance of LXD has the name {name}", action="rename or remove it")
        return str(config["volatile.uuid"])

    async def _stop(self, instance: Instance, grace_seconds: int) -> None:
        state = state_in(instance)
        if state in (ContainerState.CREATED, ContainerState.EXITED):
            return
        if state is ContainerState.PAUSED:
            await self._become(instance, "unfreeze")
        if grace_seconds:
            try:
                await self._become(instance, "stop", timeout=grace_seconds)
                return
            except EngineRefused:
                pass  # it did not end in time; what else was wrong, LXD says again
        await self._become(instance, "stop", force=True)

    async def _become(self, instance: Instance, action: str, *, timeout: int = 0, force: bool = False) -> None:
        name = str(instance["name"])
        body = {"action": action, "timeout": timeout or -1, "force": force}
        try:
            await self._calls.send(
                "PUT", "instances", name, "state", body=body, seconds=self._calls.work_seconds + timeout
            )
        except EngineRefused:
            # It may have got there by itself since we looked.
            if await self._instances.state(name) is not _WISHED[action]:
                raise

    def _health(self, runtime_id: str, instance: Instance) -> Health:
        check = health_check_in(instance)
        if check is None or state_in(instance) is not ContainerState.RUNNING:
            return Health.NONE
        return self._checks.health_of(runtime_id, str(instance.get("last_used_at", "")), check)

    async def _probe(self, runtime_id: str, check: HealthCheck, seconds: float) -> bool:
        try:
            return await self._instances.passes(runtime_id, check.test, seconds, self.execute)
        except Failure:
            return False


_WISHED = {
    "start": ContainerState.RUNNING,
    "stop": ContainerState.EXITED,
    "freeze": ContainerState.PAUSED,
    "unfreeze": ContainerState.RUNNING,
}


def _free_port(port: PortMapping) -> int:
    """LXD has no "any free one": we choose it. Somebody may take it before the instance starts, which then fails."""
    kind = socket.SOCK_DGRAM if port.protocol == "udp" else socket.SOCK_STREAM
    family = socket.AF_INET6 if ":" in port.host_ip else socket.AF_INET
    try:
        with socket.socket(family, kind) as chosen:
            chosen.bind((port.host_ip or "127.0.0.1", 0))
            return int(chosen.getsockname()[1])
    except OSError as error:
        raise EngineRefused(
            f"no port is free at {port.host_ip}: {error}", action="use an address of this host"
        ) from error
