"""LXD instances that others made, in our words: what a specification can say of them, and what it cannot; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from agent.model import ContainerSpec, Mount, PortMapping
from agent.runtimes.lxd_init import RAW, beyond, command_in
from agent.runtimes.lxd_shapes import DEVICE, USER, Instance, bytes_in, id_of, labels_in, state_in
from agent.runtimes.orders import LABEL_PREFIX, Stranger
from common.digest import Digest

_ENVIRONMENT = "environment."
_ALLOWANCE = re.compile(r"(\d+)ms/(\d+)ms")
_SAID = frozenset({"limits.cpu", "limits.cpu.allowance", "limits.memory", "security.privileged"})
# LXD's own notes, and what came with the image.
_NOTES = ("volatile.", "image.")
_LISTEN = re.compile(r"(tcp|udp):(?:\[([0-9a-f:]+)\]|([0-9.]+)):(\d+)")
_CONNECT = re.compile(r"(tcp|udp):127\.0\.0\.1:(\d+)")


def stranger_of(instance: Instance, manifests: frozenset[Digest]) -> Stranger:
    return Stranger(
        runtime_id=id_of(instance),
        name=str(instance["name"]),
        state=state_in(instance),
        manifests=manifests,
        spec=_spec_of(instance),
        labels=labels_in(instance),
        beyond=tuple(sorted([*_config_beyond(instance), *(f"device {name}" for name in _devices_beyond(instance))])),
    )


def inherited_from(instance: Instance) -> dict[str, dict[str, Any]]:
    """Config and devices of its own, for a successor: without LXD's notes, our labels and what an order gave."""
    config, devices = instance.get("config") or {}, instance.get("devices") or {}
    dropped = (*_NOTES, f"{USER}{LABEL_PREFIX}")
    return {
        "config": {key: value for key, value in config.items() if not key.startswith(dropped)},
        "devices": {name: device for name, device in devices.items() if not name.startswith(DEVICE)},
    }


def _spec_of(instance: Instance) -> ContainerSpec:
    config = instance.get("config") or {}
    devices = dict(sorted((instance.get("devices") or {}).items()))
    allowance = _ALLOWANCE.fullmatch(str(config.get("limits.cpu.allowance", "")))
    cores = str(config.get("limits.cpu", ""))
    labels = {key: value for key, value in labels_in(instance).items() if not key.startswith(LABEL_PREFIX)}
    return ContainerSpec(
        command=command_in(str(config.get(RAW, ""))),
        environment={
            key.removeprefix(_ENVIRONMENT): str(value) for key, value in config.items() if key.startswith(_ENVIRONMENT)
        },
        labels=labels,
        ports=tuple(port for one in devices.values() if (port := _port_of(one)) is not None),
        mounts=tuple(mount for one in devices.values() if (mount := _mount_of(one)) is not None),
        cpus=int(allowance[1]) / int(allowance[2]) if allowance else float(cores) if cores.isdecimal() else 0.0,
        cpu_set="" if cores.isdecimal() else cores,
        memory_bytes=bytes_in(str(config.get("limits.memory", ""))),
        privileged=config.get("security.privileged") == "true",
    )


def _port_of(device: Mapping[str, str]) -> PortMapping | None:
    if device.get("type") != "proxy" or set(device) - {"type", "listen", "connect", "bind"}:
        return None
    listen, connect = _LISTEN.fullmatch(device.get("listen", "")), _CONNECT.fullmatch(device.get("connect", ""))
    if listen is None or connect is None or listen[1] != connect[1]:
        return None
    return PortMapping(listen[2] or listen[3], int(listen[4]), int(connect[2]), listen[1])


def _mount_of(device: Mapping[str, str]) -> Mount | None:
    if device.get("type") != "disk" or device.get("path") == "/" or set(device) - _MOUNT_KEYS:
        return None
    read_only, target = device.get("readonly") == "true", device.get("path", "")
    if "pool" in device:
        return Mount(device.get("source", ""), target, read_only)
    return Mount("", target, read_only, host_path=device.get("source", ""))


_MOUNT_KEYS = frozenset({"type", "pool", "source", "path", "readonly"})


def _config_beyond(instance: Instance) -> dict[str, str]:
    found = {
        key: str(value)
        for key, value in (instance.get("config") or {}).items()
        if key not in _SAID and not key.startswith((USER, _ENVIRONMENT, *_NOTES))
    }
    if not beyond(found.get(RAW, "")):
        found.pop(RAW, None)
    return found


def _devices_beyond(instance: Instance) -> dict[str, Mapping[str, str]]:
    return {
        name: device
        for name, device in (instance.get("devices") or {}).items()
        if _port_of(device) is None and _mount_of(device) is None
    }
