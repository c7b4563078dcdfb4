"""A container made anew after another: our own order, laid over what its predecessor had and the order leaves open;
pure. See docker_adoption.py for the rule, fleet facts ("Recreate") for its parts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from agent.model import ContainerSpec
from agent.runtimes.docker_adoption import Document, chosen, taken_over_before
from agent.runtimes.orders import LABEL_ADOPTED, LABEL_PREFIX

Inherits = Callable[[str, str], bool]
"""(kind, name) -> whether it is to be taken over; what is, is noted."""

_SHORT_ID = 12
_MODES_WITHOUT_ALIASES = ("default", "bridge", "host", "none")
# Config and HostConfig keys, and whether a specification names them.
_CONFIG_FIELDS = {
    "Cmd": "command", "Entrypoint": "entrypoint", "Healthcheck": "health_check", "Hostname": "hostname",
    "User": "user", "WorkingDir": "working_dir",
}  # fmt: skip
_HOST_FIELDS = {
    "NanoCpus": "cpus", "CpuQuota": "cpus", "CpuPeriod": "cpus", "CpusetCpus": "cpu_set", "Memory": "memory_bytes",
    "MemorySwap": "memory_bytes", "NetworkMode": "network", "PortBindings": "ports", "Privileged": "privileged",
    "StorageOpt": "disk_bytes",
}  # fmt: skip
# Settings of mounts are merged one by one.
_MERGED = {"Binds", "Mounts", "VolumesFrom"}


def succession(
    made: Document, spec: ContainerSpec, before: Document, image: Document
) -> tuple[dict[str, Any], dict[str, Document]]:
    """(the document of `containers/create`, endpoints of further networks to connect it to before its start).

    made: that document as our order alone makes it. before: inspection of the predecessor; image: of its image.
    """
    earlier = taken_over_before(before)
    old = chosen(before.get("Config") or {}, image)
    config = {key: value for key, value in made.items() if key != "HostConfig"}
    host = dict(made.get("HostConfig") or {})
    note: dict[str, list[str]] = {}

    def inherits(kind: str, name: str) -> bool:
        if earlier is not None and name not in earlier.get(kind, ()):
            return False
        note.setdefault(kind, []).append(name)
        return True

    _take_config(config, old, spec, before, inherits)
    _take_host(host, before.get("HostConfig") or {}, spec, inherits)
    _take_mounts(host, before, spec, inherits)
    endpoints = _endpoints(before) if not spec.network and inherits("parts", "networks") else {}
    first = _first_network(host)
    if first in endpoints:
        config["NetworkingConfig"] = {"EndpointsConfig": {first: endpoints.pop(first)}}
    labels = dict(config.get("Labels") or {})
    labels[LABEL_ADOPTED] = json.dumps({key: sorted(names) for key, names in note.items()}, sort_keys=True)
    return {**config, "Labels": labels, "HostConfig": host}, endpoints


def _take_config(
    config: dict[str, Any], old: Document, spec: ContainerSpec, before: Document, inherits: Inherits
) -> None:
    for key, value in old.items():
        if key in ("Env", "Labels", "ExposedPorts", "Volumes", "StopTimeout"):
            continue
        field = _CONFIG_FIELDS.get(key)
        if field is not None and getattr(spec, field):
            continue
        if key == "Hostname" and (value == before["Id"][:_SHORT_ID] or _shares_network(before)):
            continue
        if value and inherits("config", key):
            config[key] = value
    named = set(spec.environment)
    kept = [item for item in old["Env"] if item.partition("=")[0] not in named]
    inherited = [item for item in kept if inherits("environment", item.partition("=")[0])]
    config["Env"] = [*(config.get("Env") or ()), *inherited]
    labels = dict(config.get("Labels") or {})
    for key, value in old["Labels"].items():
        # Among them `com.docker.compose.*`: without its hash of the configuration compose sees an orphan.
        if not key.startswith(LABEL_PREFIX) and key not in labels and inherits("labels", key):
            labels[key] = value
    config["Labels"] = labels


def _shares_network(before: Document) -> bool:
    mode = str((before.get("HostConfig") or {}).get("NetworkMode") or "")
    return mode == "host" or mode.startswith("container:")


def _take_host(host: dict[str, Any], old: Document, spec: ContainerSpec, inherits: Inherits) -> None:
    for key, value in old.items():
        # A container that removes itself when it stops cannot be kept by anybody.
        if key in _MERGED or key in ("AutoRemove", "ContainerIDFile", "ConsoleSize"):
            continue
        field = _HOST_FIELDS.get(key)
        if field is not None and getattr(spec, field):
            continue
        if value not in (None, "", [], {}, 0, False) and inherits("host", key):
            host[key] = value


def _take_mounts(host: dict[str, Any], before: Document, spec: ContainerSpec, inherits: Inherits) -> None:
    taken = {mount.target.rstrip("/") for mount in spec.mounts}
    mounts = list(host.get("Mounts") or ())
    for one in before.get("Mounts") or ():
        target = str(one["Destination"])
        kind = one.get("Type")
        if target.rstrip("/") in taken or kind not in ("bind", "volume") or not inherits("mounts", target):
            continue
        # Volumes without a name go by the one that the engine gave them: else their data would stay behind.
        source = one["Name"] if kind == "volume" else one["Source"]
        mount = {"Target": target, "Source": source, "Type": kind, "ReadOnly": not one.get("RW", True)}
        if kind == "bind" and one.get("Propagation"):
            mount["BindOptions"] = {"Propagation": one["Propagation"]}
        mounts.append(mount)
    host["Mounts"] = mounts


def _first_network(host: Document) -> str:
    mode = str(host.get("NetworkMode") or "default")
    return "bridge" if mode == "default" else mode


def _endpoints(before: Document) -> dict[str, Document]:
    """By network, what a person chose of each: never an address that was only observed (moby 47441)."""
    if _shares_network(before):
        return {}
    found: dict[str, Document] = {}
    for name, one in ((before.get("NetworkSettings") or {}).get("Networks") or {}).items():
        endpoint: dict[str, Any] = {
            key: one[key] for key in ("IPAMConfig", "Links", "DriverOpts", "GwPriority") if one.get(key)
        }
        aliases = [alias for alias in one.get("Aliases") or () if alias != before["Id"][:_SHORT_ID]]
        if aliases and name not in _MODES_WITHOUT_ALIASES:
            endpoint["Aliases"] = aliases
        found[name] = endpoint
    return found
