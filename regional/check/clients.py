"""The firmware that is played, and what each sends: a DISCOVER as real machines were seen to send it; pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from regional.boot_targets import SELF_CHECK_MAC
from regional.dhcp import options as o
from regional.dhcp.packet import BROADCAST_FLAG, REQUEST, Packet

_MAC = bytes.fromhex(SELF_CHECK_MAC.replace(":", ""))
# What firmware asks for, and the most that it takes.
_WANTED = bytes((1, 2, 3, 4, 5, 6, 12, 13, 15, 17, 18, 22, 23, 28, 40, 41, 42, 43, 50, 51, 54, 58, 59, 60, 66, 67, 97))
_LONGEST = (1472).to_bytes(2, "big")


class Kind(StrEnum):
    BIOS = "bios"
    UEFI = "uefi"
    UEFI_ARM = "uefi-arm"
    HTTP = "uefi-http"
    IPXE = "ipxe"


@dataclass(frozen=True, slots=True)
class Firmware:
    architecture: int
    word: str = "PXEClient"
    ipxe: bool = False


FIRMWARE: dict[Kind, Firmware] = {
    Kind.BIOS: Firmware(0),
    Kind.UEFI: Firmware(7),
    Kind.UEFI_ARM: Firmware(11),
    Kind.HTTP: Firmware(16, "HTTPClient"),
    Kind.IPXE: Firmware(7, ipxe=True),
}
# ARM machines are not everywhere, so they are played only if asked for.
USUAL = (Kind.BIOS, Kind.UEFI, Kind.HTTP, Kind.IPXE)


def discover(kind: Kind, xid: int) -> Packet:
    firmware = FIRMWARE[kind]
    options = {
        o.MESSAGE_TYPE: bytes((o.DISCOVER,)),
        o.LONGEST: _LONGEST,
        o.PARAMETERS: _WANTED,
        o.MACHINE_ID: b"\0" + bytes(10) + _MAC,
        o.ARCHITECTURE: firmware.architecture.to_bytes(2, "big"),
        o.UNDI: b"\x01\x03\x00",
        o.VENDOR_CLASS: f"{firmware.word}:Arch:{firmware.architecture:05}:UNDI:003000".encode(),
    }
    if firmware.ipxe:
        options[o.USER_CLASS] = b"iPXE"
        options[o.IPXE] = bytes((o.IPXE_HTTP, 1, 1))
    return Packet(REQUEST, xid, _MAC, options, flags=BROADCAST_FLAG, secs=4)
