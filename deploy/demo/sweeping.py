"""After the demo: no container and no image of it stays in the computer's Docker engine.

Invariant: only what carries the host id of one of the demo's agents, and only image names that lead to one of their
mirrors, is removed. The services must have ended, or they would make it again. It needs no control plane, so it also
sweeps after a demo that failed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import docker
from docker.errors import DockerException

_LABEL_HOST = "longshore.host"
_SECONDS = 30


def sweep(docker_host: str, agents: Sequence[Mapping[str, Any]]) -> None:
    """`agents`: what each said of itself when it was ready. An engine that does not answer cannot be swept now."""
    if not agents:
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(DockerException, OSError))
        client = stack.enter_context(contextlib.closing(docker.DockerClient(base_url=docker_host, timeout=_SECONDS)))
        for agent in agents:
            _remove_containers(client, str(agent["host_id"]))
        _remove_images(client, tuple(f"127.0.0.1:{agent['mirror']}/" for agent in agents))


def _remove_containers(client: docker.DockerClient, host_id: str) -> None:
    for container in client.containers.list(all=True, filters={"label": f"{_LABEL_HOST}={host_id}"}):
        with contextlib.suppress(DockerException):
            container.remove(force=True, v=True)


def _remove_images(client: docker.DockerClient, mirrors: tuple[str, ...]) -> None:
    """By name: an image that has other names too keeps those, and its layers."""
    names = [name for image in client.images.list() for name in image.attrs.get("RepoDigests") or ()]
    for name in names:
        if name.startswith(mirrors):
            with contextlib.suppress(DockerException):
                client.images.remove(name)
