"""Between our words and those of LXD's API (5.0 and later): orders become instances, instances become containers; pure.

Facts it is built on (measured, LXD 5.0.2): names are host names (letters, digits, hyphens, at most 63); a config key
with an empty value is dropped; a profile's devices are replaced by name, and a nic is taken away by a device of type
`none`; the directory driver takes a root size and ignores it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from agent.model import Container, ContainerSpec, ContainerState, Health, HealthCheck, PortMapping
from agent.runtimes.failures import EngineCannot
from agent.runtimes.lxd_init import RAW, lines_of, merged
from agent.runtimes.orders import (
    LABEL_ADOPTED,
    LABEL_GENERATION,
    LABEL_INSTANCE,
    LABEL_MOVE,
    LABEL_SPEC,
    Adoption,
    ContainerOrder,
    Sample,
    labels_of,
)

USER = "user."
KEY_NAME = "user.longshore.name"
KEY_GRACE = "user.longshore.grace"
KEY_HEALTH = "user.longshore.health"
# Until LXD says that it has made the instance. One that LXD was killed over has a row and no disk, and 5.0 shows it as
# any other that was never started.
KEY_UNFINISHED = "user.longshore.unfinished"
KEY_UUID = "volatile.uuid"
# Devices that come from a specification.
DEVICE = "longshore-"
_LONGEST_NAME = 63
_NAME = re.compile(r"[a-zA-Z]([a-zA-Z0-9-]*[a-zA-Z0-9])?")
_NEVER_USED = "1970-01-01T00:00:00"
# Of the kernel's scheduler period; LXD hands both on.
_PERIOD_MS = 100
_STATES = {
    "running": ContainerState.RUNNING,
    "starting": ContainerState.RUNNING,
    "stopping": ContainerState.RUNNING,
    "aborting": ContainerState.RUNNING,
    "freezing": ContainerState.PAUSED,
    "frozen": ContainerState.PAUSED,
    "thawed": ContainerState.RUNNING,
}
# Pools whose driver keeps a root's size.
LIMITING_DRIVERS = frozenset({"btrfs", "zfs", "lvm", "ceph", "cephfs", "powerflex"})

Instance = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where instances of this host go. `profile_devices`: of the profile that they get."""

    profile: str
    pool: str
    pool_limits: bool
    profile_devices: Mapping[str, Mapping[str, str]]
    network: str = ""


def instance_name(name: str) -> str:
    """A name that LXD takes: `name` itself if it does, else one that is as unique."""
    if len(name) <= _LONGEST_NAME and _NAME.fullmatch(name):
        return name
    plain = re.sub(r"[^a-zA-Z0-9-]", "-", name).strip("-")
    plain = plain if plain[:1].isalpha() else f"i-{plain}"
    return f"{plain[: _LONGEST_NAME - 11].rstrip('-')}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"


def require_possible(spec: ContainerSpec, place: Place) -> None:
    """Raises `EngineCannot` for what LXD, or the pool, has no room for."""
    if spec.network == "host":
        raise EngineCannot("LXD does not give instances the host's network", action="use a bridge and publish ports")
    if spec.disk_bytes and not place.pool_limits:
        raise EngineCannot(
            f"the storage pool {place.pool} does not limit the size of an instance's disk",
            action="use a pool of btrfs, zfs or lvm, or leave the limit out",
        )


