"""What may be asked of an instance, checked before anything is written; pure.

Limits are ours unless a source is named; each refusal names the field and the limit.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Mapping, Sequence

from common.errors import Invalid
from control_plane.instances.model import HealthCheck, InstanceSpec, Mount, PortMapping, RunRequest

# Docker's container names are [a-zA-Z0-9][a-zA-Z0-9_.-]+; lower case and 63 characters also fit LXD and host names.
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_.-]{0,61}[a-z0-9])?")
_VOLUME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_ENVIRONMENT_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,254}")
RESERVED_LABELS = "longshore."  # the agent's own labels tell it which containers are its
_MAXIMUM_ENTRIES = 256
_MAXIMUM_HOSTS = 1000
_MAXIMUM_TEXT_BYTES = 128 << 10  # Linux refuses a single argument or variable of more (MAX_ARG_STRLEN)
_MINIMUM_MEMORY = 6 << 20  # dockerd refuses less
_MAXIMUM_MEMORY = 1 << 46
_MAXIMUM_CPUS = 4096
_MAXIMUM_SECONDS = 24 * 3600
_MAXIMUM_CORE = 4095
_MINIMUM_DISK = 1 << 20
_MAXIMUM_DISK = 1 << 50
_CPU_SET = re.compile(r"\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?){0,127}")
# `container:...` would be another container's network, and is none of these.
_NETWORK = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_HOSTNAME = re.compile(r"(?!.{64})[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)*")
_USER = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,31}(:[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,31})?")
_CONTAINER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}")
_SAFE_NETWORKS = ("", "bridge", "none")


class InstanceNameInvalid(Invalid):
    code = "instance_name_invalid"


class SpecInvalid(Invalid):
    """`facts["field"]` names what is wrong."""

    code = "instance_spec_invalid"


def check_name(name: str) -> str:
    """`name` itself; raises `InstanceNameInvalid`."""
    if not _NAME.fullmatch(name):
        raise InstanceNameInvalid(
            f"{name[:80]!r} cannot name an instance",
            action="use up to 63 lower-case letters, digits and _ . - with a letter or digit at both ends",
        )
    return name


def check_spec(spec: InstanceSpec) -> None:
    """Raises `SpecInvalid`, naming the field."""
    _check_words("command", spec.command)
    _check_words("entrypoint", spec.entrypoint)
    _check_environment(spec.environment)
    _check_labels(spec.labels)
    _check_ports(spec.ports)
    _check_mounts(spec.mounts)
    _check_number("cpus", spec.cpus, 0, _MAXIMUM_CPUS)
    _check_number("stop_grace_seconds", spec.stop_grace_seconds, 0, 3600)
    _check_number("memory_bytes", spec.memory_bytes, 0, _MAXIMUM_MEMORY)
    if 0 < spec.memory_bytes < _MINIMUM_MEMORY:
        raise _wrong("memory_bytes", f"{spec.memory_bytes} bytes are too few", f"give at least {_MINIMUM_MEMORY}, or 0")
    if spec.health_check is not None:
        _check_health(spec.health_check)
    _check_cpu_set(spec.cpu_set)
    _check_number("disk_bytes", spec.disk_bytes, 0, _MAXIMUM_DISK)
    if 0 < spec.disk_bytes < _MINIMUM_DISK:
        raise _wrong("disk_bytes", f"{spec.disk_bytes} bytes are too few", f"give at least {_MINIMUM_DISK}, or 0")
    _check_network(spec)
    _check_form("hostname", spec.hostname, _HOSTNAME, "use up to 63 letters, digits, hyphens and dots")
    _check_form("user", spec.user, _USER, "give a name, a number, or two of them with a colon")
    if spec.working_dir:
        _check_path("working_dir", spec.working_dir)
    if spec.adopt is not None:
        _check_form("adopt.container", spec.adopt.container, _CONTAINER, "give its id or name in the engine")


def reaches_host(spec: InstanceSpec) -> bool:
    """Whether it asks for more than a container of its own on the host: only who runs the platform may."""
    directories = any(mount.host_path for mount in spec.mounts)
    adopts = spec.adopt is not None and bool(spec.adopt.container)
    return spec.privileged or directories or adopts or spec.network not in _SAFE_NETWORKS


def check_selection(request: RunRequest) -> None:
    """Raises `SpecInvalid` unless exactly one way of naming hosts was used."""
    ways = [bool(request.hosts), request.idc is not None, request.all_hosts]
    if ways.count(True) != 1:
        raise _wrong("hosts", "it is not clear where it shall run", "give one of hosts, idc and all_hosts")
    if len(request.hosts) > _MAXIMUM_HOSTS:
        raise _wrong("hosts", f"{len(request.hosts)} hosts are named", f"name at most {_MAXIMUM_HOSTS}, or an idc")
    if request.spec.adopt is not None and request.spec.adopt.container and len(request.hosts) != 1:
        raise _wrong("adopt.container", "one container is on one host", "name that host alone")


def _check_words(field: str, words: Sequence[str]) -> None:
    _check_count(field, len(words))
    for word in words:
        _check_text(field, word)


def _check_environment(environment: Mapping[str, str]) -> None:
    _check_count("environment", len(environment))
    for key, value in environment.items():
        if not _ENVIRONMENT_KEY.fullmatch(key):
            raise _wrong("environment", f"{key[:80]!r} cannot name a variable", "use letters, digits, _ . -")
        _check_text("environment", value)


def _check_labels(labels: Mapping[str, str]) -> None:
    _check_count("labels", len(labels))
    for key, value in labels.items():
        if not key or len(key) > 255 or key.startswith(RESERVED_LABELS):
            raise _wrong(
                "labels", f"{key[:80]!r} cannot be a label", f"use 1 to 255 characters, not {RESERVED_LABELS}*"
            )
        _check_text("labels", key)
        _check_text("labels", value)


def _check_ports(ports: Sequence[PortMapping]) -> None:
    _check_count("ports", len(ports))
    taken: set[tuple[str, int, str]] = set()
    for port in ports:
        _check_number("ports.container_port", port.container_port, 1, 65535)
        _check_number("ports.host_port", port.host_port, 0, 65535)
        if port.protocol not in ("tcp", "udp"):
            raise _wrong("ports.protocol", f"{port.protocol[:20]!r} is not a protocol", "use tcp or udp")
        place = (_address(port.host_ip), port.host_port, port.protocol)
        if port.host_port and place in taken:
            raise _wrong("ports.host_port", f"port {port.host_port}/{port.protocol} is given twice", "give it once")
        taken.add(place)


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text or "127.0.0.1"))
    except ValueError:
        raise _wrong("ports.host_ip", f"{text[:80]!r} is not an IP address", "leave it out for 127.0.0.1") from None


def _check_mounts(mounts: Sequence[Mount]) -> None:
    _check_count("mounts", len(mounts))
    targets: set[str] = set()
    for mount in mounts:
        if mount.host_path and mount.volume:
            raise _wrong("mounts.host_path", "a mount has a volume and a path", "give one of the two")
        if mount.host_path:
            _check_path("mounts.host_path", mount.host_path)
        elif not _VOLUME.fullmatch(mount.volume):
            raise _wrong("mounts.volume", f"{mount.volume[:80]!r} is not a volume name", "name a volume, not a path")
        _check_path("mounts.target", mount.target)
        if mount.target.rstrip("/") in targets:
            raise _wrong("mounts.target", f"{mount.target[:80]!r} is given twice", "use another path")
        targets.add(mount.target.rstrip("/"))


def _check_path(field: str, path: str) -> None:
    parts = path.split("/")
    if not path.startswith("/") or not path.strip("/") or ".." in parts or ":" in path or len(path) > 4096:
        raise _wrong(field, f"{path[:80]!r} is no place for it", "give an absolute path without .. and colons")
    _check_text(field, path)


def _check_cpu_set(text: str) -> None:
    _check_form("cpu_set", text, _CPU_SET, "list cores and ranges of them, as 0-2,5")
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        if not int(first) <= int(last or first) <= _MAXIMUM_CORE:
            raise _wrong("cpu_set", f"{part} is no range of cores", f"count up, to {_MAXIMUM_CORE} at most")


def _check_network(spec: InstanceSpec) -> None:
    _check_form("network", spec.network, _NETWORK, "use bridge, none, host, or the name of an engine's network")
    if spec.network in ("none", "host") and spec.ports:
        raise _wrong("ports", f"with the network {spec.network} no ports are published", "leave them out")


def _check_form(field: str, text: str, form: re.Pattern[str], action: str) -> None:
    if text and not form.fullmatch(text):
        raise _wrong(field, f"{text[:80]!r} cannot be its {field}", action)


def _check_health(check: HealthCheck) -> None:
    if not check.test:
        raise _wrong("health_check.test", "the health check has no command", "give one, or leave the check out")
    _check_words("health_check.test", check.test)
    # dockerd refuses intervals and timeouts under a millisecond; under a tenth of a second a check is only load.
    _check_number("health_check.interval_seconds", check.interval_seconds, 0.1, _MAXIMUM_SECONDS)
    _check_number("health_check.timeout_seconds", check.timeout_seconds, 0.1, _MAXIMUM_SECONDS)
    _check_number("health_check.retries", check.retries, 1, 1000)
    _check_number("health_check.start_period_seconds", check.start_period_seconds, 0, _MAXIMUM_SECONDS)


def _check_count(field: str, count: int) -> None:
    if count > _MAXIMUM_ENTRIES:
        raise _wrong(field, f"{field} has {count} entries", f"give at most {_MAXIMUM_ENTRIES}")


def _check_text(field: str, text: str) -> None:
    # JSON may spell both; neither can be an argument of a process or a text in PostgreSQL.
    if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text):
        raise _wrong(field, f"{field} has a NUL or half a surrogate pair in it", "remove it")
    if len(text.encode()) >= _MAXIMUM_TEXT_BYTES:
        raise _wrong(field, f"an entry of {field} is too long", f"use less than {_MAXIMUM_TEXT_BYTES} bytes")


def _check_number(field: str, value: float, low: float, high: float) -> None:
    if not math.isfinite(value) or not low <= value <= high:
        raise _wrong(field, f"{field} is {value}", f"give {low:g} to {high:g}")


def _wrong(field: str, detail: str, action: str) -> SpecInvalid:
    return SpecInvalid(detail, action=action, field=field)
