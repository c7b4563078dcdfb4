"""Docker as a container engine, through its own Python library in threads of this adapter.

Facts it is built on (measured, dockerd 20.10): `_ping` answers while containerd is dead and every start fails for about
14 s, so only the calls themselves say whether the engine works; after kill -9 of dockerd containers with the policy
`unless-stopped` stay exited; the API version must be negotiated (29 refuses anything below 1.44). An image is known by
the digest of its manifest (`RepoDigests`), whatever port the mirror had when it was pulled.
"""

from __future__ import annotations

import asyncio
import functools
import re
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import requests
from docker import APIClient
from docker.errors import APIError, DockerException, NotFound

from agent.model import Container, Engine
from agent.runtimes import (
    LABEL_HOST,
    LABEL_INSTANCE,
    LABEL_SPEC,
    ContainerOrder,
    ContainerUnknown,
    EngineAway,
    EngineRefused,
    NotOurs,
    labels_of,
)
from agent.runtimes.docker_shapes import container_arguments, container_of, host_arguments, labels_in
from common.digest import Digest

T = TypeVar("T")

# Questions are answered at once or the engine is hung; work may take as long as a big layer takes to unpack.
QUESTION_SECONDS = 10
WORK_SECONDS = 180
# Eight threads: four steps at a time (reconciler), an observation, and some that a hung engine still holds.
_THREADS = 8
# Pulls of images that still arrive last as long as a download: they must not hold up anything else.
_AHEAD_THREADS = 2
# What dockerd says, with status 500, when its containerd is gone or starting.
_HALF_ALIVE = re.compile(
    r"containerd\.sock|connection refused|transport is closing|ttrpc: closed|error reading from server"
    r"|context deadline exceeded|context canceled|server is shutting down"
)
_CONFLICT = 409


