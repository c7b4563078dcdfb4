"""Machines and reports between our words and the protocol's; pure.

Invariant: whatever a regional sends becomes bounded, printable values, or is refused; nothing that it says is larger
than what a row takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from control_plane.machines import rules
from control_plane.machines.model import (
    Disk,
    Firmware,
    Inventory,
    Machine,
    MachineInvalid,
    MachineState,
    Nic,
    WithoutIntent,
)
from control_plane.machines.tasks_model import StepPhase
from control_plane.machines.transitions import Said
from proto.regional.v1 import machines_pb2 as wire

FIRMWARES: Mapping[Firmware, wire.Firmware.ValueType] = {
    Firmware.AUTOMATIC: wire.FIRMWARE_UNSPECIFIED,
    Firmware.BIOS: wire.FIRMWARE_BIOS,
    Firmware.UEFI_X64: wire.FIRMWARE_UEFI_X64,
    Firmware.UEFI_ARM64: wire.FIRMWARE_UEFI_ARM64,
    Firmware.UEFI_HTTP_X64: wire.FIRMWARE_UEFI_HTTP_X64,
    Firmware.UEFI_HTTP_ARM64: wire.FIRMWARE_UEFI_HTTP_ARM64,
}
_WITHOUT: Mapping[WithoutIntent, wire.WithoutIntent.ValueType] = {
    WithoutIntent.REGIONAL: wire.WITHOUT_INTENT_UNSPECIFIED,
    WithoutIntent.LOCAL_DISK: wire.WITHOUT_INTENT_LOCAL_DISK,
    WithoutIntent.DISCOVERY: wire.WITHOUT_INTENT_DISCOVERY,
}
SAID: Mapping[int, Said] = {
    wire.INSTALL_PHASE_BOOTING: Said.BOOTING,
    wire.INSTALL_PHASE_INSTALLING: Said.INSTALLING,
    wire.INSTALL_PHASE_COMPLETED: Said.COMPLETED,
    wire.INSTALL_PHASE_FAILED: Said.FAILED,
    wire.INSTALL_PHASE_STOPPED: Said.STOPPED,
}
STEPS: Mapping[int, StepPhase] = {
    wire.OPERATION_PHASE_STARTED: StepPhase.RUNNING,
    wire.OPERATION_PHASE_PROGRESS: StepPhase.RUNNING,
    wire.OPERATION_PHASE_COMPLETE: StepPhase.DONE,
    wire.OPERATION_PHASE_FAILED: StepPhase.FAILED,
}
_MOST_DISKS, _MOST_NICS = 256, 64
_MOST_NUMBER = 1 << 53
# Clocks of regionals may be wrong; a report from the future is of now.
_MAY_LEAD = timedelta(minutes=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def target(
    machine: Machine, intent: wire.InstallIntent | None, power: wire.PowerOrder | None = None
) -> wire.BootTarget:
    boot = machine.boot
    return wire.BootTarget(
        machine_id=machine.id,
        serial=machine.serial,
        macs=machine.macs,
        name=machine.name,
        firmware=FIRMWARES[boot.firmware],
        loader=boot.loader,
        loader_arguments=boot.arguments,
        intent=intent,
        without_intent=_without_intent(machine),
        power=power,
    )


def _without_intent(machine: Machine) -> wire.WithoutIntent.ValueType:
    chosen = machine.boot.without_intent
    # Slow firmware is enlisted by what DHCP saw of it, before it asks what to boot: it must still be looked at.
    if chosen is WithoutIntent.REGIONAL and machine.state is MachineState.PENDING:
        return wire.WITHOUT_INTENT_AS_STRANGER
    return _WITHOUT[chosen]


def moment(occurred_ms: int, now: datetime) -> datetime:
    """When it happened, as the regional's clock says; now if that cannot be."""
    if occurred_ms <= 0 or occurred_ms > int((now + _MAY_LEAD - _EPOCH).total_seconds() * 1000):
        return now
    return _EPOCH + timedelta(milliseconds=occurred_ms)


def text(value: str, most: int = 255) -> str:
    """Printable, on one line."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in value[: 4 * most]).split())[:most]


def lines(value: str, most_lines: int, longest: int) -> list[str]:
    """Printable lines; what is too much of one report is cut, and said."""
    found = value.splitlines()
    kept = ["".join(letter if letter.isprintable() or letter == "\t" else " " for letter in one) for one in found]
    cut = [one if len(one) <= longest else one[:longest] + " ..." for one in kept[:most_lines]]
    return [*cut, f"... {len(kept) - most_lines} lines more"] if len(kept) > most_lines else cut


def inventory(said: wire.Inventory) -> Inventory:
    return Inventory(
        serial=rules.serial_of(text(said.serial)),
        uuid=rules.uuid_of(said.uuid[:64]),
        vendor=text(said.vendor, 128),
        product=text(said.product, 128),
        firmware=text(said.firmware, 128),
        uefi=said.uefi,
        secure_boot=said.secure_boot,
        cpu_model=text(said.cpu_model, 128),
        cpu_sockets=said.cpu_sockets,
        cpu_cores=said.cpu_cores,
        cpu_threads=said.cpu_threads,
        cpu_architecture=text(said.cpu_architecture, 32),
        memory_bytes=min(said.memory_bytes, _MOST_NUMBER),
        disks=tuple(_disk(one) for one in said.disks[:_MOST_DISKS]),
        nics=tuple(nic for one in said.nics[:_MOST_NICS] if (nic := _nic(one)) is not None),
        bmc_address=text(said.bmc_address, 64),
    )


def _disk(said: wire.Disk) -> Disk:
    return Disk(
        name=text(said.name, 64),
        size_bytes=min(said.size_bytes, _MOST_NUMBER),
        model=text(said.model, 128),
        serial=text(said.serial, 128),
        wwn=text(said.wwn, 64),
        rotational=said.rotational,
        transport=text(said.transport, 16),
    )


def _nic(said: wire.Nic) -> Nic | None:
    """None for one without an address of its own: a tunnel, a bridge."""
    try:
        mac = rules.mac_of(said.mac[:40])
    except MachineInvalid:
        return None
    return Nic(
        name=text(said.name, 64),
        mac=mac,
        driver=text(said.driver, 64),
        speed_mbits=said.speed_mbits,
        link=said.link,
        switch=text(said.neighbour.switch_name, 128),
        switch_port=text(said.neighbour.port, 128),
        vlan=min(said.neighbour.vlan, 4095),
    )
