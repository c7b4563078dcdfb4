"""Docker as a container engine: calls through its own Python library in threads of this adapter, streams from the event
loop.

Facts it is built on (measured, dockerd 20.10): `_ping` answers while containerd is dead and every start fails for about
14 s, so only the calls themselves say whether the engine works; after kill -9 of dockerd containers with the policy
`unless-stopped` stay exited; the API version must be negotiated (29 refuses anything below 1.44). An image is known by
the digest of its manifest (`RepoDigests`), whatever port the mirror had when it was pulled.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import Any

from docker import APIClient

from agent.model import Container, ContainerState, Engine
from agent.runtimes import (
    Adoption,
    Capabilities,
    ContainerOrder,
    EngineCannot,
    EngineRefused,
    ExecOrder,
    LogQuery,
    Piece,
    Sample,
    Session,
    Size,
    Snapshot,
    Stranger,
)
from agent.runtimes.docker_calls import QUESTION_SECONDS, WORK_SECONDS, DockerCalls
from agent.runtimes.docker_exec import exec_session
from agent.runtimes.docker_objects import DockerObjects, references, unpause
from agent.runtimes.docker_shapes import sample_of, state_of
from agent.runtimes.docker_streams import DockerSocket, framed_logs, pieces, plain_logs
from common.digest import Digest

Inspected = dict[str, Any]


class DockerRuntimeDriver:
    """`base_url` as in DOCKER_HOST. `mirror` gives `host:port` of the agent's mirror as the engine reaches it.

    network_mode: Docker's, for every container that asks for none; empty: the default bridge.
    """

    def __init__(
        self,
        base_url: str,
        host_id: str,
        mirror: Callable[[], str],
        *,
        network_mode: str = "",
        question_seconds: int = QUESTION_SECONDS,
        work_seconds: int = WORK_SECONDS,
    ) -> None:
        self._calls = DockerCalls(base_url, question_seconds, work_seconds)
        self._objects = DockerObjects(host_id, mirror, network_mode)
        self._socket = DockerSocket(base_url, question_seconds)
        self._work_seconds = work_seconds
        self._described = Engine("docker", "")

    @property
    def capabilities(self) -> Capabilities:
        """A limit of the disk is passed on: some storage drivers can, the others refuse it in their own words."""
        return Capabilities()

    async def describe(self) -> Engine:
        version = str((await self._calls.ask(lambda client: client.version())).get("Version", ""))
        if self._described.version != version:
            # Asked once: it counts every container and image of the engine.
            info = await self._calls.ask(lambda client: client.info())
            self._described = Engine("docker", version, str(info.get("Driver", "")))
        return self._described

    async def containers(self) -> Sequence[Container]:
        return await self._calls.ask(self._objects.list_ours)

    async def images(self, wanted: Collection[Digest]) -> frozenset[Digest]:
        held = await self._calls.ask(references)
        return frozenset(digest for digest in wanted if any(name.endswith(f"@{digest}") for name in held))

    async def pull(self, repository: str, manifest: Digest) -> None:
        await self._calls.work(functools.partial(self._objects.pull, repository=repository, manifest=manifest))

    async def pull_ahead(self, repository: str, manifest: Digest) -> None:
        given_up = threading.Event()
        pull = functools.partial(self._objects.pull, repository=repository, manifest=manifest, given_up=given_up)
        try:
            await self._calls.work_ahead(pull)
        finally:
            # The thread sees it at the engine's next word, hangs up, and the engine gives up the pull.
            given_up.set()

    async def create(self, order: ContainerOrder) -> str:
        return await self._calls.work(functools.partial(self._objects.create, order=order))

    async def start(self, runtime_id: str) -> None:
        def start(client: APIClient, inspected: Inspected) -> None:
            if state_of(inspected) is not ContainerState.PAUSED:
                client.start(runtime_id)

        await self._on_ours(runtime_id, start)

    async def stop(self, runtime_id: str, grace_seconds: int) -> None:
        def stop(client: APIClient, inspected: Inspected) -> None:
            unpause(client, inspected)
            client.stop(runtime_id, timeout=grace_seconds)

        await self._on_ours(runtime_id, stop)

    async def restart(self, runtime_id: str, grace_seconds: int) -> None:
        def restart(client: APIClient, inspected: Inspected) -> None:
            unpause(client, inspected)
            client.restart(runtime_id, timeout=grace_seconds)

        await self._on_ours(runtime_id, restart)

    async def pause(self, runtime_id: str) -> None:
        def pause(client: APIClient, inspected: Inspected) -> None:
            if state_of(inspected) is not ContainerState.PAUSED:
                client.pause(runtime_id)

        await self._on_ours(runtime_id, pause)

    async def resume(self, runtime_id: str) -> None:
        def resume(client: APIClient, inspected: Inspected) -> None:
            if state_of(inspected) is not ContainerState.RUNNING:
                client.unpause(runtime_id)

        await self._on_ours(runtime_id, resume)

    async def rename(self, runtime_id: str, name: str) -> None:
        def rename(client: APIClient, inspected: Inspected) -> None:
            if inspected["Name"] != f"/{name}":
                client.rename(runtime_id, name)

        await self._on_ours(runtime_id, rename)

    async def remove(self, runtime_id: str) -> None:
        await self._calls.work(functools.partial(self._objects.remove, runtime_id=runtime_id))

    @contextlib.asynccontextmanager
    async def logs(self, runtime_id: str, query: LogQuery) -> AsyncIterator[AsyncIterator[Piece]]:
        inspected, base = await self._ours(runtime_id)
        seconds, nanoseconds = divmod(query.since_ns, 1_000_000_000)
        words = {
            "stdout": str(int(query.output)),
            "stderr": str(int(query.errors)),
            "follow": str(int(query.follow)),
            "timestamps": "1",
            "since": f"{seconds}.{nanoseconds:09d}",
            "tail": "all" if query.tail is None else str(query.tail),
        }
        read = plain_logs if (inspected.get("Config") or {}).get("Tty") else framed_logs
        silence = None if query.follow else self._work_seconds
        async with self._socket.answer(f"{base}/containers/{runtime_id}/logs", words, silence) as content:
            yield read(content, self._socket.base_url)

    @contextlib.asynccontextmanager
    async def execute(self, runtime_id: str, order: ExecOrder) -> AsyncIterator[Session]:
        inspected, base = await self._ours(runtime_id)
        if state_of(inspected) is not ContainerState.RUNNING:
            raise EngineRefused(f"container {inspected['Name']} does not run", action="start it first")
        async with exec_session(self._calls, self._socket, base, runtime_id, order) as session:
            yield session

    @contextlib.asynccontextmanager
    async def console(self, runtime_id: str, size: Size) -> AsyncIterator[Session]:
        await self._ours(runtime_id)
        raise _cannot("consoles", "run a shell in it instead")
        yield

    async def sample(self, runtime_id: str) -> Sample:
        def ask(client: APIClient) -> Sample:
            inspected = self._objects.inspect_ours(client, runtime_id)
            limit = int((inspected.get("HostConfig") or {}).get("Memory") or 0)
            if state_of(inspected) not in (ContainerState.RUNNING, ContainerState.PAUSED):
                return Sample()
            return sample_of(client.stats(runtime_id, stream=False, one_shot=True), limit)

        return await self._calls.ask(ask)

    async def snapshot(self, runtime_id: str, name: str) -> None:
        await self._no_snapshots(runtime_id)

    async def snapshots(self, runtime_id: str) -> Sequence[Snapshot]:
        await self._no_snapshots(runtime_id)
        return ()

    async def restore(self, runtime_id: str, name: str) -> None:
        await self._no_snapshots(runtime_id)

    async def delete_snapshot(self, runtime_id: str, name: str) -> None:
        await self._no_snapshots(runtime_id)

    @contextlib.asynccontextmanager
    async def export(self, runtime_id: str, *, with_snapshots: bool = False) -> AsyncIterator[AsyncIterator[bytes]]:
        _, base = await self._ours(runtime_id)
        path = f"{base}/containers/{runtime_id}/export"
        async with self._socket.answer(path, {}, self._work_seconds) as content:
            yield pieces(content, self._socket.base_url)

    async def take_in(self, order: ContainerOrder, move_id: str, archive: AsyncIterator[bytes]) -> str:
        raise EngineCannot("Docker takes in no containers of other hosts", action="run the image there instead")

    async def clear_taken(self, keep: Callable[[], Collection[str]]) -> None:
        """There is nothing."""

    async def strangers(self, named: Collection[str] = ()) -> Sequence[Stranger]:
        return await self._calls.ask(functools.partial(self._objects.strangers, named=named))

    def claim(self, adoptions: Mapping[str, Adoption]) -> None:
        self._objects.claims = dict(adoptions)

    async def close(self) -> None:
        self._calls.close()

    async def _no_snapshots(self, runtime_id: str) -> None:
        await self._ours(runtime_id)
        raise _cannot("snapshots", "keep what must last in a volume")

    async def _ours(self, runtime_id: str) -> tuple[Inspected, str]:
        """Its inspection, and the beginning of the paths of the API's version that was agreed on."""

        def ask(client: APIClient) -> tuple[Inspected, str]:
            return self._objects.inspect_ours(client, runtime_id), f"/v{client.api_version}"

        return await self._calls.ask(ask)

    async def _on_ours(self, runtime_id: str, act: Callable[[APIClient, Inspected], object]) -> None:
        await self._calls.work(lambda client: act(client, self._objects.inspect_ours(client, runtime_id)))


def _cannot(what: str, action: str) -> EngineCannot:
    return EngineCannot(f"Docker has no {what}", action=action)
