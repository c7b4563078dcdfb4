"""What a driver does to Docker's containers and images, in the words of Docker's own library; blocking, so that it runs
in the threads of docker_calls.py.

Invariant: nothing is changed but containers that carry our labels with this host's id, and those that were claimed;
that is asked anew before every change.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any

from docker import APIClient
from docker.errors import APIError, ImageNotFound, NotFound
from docker.utils import version_gte

from agent.model import Container
from agent.runtimes.docker_adoption import stranger_of
from agent.runtimes.docker_calls import refused
from agent.runtimes.docker_shapes import container_arguments, container_of, host_arguments, labels_in, state_of
from agent.runtimes.docker_succession import succession
from agent.runtimes.failures import ContainerUnknown, EngineRefused, NotOurs
from agent.runtimes.orders import (
    LABEL_ADOPT,
    LABEL_HOST,
    LABEL_INSTANCE,
    LABEL_SPEC,
    Adoption,
    ContainerOrder,
    Stranger,
    labels_of,
)
from common.digest import Digest

_CONFLICT = 409
# Below this version of the API a container is created with one network at most (moby 29265).
_ALL_NETWORKS_AT_ONCE = "1.44"


class DockerObjects:
    """`network_mode`: of containers whose specification names none; empty: Docker's default bridge."""

    def __init__(self, host_id: str, mirror: Callable[[], str], network_mode: str) -> None:
        self._host_id = host_id
        self._mirror = mirror
        self._network_mode = network_mode
        self.claims: Mapping[str, Adoption] = {}

    def list_ours(self, client: APIClient) -> list[Container]:
        listed = client.containers(all=True, filters={"label": f"{LABEL_HOST}={self._host_id}"})
        found = []
        for runtime_id in [*(entry["Id"] for entry in listed), *self.claims]:
            try:
                found.append(container_of(*self._known(client.inspect_container(runtime_id))))
            except (NotFound, NotOurs):
                continue  # it went away between the two questions, or was somebody else's all the time
        return found

    def pull(
        self, client: APIClient, repository: str, manifest: Digest, given_up: threading.Event | None = None
    ) -> None:
        name = f"{self._mirror()}/{repository}@{manifest}"
        if any(held.endswith(f"@{manifest}") for held in references(client)):
            return
        # An explicit, empty login: the library would otherwise send what it finds in the user's configuration.
        for event in client.pull(name, stream=True, decode=True, auth_config={}):
            if "error" in event:
                raise refused("pull", str(event["error"]))
            if given_up is not None and given_up.is_set():
                return
        if not any(held.endswith(f"@{manifest}") for held in references(client)):
            raise EngineRefused(f"Docker pulled {name} and does not hold it", action="look at the engine's own log")

    def create(self, client: APIClient, order: ContainerOrder) -> str:
        image = next((held for held in references(client) if held.endswith(f"@{order.manifest}")), None)
        if image is None:
            raise EngineRefused(f"Docker has no image {order.manifest}", action="pull it first")
        before = self.inspect_ours(client, order.successor_of) if order.successor_of else None
        arguments = container_arguments(order, image, labels_of(order, self._host_id))
        arguments["host_config"] = client.create_host_config(**host_arguments(order, self._network_mode))
        document = dict(client.create_container_config(**{"command": None, **arguments}))
        further: dict[str, Any] = {}
        if before is not None:
            document, further = succession(document, order.spec, before, _image_of(client, before))
            if version_gte(client.api_version, _ALL_NETWORKS_AT_ONCE):
                document.setdefault("NetworkingConfig", {}).setdefault("EndpointsConfig", {}).update(further)
                further = {}
        try:
            created = client.create_container_from_config(document, order.name)  # type: ignore[no-untyped-call]
        except APIError as error:
            if error.status_code == _CONFLICT and (existing := self._same(client, order)):
                return existing
            raise
        self._connect(client, str(created["Id"]), further)
        return str(created["Id"])

    def remove(self, client: APIClient, runtime_id: str) -> None:
        try:
            inspected = self.inspect_ours(client, runtime_id)
            unpause(client, inspected)
            client.remove_container(runtime_id, v=runtime_id not in self.claims, force=True)
        except (ContainerUnknown, NotFound):
            return
        except APIError as error:
            if error.status_code != _CONFLICT:  # "removal of container ... is already in progress"
                raise

    def inspect_ours(self, client: APIClient, runtime_id: str) -> dict[str, Any]:
        """Raises `ContainerUnknown`, `NotOurs`."""
        try:
            inspected: dict[str, Any] = client.inspect_container(runtime_id)
        except NotFound:
            inspected = {}
        # Docker also takes names and shortened ids; only the whole id is one container for certain.
        if inspected.get("Id") != runtime_id:
            raise ContainerUnknown(f"Docker has no container {runtime_id}", action="look at the engine again")
        self._known(inspected)
        return inspected

    def strangers(self, client: APIClient, named: Collection[str]) -> list[Stranger]:
        """Without those of any agent, this one's included, and without those that are claimed."""
        listed = client.containers(all=True, filters={"label": LABEL_ADOPT})
        found: dict[str, Stranger] = {}
        for reference in [*(entry["Id"] for entry in listed), *named]:
            try:
                inspected = client.inspect_container(reference)
            except NotFound:
                continue
            if LABEL_HOST not in labels_in(inspected) and inspected["Id"] not in self.claims:
                image = _image_of(client, inspected)
                stranger = stranger_of(inspected, image, self._network_mode, state_of(inspected))
                found[stranger.runtime_id] = stranger
        return list(found.values())

    def _known(self, inspected: dict[str, Any]) -> tuple[dict[str, Any], Adoption | None]:
        """Itself, and how it was adopted if it was. Raises `NotOurs`."""
        owner = labels_in(inspected).get(LABEL_HOST)
        adoption = self.claims.get(inspected["Id"]) if owner is None else None
        if owner != self._host_id and adoption is None:
            raise NotOurs(f"container {inspected['Name']} is not of this host's agent", action="leave it alone")
        return inspected, adoption

    def _same(self, client: APIClient, order: ContainerOrder) -> str | None:
        """The id of the container that holds the name, if an earlier call made it for this very order."""
        inspected = client.inspect_container(order.name)
        labels = labels_in(inspected)
        found = (labels.get(LABEL_HOST), labels.get(LABEL_INSTANCE), labels.get(LABEL_SPEC))
        return str(inspected["Id"]) if found == (self._host_id, order.instance_id, order.spec_hash) else None

    @staticmethod
    def _connect(client: APIClient, runtime_id: str, networks: Mapping[str, Any]) -> None:
        """All or nothing: a container that misses a network would never be found wanting."""
        try:
            for name, endpoint in networks.items():
                addresses = endpoint.get("IPAMConfig") or {}
                client.connect_container_to_network(
                    runtime_id,
                    name,
                    aliases=endpoint.get("Aliases"),
                    links=endpoint.get("Links"),
                    ipv4_address=addresses.get("IPv4Address"),
                    ipv6_address=addresses.get("IPv6Address"),
                    link_local_ips=addresses.get("LinkLocalIPs"),
                    driver_opt=endpoint.get("DriverOpts"),
                )
        except BaseException:
            client.remove_container(runtime_id, force=True)
            raise


def references(client: APIClient) -> list[str]:
    """`repository@digest` of every image that the engine holds."""
    return [name for image in client.images() for name in image.get("RepoDigests") or ()]


def unpause(client: APIClient, inspected: Mapping[str, Any]) -> None:
    if (inspected.get("State") or {}).get("Paused"):
        client.unpause(inspected["Id"])


def _image_of(client: APIClient, inspected: Mapping[str, Any]) -> dict[str, Any]:
    try:
        found: dict[str, Any] = client.inspect_image(inspected["Image"])  # type: ignore[no-untyped-call]
    except ImageNotFound:
        return {}
    return found