class DockerRuntimeDriver:
    """`base_url` as in DOCKER_HOST. `mirror` gives `host:port` of the agent's mirror as the engine reaches it.

    network_mode: Docker's, for every container; empty: the default bridge.
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
        self._base_url = base_url
        self._host_id = host_id
        self._mirror = mirror
        self._network_mode = network_mode
        self._seconds = {False: question_seconds, True: work_seconds}
        self._clients: dict[bool, APIClient] = {}
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="docker")
        self._ahead_threads = ThreadPoolExecutor(_AHEAD_THREADS, thread_name_prefix="docker-ahead")

    async def describe(self) -> Engine:
        version = await self._ask(lambda client: client.version())
        return Engine("docker", str(version.get("Version", "")))

    async def containers(self) -> Sequence[Container]:
        return await self._ask(self._list_containers)

    async def images(self, wanted: Collection[Digest]) -> frozenset[Digest]:
        held = await self._ask(_references)
        return frozenset(digest for digest in wanted if any(name.endswith(f"@{digest}") for name in held))

    async def pull(self, repository: str, manifest: Digest) -> None:
        await self._work(functools.partial(self._pull, repository=repository, manifest=manifest))

    async def pull_ahead(self, repository: str, manifest: Digest) -> None:
        given_up = threading.Event()
        pull = functools.partial(self._pull, repository=repository, manifest=manifest, given_up=given_up)
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._ahead_threads, self._translated, pull, True)
        finally:
            # The thread sees it at the engine's next word, hangs up, and the engine gives up the pull.
            given_up.set()

    async def create(self, order: ContainerOrder) -> str:
        return await self._work(functools.partial(self._create, order=order))

    async def start(self, runtime_id: str) -> None:
        await self._on_ours(runtime_id, lambda client, _: client.start(runtime_id))

    async def stop(self, runtime_id: str, grace_seconds: int) -> None:
        def stop(client: APIClient, inspected: dict[str, Any]) -> None:
            _unpause(client, inspected)
            client.stop(runtime_id, timeout=grace_seconds)

        await self._on_ours(runtime_id, stop)

    async def restart(self, runtime_id: str, grace_seconds: int) -> None:
        def restart(client: APIClient, inspected: dict[str, Any]) -> None:
            _unpause(client, inspected)
            client.restart(runtime_id, timeout=grace_seconds)

        await self._on_ours(runtime_id, restart)

    async def rename(self, runtime_id: str, name: str) -> None:
        def rename(client: APIClient, inspected: dict[str, Any]) -> None:
            if inspected["Name"] != f"/{name}":
                client.rename(runtime_id, name)

        await self._on_ours(runtime_id, rename)

    async def remove(self, runtime_id: str) -> None:
        await self._work(functools.partial(self._remove, runtime_id=runtime_id))

    async def close(self) -> None:
        for threads in (self._threads, self._ahead_threads):
            threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def _list_containers(self, client: APIClient) -> list[Container]:
        listed = client.containers(all=True, filters={"label": f"{LABEL_HOST}={self._host_id}"})
        found = []
        for entry in listed:
            try:
                found.append(container_of(client.inspect_container(entry["Id"])))
            except NotFound:
                continue  # it went away between the two questions
        return found

    def _pull(
        self, client: APIClient, repository: str, manifest: Digest, given_up: threading.Event | None = None
    ) -> None:
        name = f"{self._mirror()}/{repository}@{manifest}"
        if any(held.endswith(f"@{manifest}") for held in _references(client)):
            return
        # An explicit, empty login: the library would otherwise send what it finds in the user's configuration.
        for event in client.pull(name, stream=True, decode=True, auth_config={}):
            if "error" in event:
                raise _refused("pull", str(event["error"]))
            if given_up is not None and given_up.is_set():
                return
        if not any(held.endswith(f"@{manifest}") for held in _references(client)):
            raise EngineRefused(f"Docker pulled {name} and does not hold it", action="look at the engine's own log")

    def _create(self, client: APIClient, order: ContainerOrder) -> str:
        image = next((held for held in _references(client) if held.endswith(f"@{order.manifest}")), None)
        if image is None:
            raise EngineRefused(f"Docker has no image {order.manifest}", action="pull it first")
        arguments = container_arguments(order, image, labels_of(order, self._host_id))
        host_config = client.create_host_config(**host_arguments(order, self._network_mode))
        try:
            created = client.create_container(**arguments, host_config=host_config)
        except APIError as error:
            if error.status_code == _CONFLICT and (existing := self._same(client, order)):
                return existing
            raise
        return str(created["Id"])

    def _same(self, client: APIClient, order: ContainerOrder) -> str | None:
        """The id of the container that holds the name, if an earlier call made it for this very order."""
        inspected = client.inspect_container(order.name)
        labels = labels_in(inspected)
        found = (labels.get(LABEL_HOST), labels.get(LABEL_INSTANCE), labels.get(LABEL_SPEC))
        return str(inspected["Id"]) if found == (self._host_id, order.instance_id, order.spec_hash) else None

    def _remove(self, client: APIClient, runtime_id: str) -> None:
        try:
            inspected = self._inspect_ours(client, runtime_id)
            _unpause(client, inspected)
            client.remove_container(runtime_id, v=True, force=True)
        except (ContainerUnknown, NotFound):
            return
        except APIError as error:
            if error.status_code != _CONFLICT:  # "removal of container ... is already in progress"
                raise

    def _inspect_ours(self, client: APIClient, runtime_id: str) -> dict[str, Any]:
        try:
            inspected: dict[str, Any] = client.inspect_container(runtime_id)
        except NotFound:
            inspected = {}
        # Docker also takes names and shortened ids; only the whole id is one container for certain.
        if inspected.get("Id") != runtime_id:
            raise ContainerUnknown(f"Docker has no container {runtime_id}", action="look at the engine again")
        if labels_in(inspected).get(LABEL_HOST) != self._host_id:
            raise NotOurs(f"container {inspected['Name']} is not of this host's agent", action="leave it alone")
        return inspected

    async def _on_ours(self, runtime_id: str, act: Callable[[APIClient, dict[str, Any]], object]) -> None:
        await self._work(lambda client: act(client, self._inspect_ours(client, runtime_id)))

    async def _ask(self, question: Callable[[APIClient], T]) -> T:
        return await self._in_thread(question, working=False)

    async def _work(self, work: Callable[[APIClient], T]) -> T:
        return await self._in_thread(work, working=True)

    async def _in_thread(self, call: Callable[[APIClient], T], *, working: bool) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._translated, call, working)

    def _translated(self, call: Callable[[APIClient], T], working: bool) -> T:
        try:
            return call(self._client(working))
        except APIError as error:
            raise _refused("request", str(error.explanation or error)) from error
        except (requests.RequestException, DockerException, OSError) as error:
            self._forget(working)
            raise EngineAway(
                f"Docker does not answer at {self._base_url}: {type(error).__name__}",
                action="start or restart dockerd; it is tried again",
                retry_after_seconds=2,
            ) from error

    def _client(self, working: bool) -> APIClient:
        with self._lock:
            if working not in self._clients:
                # `auto` asks the engine for its version: it may have been upgraded since the last connection.
                self._clients[working] = APIClient(self._base_url, version="auto", timeout=self._seconds[working])
            return self._clients[working]

    def _forget(self, working: bool) -> None:
        with self._lock:
            client = self._clients.pop(working, None)
        if client is not None:
            client.close()


def _references(client: APIClient) -> list[str]:
    """`repository@digest` of every image that the engine holds."""
    return [name for image in client.images() for name in image.get("RepoDigests") or ()]


def _unpause(client: APIClient, inspected: dict[str, Any]) -> None:
    if (inspected.get("State") or {}).get("Paused"):
        client.unpause(inspected["Id"])


def _refused(what: str, explanation: str) -> EngineAway | EngineRefused:
    if _HALF_ALIVE.search(explanation):
        return EngineAway(
            f"Docker is not ready: {explanation[:300]}", action="it is tried again", retry_after_seconds=2
        )
    return EngineRefused(
        f"Docker refused the {what}: {explanation[:1000]}", action="change the instance, or free what it needs"
    )
