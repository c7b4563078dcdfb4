"""Between our words and those of Docker's API (v1.41): orders become create arguments, inspections become containers;
pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from docker.types import Healthcheck
from docker.types import Mount as DockerMount

from agent.model import Container, ContainerState, Health
from agent.runtimes import LABEL_GENERATION, LABEL_INSTANCE, LABEL_SPEC, ContainerOrder

_STATES = {
    "created": ContainerState.CREATED,
    "running": ContainerState.RUNNING,
    "restarting": ContainerState.RESTARTING,
    "paused": ContainerState.PAUSED,
    "exited": ContainerState.EXITED,
    "removing": ContainerState.DEAD,
    "dead": ContainerState.DEAD,
}
_HEALTH = {
    "none": Health.NONE,
    "starting": Health.STARTING,
    "healthy": Health.HEALTHY,
    "unhealthy": Health.UNHEALTHY,
}
_NANOSECONDS = 1_000_000_000
_LONGEST_DETAIL = 300


def container_arguments(order: ContainerOrder, image: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """For `APIClient.create_container`, without `host_config`."""
    spec = order.spec
    arguments: dict[str, Any] = {
        "image": image,
        "name": order.name,
        "environment": [f"{key}={value}" for key, value in sorted(spec.environment.items())],
        "labels": dict(labels),
        "ports": [(port.container_port, port.protocol or "tcp") for port in spec.ports],
        "stop_timeout": spec.stop_grace_seconds,
        "detach": True,
    }
    if spec.command:
        arguments["command"] = list(spec.command)
    if spec.entrypoint:
        arguments["entrypoint"] = list(spec.entrypoint)
    if spec.health_check is not None:
        check = spec.health_check
        arguments["healthcheck"] = Healthcheck(
            test=["CMD", *check.test],
            interval=int(check.interval_seconds * _NANOSECONDS),
            timeout=int(check.timeout_seconds * _NANOSECONDS),
            retries=check.retries,
            start_period=int(check.start_period_seconds * _NANOSECONDS),
        )
    return arguments


def host_arguments(order: ContainerOrder, network_mode: str) -> dict[str, Any]:
    """For `APIClient.create_host_config`. Never privileged; ports are on loopback unless the order says otherwise."""
    spec = order.spec
    bindings: dict[str, list[tuple[str, int] | tuple[str]]] = {}
    for port in spec.ports:
        address = port.host_ip or "127.0.0.1"
        where = (address, port.host_port) if port.host_port else (address,)
        bindings.setdefault(f"{port.container_port}/{port.protocol or 'tcp'}", []).append(where)
    arguments: dict[str, Any] = {
        "port_bindings": bindings,
        "mounts": [
            DockerMount(target=mount.target, source=mount.volume, type="volume", read_only=mount.read_only)
            for mount in spec.mounts
        ],
        # The engine keeps it running while the agent is away; what the policy forgets (after kill -9 of dockerd) the
        # reconciler starts.
        "restart_policy": {"Name": "unless-stopped"},
    }
    if spec.cpus:
        arguments["nano_cpus"] = int(spec.cpus * _NANOSECONDS)
    if spec.memory_bytes:
        arguments["mem_limit"] = spec.memory_bytes
    if network_mode:
        arguments["network_mode"] = network_mode
    return arguments


def container_of(inspected: Mapping[str, Any]) -> Container:
    state = inspected.get("State") or {}
    labels = labels_in(inspected)
    health = state.get("Health") or {}
    generation = labels.get(LABEL_GENERATION, "0")
    return Container(
        runtime_id=inspected["Id"],
        name=str(inspected.get("Name", "")).removeprefix("/"),
        instance_id=labels.get(LABEL_INSTANCE, ""),
        generation=int(generation) if generation.isdecimal() else 0,
        spec_hash=labels.get(LABEL_SPEC, ""),
        state=_STATES.get(state.get("Status", ""), ContainerState.DEAD),
        health=_HEALTH.get(health.get("Status", "none"), Health.UNKNOWN),
        exit_code=int(state.get("ExitCode") or 0),
        restart_count=int(inspected.get("RestartCount") or 0),
        detail=_detail(state, health),
        stop_grace_seconds=_stop_grace(inspected),
    )


def _stop_grace(inspected: Mapping[str, Any]) -> int:
    seconds = (inspected.get("Config") or {}).get("StopTimeout")
    return 10 if seconds is None else int(seconds)


def labels_in(inspected: Mapping[str, Any]) -> dict[str, str]:
    return dict((inspected.get("Config") or {}).get("Labels") or {})


def _detail(state: Mapping[str, Any], health: Mapping[str, Any]) -> str:
    if state.get("OOMKilled"):
        return "it used more memory than it may"
    if state.get("Error"):
        return str(state["Error"])[:_LONGEST_DETAIL]
    if health.get("Status") == "unhealthy" and health.get("Log"):
        return str(health["Log"][-1].get("Output", "")).strip()[:_LONGEST_DETAIL]
    return ""
