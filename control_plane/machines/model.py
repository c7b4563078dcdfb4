"""Machines, profiles and install tasks; pure.

Words: a machine is known by its MAC addresses and, once it said so, by its serial number. A profile says what to put on
machines; its versions never change. An install task is one approved installation of one version on one machine; each
try of it has an intent of its own, and an intent is good for one installation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from common.errors import Conflict, Invalid, NotFound
from control_plane.machines.answers.model import Network


class MachineUnknown(NotFound):
    code = "machine_unknown"


class MachineInvalid(Invalid):
    code = "machine_invalid"


class MachineExists(Conflict):
    """One of its MAC addresses, its serial number or its name belongs to another machine of the IDC."""

    code = "machine_exists"


class MachineBusy(Conflict):
    """An installation of it goes on."""

    code = "machine_busy"


class MachineNotReady(Conflict):
    """Nobody accepted it yet, or it is ignored."""

    code = "machine_not_ready"


class MachineState(StrEnum):
    PENDING = "pending"  # seen, and accepted by nobody
    READY = "ready"
    IGNORED = "ignored"  # somebody else's: it boots as a stranger, and sightings of it change nothing


class Firmware(StrEnum):
    """An override of what the machine says of itself."""

    AUTOMATIC = ""
    BIOS = "bios"
    UEFI_X64 = "uefi-x64"
    UEFI_ARM64 = "uefi-arm64"
    UEFI_HTTP_X64 = "uefi-http-x64"
    UEFI_HTTP_ARM64 = "uefi-http-arm64"


class WithoutIntent(StrEnum):
    """What it boots when nothing is to be installed."""

    REGIONAL = ""  # as its regional is set
    LOCAL_DISK = "local-disk"
    DISCOVERY = "discovery"


@dataclass(frozen=True, slots=True)
class Disk:
    name: str
    size_bytes: int = 0
    model: str = ""
    serial: str = ""
    wwn: str = ""
    rotational: bool = False
    transport: str = ""


@dataclass(frozen=True, slots=True)
class Nic:
    """`switch`, `switch_port`, `vlan`: what LLDP said; empty and 0 where nothing was heard."""

    name: str
    mac: str
    driver: str = ""
    speed_mbits: int = 0
    link: bool = False
    switch: str = ""
    switch_port: str = ""
    vlan: int = 0


@dataclass(frozen=True, slots=True)
class Inventory:
    """What the machine said of itself, last."""

    serial: str = ""
    uuid: str = ""
    vendor: str = ""
    product: str = ""
    firmware: str = ""
    uefi: bool = False
    secure_boot: bool = False
    cpu_model: str = ""
    cpu_sockets: int = 0
    cpu_cores: int = 0
    cpu_threads: int = 0
    cpu_architecture: str = ""
    memory_bytes: int = 0
    disks: tuple[Disk, ...] = ()
    nics: tuple[Nic, ...] = ()
    bmc_address: str = ""


@dataclass(frozen=True, slots=True)
class BootSettings:
    """How it boots, where it does not do as others. `loader`: a path below /static of the regional."""

    firmware: Firmware = Firmware.AUTOMATIC
    loader: str = ""
    arguments: str = ""
    without_intent: WithoutIntent = WithoutIntent.REGIONAL


@dataclass(frozen=True, slots=True)
class Machine:
    """`tenant` "": the platform's. `serial` "": not known yet. `network`: in place of its profiles'. `variables`: for
    templates.
    """

    id: str
    idc_id: str
    idc: str
    name: str
    state: MachineState
    macs: tuple[str, ...]
    created_at: datetime
    tenant_id: str = ""
    tenant: str = ""
    serial: str = ""
    uuid: str = ""
    tags: tuple[str, ...] = ()
    notes: str = ""
    boot: BootSettings = BootSettings()
    network: Network | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    architecture: str = ""
    inventory: Inventory | None = None
    inventory_at: datetime | None = None
    seen_at: datetime | None = None
    installed: str = ""
    """What was put on it last: `profile@version`."""
    installed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """One line of a machine's boot timeline."""

    id: str
    at: datetime
    stage: str
    detail: str
    trouble: bool
