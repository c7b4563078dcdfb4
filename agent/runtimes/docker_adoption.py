"""A container that somebody else made, in our words and in Docker's; pure.

Two directions. `stranger_of` says what a person chose for it: its settings less those of its image, which a container
made anew would have from its image again. `succession` makes a container anew after it: what our specification leaves
open is taken over (further networks with their addresses, aliases and drivers' options, devices, capabilities, restart
policy, volumes that have no name), what it names wins (fleet facts, "Recreate: what must be preserved").

`LABEL_ADOPTED` of a successor names what it took over, so that its own successors take over that and no more: what a
specification of ours once named and names no longer does go.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from agent.model import ContainerSpec, ContainerState, HealthCheck, Mount, PortMapping
from agent.runtimes.orders import LABEL_ADOPTED, LABEL_PREFIX, Stranger
from common.digest import Digest

Document = Mapping[str, Any]

_NANOSECONDS = 1_000_000_000
_ANONYMOUS = re.compile(r"[0-9a-f]{64}")
_SHORT_ID = 12
# Of HostConfig: what a specification says itself.
_SPECIFIED = {
    "Binds", "CpuPeriod", "CpuQuota", "CpusetCpus", "Memory", "Mounts", "NanoCpus", "NetworkMode", "PortBindings",
    "Privileged", "PublishAllPorts", "StorageOpt",
}  # fmt: skip
# Of HostConfig: what the engine fills in by itself, so that it says nothing about anybody's choice.
_USUAL: Document = {
    "CgroupnsMode": ("host", "private"),
    "ConsoleSize": ([0, 0],),
    "ContainerIDFile": ("",),
    "IpcMode": ("private", "shareable"),
    "LogConfig": ({"Type": "json-file", "Config": {}},),
    "RestartPolicy": ({"Name": "unless-stopped", "MaximumRetryCount": 0},),
    "Runtime": ("runc",),
    "ShmSize": (64 << 20,),
}
_ENGINES_OWN = {"MaskedPaths", "ReadonlyPaths", "ConsoleSize", "ContainerIDFile", "Isolation"}


def stranger_of(inspected: Document, image: Document, usual_network: str, state: ContainerState) -> Stranger:
    """`image`: its inspection, empty if it is gone. usual_network: the mode that a container of ours has unasked."""
    return Stranger(
        runtime_id=inspected["Id"],
        name=str(inspected.get("Name", "")).removeprefix("/"),
        state=state,
        manifests=frozenset(
            Digest.parse(name.rpartition("@")[2]) for name in image.get("RepoDigests") or () if "@sha256:" in name
        ),
        spec=_spec_of(inspected, image, usual_network),
        labels=dict((inspected.get("Config") or {}).get("Labels") or {}),
        beyond=_beyond(inspected),
    )


def chosen(config: Document, image: Document) -> dict[str, Any]:
    """Of a container's Config what is not its image's. Cmd belongs to its entrypoint: with another one it is chosen."""
    images = image.get("Config") or {}
    found = {key: value for key, value in config.items() if value not in (None, "", [], {}) and key != "Image"}
    for key in ("Entrypoint", "WorkingDir", "User", "StopSignal", "StopTimeout", "Shell", "OnBuild", "Healthcheck"):
        if found.get(key) == images.get(key):
            found.pop(key, None)
    if "Entrypoint" not in found and found.get("Cmd") == images.get("Cmd"):
        found.pop("Cmd", None)
    had = set(images.get("Env") or ())
    found["Env"] = [item for item in config.get("Env") or () if item not in had]
    labels = images.get("Labels") or {}
    found["Labels"] = {key: value for key, value in (config.get("Labels") or {}).items() if labels.get(key) != value}
    return found


def _spec_of(inspected: Document, image: Document, usual_network: str) -> ContainerSpec:
    config = chosen(inspected.get("Config") or {}, image)
    host = inspected.get("HostConfig") or {}
    mode = str(host.get("NetworkMode") or "default")
    hostname = str(config.get("Hostname") or "")
    own_hostname = hostname and hostname != inspected["Id"][:_SHORT_ID] and mode != "host"
    return ContainerSpec(
        command=tuple(config.get("Cmd") or ()),
        entrypoint=tuple(config.get("Entrypoint") or ()),
        environment=dict(item.partition("=")[::2] for item in config["Env"]),
        labels={key: value for key, value in config["Labels"].items() if not key.startswith(LABEL_PREFIX)},
        ports=_ports(host),
        mounts=tuple(_mount(one) for one in inspected.get("Mounts") or () if _is_named(one)),
        cpus=_cpus(host),
        memory_bytes=int(host.get("Memory") or 0),
        health_check=_health_check(config.get("Healthcheck") or {}),
        stop_grace_seconds=int(config.get("StopTimeout") or 10),
        cpu_set=str(host.get("CpusetCpus") or ""),
        disk_bytes=_disk(host),
        network="" if mode in _same_networks(usual_network) else mode,
        hostname=hostname if own_hostname else "",
        user=str(config.get("User") or ""),
        working_dir=str(config.get("WorkingDir") or ""),
        privileged=bool(host.get("Privileged")),
    )


def _same_networks(mode: str) -> tuple[str, ...]:
    return ("default", "bridge") if mode in ("", "default", "bridge") else (mode,)


def _ports(host: Document) -> tuple[PortMapping, ...]:
    found = []
    for place, bindings in sorted((host.get("PortBindings") or {}).items()):
        port, _, protocol = place.partition("/")
        for one in bindings or ():
            # Docker's own default is every address of the host, ours is loopback.
            address = one.get("HostIp") or "0.0.0.0"
            found.append(PortMapping(address, int(one.get("HostPort") or 0), int(port), protocol or "tcp"))
    return tuple(found)


def _is_named(mount: Document) -> bool:
    return mount.get("Type") == "bind" or (mount.get("Type") == "volume" and not _ANONYMOUS.fullmatch(mount["Name"]))


def _mount(mount: Document) -> Mount:
    bound = mount.get("Type") == "bind"
    volume = "" if bound else str(mount.get("Name", ""))
    path = str(mount.get("Source", "")) if bound else ""
    return Mount(volume, str(mount["Destination"]), not mount.get("RW", True), path)


def _cpus(host: Document) -> float:
    if host.get("NanoCpus"):
        return int(host["NanoCpus"]) / _NANOSECONDS
    quota = int(host.get("CpuQuota") or 0)
    return quota / int(host.get("CpuPeriod") or 100_000) if quota > 0 else 0.0


def _disk(host: Document) -> int:
    size = str((host.get("StorageOpt") or {}).get("size", "0"))
    return int(size) if size.isdecimal() else 0


def _health_check(check: Document) -> HealthCheck | None:
    test = check.get("Test") or ()
    if not test or test[0] == "NONE":
        return None
    # A check for a shell is what `CMD-SHELL` says; ours are always argv.
    argv = ("/bin/sh", "-c", *test[1:]) if test[0] == "CMD-SHELL" else tuple(test[1:])
    return HealthCheck(
        argv,
        interval_seconds=int(check.get("Interval") or 0) / _NANOSECONDS,
        timeout_seconds=int(check.get("Timeout") or 0) / _NANOSECONDS,
        retries=int(check.get("Retries") or 0),
        start_period_seconds=int(check.get("StartPeriod") or 0) / _NANOSECONDS,
    )


def _beyond(inspected: Document) -> tuple[str, ...]:
    host, config = inspected.get("HostConfig") or {}, inspected.get("Config") or {}
    found = [
        key
        for key, value in host.items()
        if key not in _SPECIFIED | _ENGINES_OWN and _means_something(value) and value not in _USUAL.get(key, ())
    ]
    found += [key for key in ("Tty", "OpenStdin") if config.get(key)]
    found += [f"Network {name}" for name in _further_networks(inspected)]
    found += [f"Volume {one.get('Destination')}" for one in inspected.get("Mounts") or () if not _is_named(one)]
    return tuple(sorted(found))


def _means_something(value: Any) -> bool:
    return value not in (None, "", 0, False, [], {}, -1)


def _further_networks(inspected: Document) -> Sequence[str]:
    mode = (inspected.get("HostConfig") or {}).get("NetworkMode") or "default"
    first = "bridge" if mode == "default" else mode
    return sorted(set((inspected.get("NetworkSettings") or {}).get("Networks") or {}) - {first})


def taken_over_before(inspected: Document) -> Mapping[str, list[str]] | None:
    """What this container took over from others; None if it is itself somebody else's."""
    note = ((inspected.get("Config") or {}).get("Labels") or {}).get(LABEL_ADOPTED)
    if note is None:
        return None
    try:
        found = json.loads(note)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
