"""Between our words and those of Docker's API (v1.41): orders become create arguments, inspections become containers;
pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from docker.types import Healthcheck
from docker.types import Mount as DockerMount

from agent.model import Container, ContainerState, Health
from agent.runtimes.orders import (
    LABEL_ADOPTED,
    LABEL_GENERATION,
    LABEL_INSTANCE,
    LABEL_SPEC,
    Adoption,
    ContainerOrder,
    Sample,
)

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
    """For `APIClient.create_container_config`, without `host_config`."""
    spec = order.spec
    arguments: dict[str, Any] = {
        "image": image,
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
    named = {"hostname": spec.hostname, "user": spec.user, "working_dir": spec.working_dir}
    arguments.update({key: value for key, value in named.items() if value})
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
    """For `APIClient.create_host_config`. Ports are on loopback unless the order says otherwise."""
    spec = order.spec
    bindings: dict[str, list[tuple[str, int] | tuple[str]]] = {}
    for port in spec.ports:
        address = port.host_ip or "127.0.0.1"
        where = (address, port.host_port) if port.host_port else (address,)
        bindings.setdefault(f"{port.container_port}/{port.protocol or 'tcp'}", []).append(where)
    arguments: dict[str, Any] = {
        "port_bindings": bindings,
        "mounts": [
            DockerMount(
                target=mount.target,
                source=mount.host_path or mount.volume,
                type="bind" if mount.host_path else "volume",
                read_only=mount.read_only,
            )
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
    if spec.cpu_set:
        arguments["cpuset_cpus"] = spec.cpu_set
    if spec.disk_bytes:
        # Only some storage drivers can; the others refuse it in clear words.
        arguments["storage_opt"] = {"size": str(spec.disk_bytes)}
    if spec.privileged:
        arguments["privileged"] = True
    if spec.network or network_mode:
        arguments["network_mode"] = spec.network or network_mode
    return arguments


def container_of(inspected: Mapping[str, Any], adoption: Adoption | None = None) -> Container:
    """`adoption`: what we know of it beside labels, if it was adopted."""
    state = inspected.get("State") or {}
    labels = labels_in(inspected)
    health = state.get("Health") or {}
    generation = labels.get(LABEL_GENERATION, "0")
    return Container(
        runtime_id=inspected["Id"],
        name=str(inspected.get("Name", "")).removeprefix("/"),
        instance_id=adoption.instance_id if adoption else labels.get(LABEL_INSTANCE, ""),
        generation=adoption.generation if adoption else int(generation) if generation.isdecimal() else 0,
        spec_hash=adoption.spec_hash if adoption else labels.get(LABEL_SPEC, ""),
        state=state_of(inspected),
        health=_HEALTH.get(health.get("Status", "none"), Health.UNKNOWN),
        exit_code=int(state.get("ExitCode") or 0),
        restart_count=int(inspected.get("RestartCount") or 0),
        detail=_detail(state, health),
        stop_grace_seconds=_stop_grace(inspected),
        adopted=adoption is not None or LABEL_ADOPTED in labels,
    )


def sample_of(stats: Mapping[str, Any], memory_limit_bytes: int) -> Sample:
    """Memory without what the kernel would give back at once, as `docker stats` counts it: the name of that figure is
    one in the first and another in the second version of control groups.
    """
    memory = stats.get("memory_stats") or {}
    details = memory.get("stats") or {}
    reclaimable = int(details.get("total_inactive_file", details.get("inactive_file", 0)) or 0)
    used = int(memory.get("usage") or 0)
    networks = (stats.get("networks") or {}).values()
    blocks = (stats.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ()
    cpu = ((stats.get("cpu_stats") or {}).get("cpu_usage") or {}).get("total_usage") or 0
    return Sample(
        cpu_seconds=int(cpu) / _NANOSECONDS,
        memory_bytes=max(0, used - reclaimable),
        memory_limit_bytes=memory_limit_bytes,
        received_bytes=sum(int(one.get("rx_bytes") or 0) for one in networks),
        sent_bytes=sum(int(one.get("tx_bytes") or 0) for one in networks),
        read_bytes=sum(int(one["value"]) for one in blocks if one["op"].lower() == "read"),
        written_bytes=sum(int(one["value"]) for one in blocks if one["op"].lower() == "write"),
        processes=int((stats.get("pids_stats") or {}).get("current") or 0),
    )


def state_of(inspected: Mapping[str, Any]) -> ContainerState:
    return _STATES.get((inspected.get("State") or {}).get("Status", ""), ContainerState.DEAD)


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
