"""Which boot file a machine's firmware gets: loaders by architecture, the script for iPXE, exceptions; pure.

Invariant: a client that is iPXE already is never given iPXE again, whatever the tables say: it gets the URL of its
script, so no machine loads its loader in a circle. Numbers are IANA's "processor architecture types" (RFC 5970).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

# The machine that `longshore-regional check` plays: locally administered, so nobody's, and enlisted nowhere.
SELF_CHECK_MAC = "02:4c:53:43:48:4b"


class Firmware(StrEnum):
    BIOS = "bios"
    UEFI_IA32 = "uefi-ia32"
    UEFI_X64 = "uefi-x64"
    UEFI_ARM32 = "uefi-arm32"
    UEFI_ARM64 = "uefi-arm64"
    UEFI_RISCV32 = "uefi-riscv32"
    UEFI_RISCV64 = "uefi-riscv64"
    UEFI_RISCV128 = "uefi-riscv128"
    UEFI_LOONGARCH32 = "uefi-loongarch32"
    UEFI_LOONGARCH64 = "uefi-loongarch64"
    UBOOT_ARM32 = "uboot-arm32"
    UBOOT_ARM64 = "uboot-arm64"
    RASPBERRY_PI = "raspberry-pi"


# (firmware, boots over HTTP). 9 is "EBC" on paper and x64 in the field.
_ARCHITECTURES: dict[int, tuple[Firmware, bool]] = {
    0: (Firmware.BIOS, False),
    6: (Firmware.UEFI_IA32, False),
    7: (Firmware.UEFI_X64, False),
    9: (Firmware.UEFI_X64, False),
    10: (Firmware.UEFI_ARM32, False),
    11: (Firmware.UEFI_ARM64, False),
    15: (Firmware.UEFI_IA32, True),
    16: (Firmware.UEFI_X64, True),
    17: (Firmware.UEFI_X64, True),
    18: (Firmware.UEFI_ARM32, True),
    19: (Firmware.UEFI_ARM64, True),
    20: (Firmware.BIOS, True),
    21: (Firmware.UBOOT_ARM32, False),
    22: (Firmware.UBOOT_ARM64, False),
    23: (Firmware.UBOOT_ARM32, True),
    24: (Firmware.UBOOT_ARM64, True),
    25: (Firmware.UEFI_RISCV32, False),
    26: (Firmware.UEFI_RISCV32, True),
    27: (Firmware.UEFI_RISCV64, False),
    28: (Firmware.UEFI_RISCV64, True),
    29: (Firmware.UEFI_RISCV128, False),
    30: (Firmware.UEFI_RISCV128, True),
    37: (Firmware.UEFI_LOONGARCH32, False),
    38: (Firmware.UEFI_LOONGARCH32, True),
    39: (Firmware.UEFI_LOONGARCH64, False),
    40: (Firmware.UEFI_LOONGARCH64, True),
    41: (Firmware.RASPBERRY_PI, False),
}
RASPBERRY_PI = 41
# Cards of its maker: some of its boot ROMs say 0, which is BIOS, or nothing.
RASPBERRY_PI_CARDS = frozenset({"b8:27:eb", "dc:a6:32", "e4:5f:01", "28:cd:c1", "d8:3a:dd", "2c:cf:67"})

# Where there is an iPXE for it; for others the DHCP file names one. A Raspberry Pi's ROM takes no notice of the name,
# and loads its own files from where it would be.
LOADERS: dict[Firmware, str] = {
    Firmware.BIOS: "static/undionly.kpxe",
    Firmware.UEFI_IA32: "static/ipxe-ia32.efi",
    Firmware.UEFI_X64: "static/ipxe.efi",
    Firmware.UEFI_ARM32: "static/ipxe-arm32.efi",
    Firmware.UEFI_ARM64: "static/ipxe-arm64.efi",
    Firmware.UEFI_RISCV32: "static/ipxe-riscv32.efi",
    Firmware.UEFI_RISCV64: "static/ipxe-riscv64.efi",
    Firmware.UEFI_LOONGARCH64: "static/ipxe-loongarch64.efi",
    Firmware.RASPBERRY_PI: "static/ipxe-arm64.efi",
}


@dataclass(frozen=True, slots=True)
class Asker:
    """A client that wants a boot file. `mac` in lower case with colons; `architectures` as sent, first is preferred;
    `ipxe`: it is iPXE; `ipxe_http`: and can fetch URLs; `http`: firmware that boots over HTTP (HTTPClient).
    """

    mac: str
    architectures: tuple[int, ...] = ()
    http: bool = False
    ipxe: bool = False
    ipxe_http: bool = True


@dataclass(frozen=True, slots=True)
class BootFile:
    """`name` is a path for TFTP, or a URL if `url`."""

    name: str
    url: bool = False


@dataclass(frozen=True, slots=True)
class BootMap:
    """`http`: URL in front of loaders for firmware that boots over HTTP. `script`: URL for iPXE, `{mac}` stands for the
    machine's address with hyphens (iPXE escapes colons, and 52%3A54 was not recognised by those who compare text).
    `script_file`: the same by TFTP for an iPXE without HTTP. `machines`: loaders of single machines by MAC, for all
    their firmware: a signed shim, say. `makers`: the same by the first three bytes of the MAC. `numbers`: loaders by
    number of the architecture, also of one that has no name here. The more particular counts.
    """

    http: str
    script: str
    script_file: str = "boot/{mac}.ipxe"
    loaders: Mapping[Firmware, str] = field(default_factory=lambda: LOADERS)
    machines: Mapping[str, Mapping[Firmware, str]] = field(default_factory=dict)
    makers: Mapping[str, Mapping[Firmware, str]] = field(default_factory=dict)
    numbers: Mapping[int, str] = field(default_factory=dict)

    def knows(self, mac: str) -> bool:
        return mac in self.machines

    def file_for(self, asker: Asker) -> BootFile | None:
        """None: no loader is known for this firmware, so it shall go on to its next boot device."""
        if asker.ipxe:
            words = self.script if asker.ipxe_http else self.script_file
            return BootFile(words.replace("{mac}", asker.mac.replace(":", "-")), asker.ipxe_http)
        name, by_http = self._loader(asker)
        if name is None:
            return None
        if not (by_http or asker.http):
            return BootFile(name)
        return BootFile(name if "://" in name else f"{self.http.rstrip('/')}/{name.lstrip('/')}", url=True)

    def _loader(self, asker: Asker) -> tuple[str | None, bool]:
        """And whether its firmware boots over HTTP."""
        found = firmware_of(asker.architectures)
        number = next((each for each in asker.architectures if each in self.numbers), None)
        if found is None:
            return (None if number is None else self.numbers[number]), False
        firmware, by_http = found
        for of_card in (self.machines.get(asker.mac, {}), self.makers.get(asker.mac[:8], {})):
            if firmware in of_card:
                return of_card[firmware], by_http
        return self.loaders.get(firmware) if number is None else self.numbers[number], by_http


def firmware_of(architectures: tuple[int, ...]) -> tuple[Firmware, bool] | None:
    """The first that is known; a client that names none is BIOS, as PXE was before it had the option."""
    if not architectures:
        return _ARCHITECTURES[0]
    return next((_ARCHITECTURES[number] for number in architectures if number in _ARCHITECTURES), None)


_MAC = re.compile(r"[0-9a-f]{2}(?:([:-])[0-9a-f]{2})(?:\1[0-9a-f]{2}){4}")


def mac_of(text: str) -> str | None:
    """In lower case with colons; from hyphens or colons. None: it is none."""
    lower = text.lower()
    return lower.replace("-", ":") if _MAC.fullmatch(lower) else None