def instance_body(
    order: ContainerOrder,
    host_id: str,
    fingerprint: str,
    place: Place,
    free_port: Callable[[PortMapping], int],
    inherited: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """For POST /1.0/instances. `inherited`: config and devices of a predecessor; what `order` names goes first. Raises
    `EngineCannot`.
    """
    devices = _devices(order.spec, place, free_port)
    taken = {one.get("path") or one.get("listen") for one in devices.values()} - {None}
    kept = {
        name: one
        for name, one in inherited.get("devices", {}).items()
        if not taken & {one.get("path"), one.get("listen")}
    }
    config = {**inherited.get("config", {}), **_config(order, host_id), KEY_UNFINISHED: "true"}
    if raw := merged(str(config.get(RAW, "")), lines_of(order.spec)):
        config[RAW] = raw
    return {
        "name": instance_name(order.name),
        "type": "container",
        "source": {"type": "image", "fingerprint": fingerprint},
        "profiles": [place.profile],
        "config": config,
        "devices": {**kept, **devices},
    }


def _config(order: ContainerOrder, host_id: str) -> dict[str, str]:
    spec = order.spec
    config = {
        **{f"{USER}{key}": value for key, value in labels_of(order, host_id).items()},
        **{f"environment.{key}": value for key, value in spec.environment.items() if value},
        KEY_NAME: order.name,
        KEY_GRACE: str(spec.stop_grace_seconds),
    }
    if spec.cpus:
        config["limits.cpu.allowance"] = f"{max(1, round(spec.cpus * _PERIOD_MS))}ms/{_PERIOD_MS}ms"
    if spec.cpu_set:
        # LXD reads a lone number as "so many cores"; a range of one core names it.
        config["limits.cpu"] = f"{spec.cpu_set}-{spec.cpu_set}" if spec.cpu_set.isdecimal() else spec.cpu_set
    if spec.memory_bytes:
        config["limits.memory"] = f"{spec.memory_bytes}B"
    if spec.privileged:
        config["security.privileged"] = "true"
    if spec.health_check is not None:
        config[KEY_HEALTH] = json.dumps(asdict(spec.health_check), sort_keys=True)
    return config


def _devices(spec: ContainerSpec, place: Place, free_port: Callable[[PortMapping], int]) -> dict[str, dict[str, str]]:
    devices = _nics(spec.network or place.network, place)
    has_root = any(one.get("type") == "disk" and one.get("path") == "/" for one in place.profile_devices.values())
    if spec.disk_bytes or not has_root:
        root = next((name for name, one in place.profile_devices.items() if one.get("path") == "/"), "root")
        devices[root] = {"type": "disk", "path": "/", "pool": place.pool}
        if spec.disk_bytes:
            devices[root]["size"] = f"{spec.disk_bytes}B"
    for number, port in enumerate(spec.ports):
        address = _bracketed(port.host_ip or "127.0.0.1")
        protocol = port.protocol or "tcp"
        devices[f"{DEVICE}port-{number}"] = {
            "type": "proxy",
            "listen": f"{protocol}:{address}:{port.host_port or free_port(port)}",
            "connect": f"{protocol}:127.0.0.1:{port.container_port}",
        }
    for number, mount in enumerate(spec.mounts):
        source = {"source": mount.host_path} if mount.host_path else {"source": mount.volume, "pool": place.pool}
        only = {"readonly": "true"} if mount.read_only else {}
        devices[f"{DEVICE}mount-{number}"] = {"type": "disk", "path": mount.target, **source, **only}
    return devices


def _nics(network: str, place: Place) -> dict[str, dict[str, str]]:
    if network in ("", "bridge"):
        return {}  # the profile's
    nics = {name: {"type": "none"} for name, one in place.profile_devices.items() if one.get("type") == "nic"}
    if network != "none":
        nics["eth0"] = {"type": "nic", "network": network, "name": "eth0"}
    return nics


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def labels_in(instance: Instance) -> dict[str, str]:
    return {
        key.removeprefix(USER): str(value)
        for key, value in (instance.get("config") or {}).items()
        if key.startswith(USER)
    }


def id_of(instance: Instance) -> str:
    return str((instance.get("config") or {}).get(KEY_UUID, ""))


def state_in(instance: Instance) -> ContainerState:
    status = str(instance.get("status", "")).lower()
    if status == "stopped":
        never = str(instance.get("last_used_at", "")).startswith(_NEVER_USED)
        return ContainerState.CREATED if never else ContainerState.EXITED
    # "Error": LXD could not find out. It is taken for running: what nobody knows, nobody starts, removes or replaces.
    return _STATES.get(status, ContainerState.RUNNING)


def container_of(instance: Instance, adoption: Adoption | None = None, health: Health = Health.NONE) -> Container:
    labels, config = labels_in(instance), instance.get("config") or {}
    generation = labels.get(LABEL_GENERATION, "0")
    state = state_in(instance)
    odd = str(instance.get("status", "")).lower() == "error"
    return Container(
        runtime_id=id_of(instance),
        name=_shown_name(instance),
        instance_id=adoption.instance_id if adoption else labels.get(LABEL_INSTANCE, ""),
        generation=adoption.generation if adoption else int(generation) if generation.isdecimal() else 0,
        spec_hash=adoption.spec_hash if adoption else labels.get(LABEL_SPEC, ""),
        state=state,
        health=Health.UNHEALTHY if odd else health,
        detail="LXD does not know what state it is in; look at its log" if odd else "",
        stop_grace_seconds=_number(config.get(KEY_GRACE), 10),
        adopted=adoption is not None or LABEL_ADOPTED in labels,
        move=labels.get(LABEL_MOVE, ""),
        unfinished=KEY_UNFINISHED in config and state is ContainerState.CREATED,
    )


def _shown_name(instance: Instance) -> str:
    """The name that was ordered, as long as LXD's is the one made of it (others may have renamed it, or restored a
    snapshot from before it was renamed).
    """
    ordered = str((instance.get("config") or {}).get(KEY_NAME, ""))
    return ordered if ordered and instance_name(ordered) == instance["name"] else str(instance["name"])


def health_check_in(instance: Instance) -> HealthCheck | None:
    text = (instance.get("config") or {}).get(KEY_HEALTH)
    if not text:
        return None
    try:
        fields = json.loads(text)
        return HealthCheck(**{**fields, "test": tuple(fields["test"])})
    except (ValueError, TypeError, KeyError):
        return None  # somebody else wrote it


def sample_of(instance: Instance, state: Mapping[str, Any]) -> Sample:
    """`state`: GET /1.0/instances/<name>/state."""
    if state_in(instance) not in (ContainerState.RUNNING, ContainerState.PAUSED):
        return Sample()
    counters = [one.get("counters") or {} for name, one in (state.get("network") or {}).items() if name != "lo"]
    memory = state.get("memory") or {}
    return Sample(
        cpu_seconds=max(0, (state.get("cpu") or {}).get("usage", 0)) / 1e9,
        memory_bytes=max(0, memory.get("usage", 0)),
        memory_limit_bytes=bytes_in(str((instance.get("expanded_config") or {}).get("limits.memory", ""))),
        received_bytes=sum(one.get("bytes_received", 0) for one in counters),
        sent_bytes=sum(one.get("bytes_sent", 0) for one in counters),
        processes=max(0, state.get("processes", 0)),
    )


_UNITS = {"": 1, "B": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4}
_UNITS |= {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def bytes_in(text: str) -> int:
    """LXD's words for sizes ("Units" of its documentation); 0 for none, and for a share of the machine's memory."""
    found = re.fullmatch(r"(\d+)\s*([A-Za-z]*)", text)
    return int(found[1]) * _UNITS.get(found[2], 0) if found else 0


def _number(text: Any, otherwise: int) -> int:
    return int(text) if isinstance(text, str) and text.isdecimal() else otherwise
