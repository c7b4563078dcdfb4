"""What a host is, in words of its own; frozen, pure.

Invariant: two `HostFacts` of which `same_host` is true differ in nothing that a person would look up; what moves all
the time (free room) moves in `agent.samples`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent.model import Engine

# Room that comes and goes with every layer is no news; a sixteenth of the disk is.
_NEWS_FRACTION = 16


@dataclass(frozen=True, slots=True)
class Processor:
    """`cores`: physical ones of all `sockets`; `flags`: those that somebody asks for, and the x86-64 levels."""

    model: str = ""
    sockets: int = 0
    cores: int = 0
    threads: int = 0
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Disk:
    """A whole one. `rotational`: as the kernel guesses; virtual disks often claim it."""

    name: str
    model: str
    size_bytes: int
    rotational: bool


@dataclass(frozen=True, slots=True)
class Interface:
    """`addresses` with the length of their prefix; `speed_mbps` 0: it does not say."""

    name: str
    mac: str
    addresses: tuple[str, ...]
    speed_mbps: int
    up: bool


@dataclass(frozen=True, slots=True)
class Machine:
    """What changes with a reboot, a cable or a new disk, if at all."""

    kernel: str = ""
    os_release: str = ""
    virtualisation: str = ""
    boot_id: str = ""
    processor: Processor = Processor()
    disks: tuple[Disk, ...] = ()
    interfaces: tuple[Interface, ...] = ()


@dataclass(frozen=True, slots=True)
class HostFacts:
    """`disk_bytes`, `disk_free_bytes`: of the file system that contents are on. `artifact`: digest of the update that
    this agent runs from; empty: the version installed on the host.
    """

    hostname: str
    architecture: str
    operating_system: str
    cpus: int
    memory_bytes: int
    disk_free_bytes: int
    engines: tuple[Engine, ...] = ()
    disk_bytes: int = 0
    artifact: str = ""
    machine: Machine = Machine()

    def same_host(self, other: HostFacts) -> bool:
        """Whether `other` is no news."""
        moved = abs(self.disk_free_bytes - other.disk_free_bytes)
        if moved > max(self.disk_bytes, other.disk_bytes) / _NEWS_FRACTION:
            return False
        return replace(self, disk_free_bytes=0) == replace(other, disk_free_bytes=0)
