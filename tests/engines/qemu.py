"""Computers that boot from power-on, in QEMU: their firmware's own network stack against servers of ours.

Always emulated (`-accel tcg`): a /dev/kvm may be there and hang as soon as a kernel starts. Each machine has its own
card on a bridge in a network namespace, a serial console that is a file, and is ended by its process id.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tests.engines import EngineCannotRun
from tests.engines.boot_kernel import MARK
from tests.engines.namespaces import Network
from tests.engines.processes import Process, find_program, wait_until

_OVMF = Path("/usr/share/OVMF")
# Each waits for minutes for a server that is not there, and none of it is what is tested.
_NO_IPV6 = ("-fw_cfg", "name=opt/org.tianocore/IPv6Support,string=n")
_NO_PXE = tuple(
    word for family in (4, 6) for word in ("-fw_cfg", f"name=opt/org.tianocore/IPv{family}PXESupport,string=n")
)


class Firmware(Enum):
    """BIOS is SeaBIOS with QEMU's iPXE in the card's ROM; UEFI is OVMF with a card that has no ROM, so that its own PXE
    or HTTP client asks; with SECURE it runs nothing that Microsoft's key did not sign.
    """

    BIOS = "bios"
    UEFI_PXE = "uefi-pxe"
    UEFI_HTTP = "uefi-http"
    UEFI_SECURE = "uefi-secure"

    @property
    def image(self) -> str:
        return "OVMF_{}_4M.ms.fd" if self is Firmware.UEFI_SECURE else "OVMF_{}_4M.fd"


@dataclass(frozen=True)
class Bridge:
    """`network` is where the machines' cards are."""

    network: Network
    name: str = "br0"

    def card(self, number: int) -> str:
        """A card's cable, plugged in."""
        tap = f"tap{number}"
        for command in (f"tuntap add {tap} mode tap", f"link set {tap} master {self.name} up"):
            ip(self.network, command)
        return tap

    def unplug(self, number: int) -> None:
        ip(self.network, f"link del tap{number}")


@contextlib.contextmanager
def bridge(network: Network, uplink: str) -> Iterator[Bridge]:
    """`uplink`: an interface in `network` that leads to the servers. Gone with the namespace."""
    for command in (
        "link add br0 type bridge stp_state 0",
        f"link set {uplink} master br0 up",
        "link set br0 up",
    ):
        ip(network, command)
    yield Bridge(network)


def ip(network: Network, command: str) -> None:
    subprocess.run(
        [*network.command_prefix, find_program("ip", "tools"), *command.split()], check=True, capture_output=True
    )


class Machine:
    """`said` is what the serial console shows. Use `machine`."""

    def __init__(self, process: Process, serial: Path) -> None:
        self.process = process
        self._serial = serial

    @property
    def said(self) -> str:
        return self._serial.read_text(errors="replace") if self._serial.exists() else ""

    @property
    def marks(self) -> list[str]:
        """What the guest's system said, without the mark."""
        return [line.strip() for line in re.findall(rf"{MARK} ([ -~]*)", self.said)]

    def wait_off(self, seconds: float) -> bool:
        """Until it powered itself off."""
        return wait_until(lambda: not self.process.running, seconds, 0.1)

    def wait_said(self, text: str, seconds: float) -> bool:
        wait_until(lambda: text in self.said or not self.process.running, seconds, 0.1)
        return text in self.said


@contextlib.contextmanager
def machine(
    firmware: Firmware, on: Bridge, mac: str, directory: Path, *,
    number: int = 0, serial: str = "", disk: Path | None = None, disk_bytes_per_second: int = 0, megabytes: int = 384,
) -> Iterator[Machine]:  # fmt: skip
    """Powered on; at the end its power is cut if it is still on. `serial`: its serial number. With a `disk` (raw) it
    may boot again; without, it ends instead. `disk_bytes_per_second`: how fast it writes, 0: at once. Raises
    `EngineCannotRun`.
    """
    program = find_program("qemu-system-x86_64", "netboot")
    console = directory / f"serial-{mac.replace(':', '')}"
    console.unlink(missing_ok=True)
    words = [
        program, "-accel", "tcg", "-m", str(megabytes), "-smp", "1", "-display", "none", "-monitor", "none",
        "-serial", f"file:{console}", "-object", "rng-random,id=r0,filename=/dev/urandom",
        "-device", "virtio-rng-pci,rng=r0",
        "-netdev", f"tap,id=n0,ifname={on.card(number)},script=no,downscript=no,vhost=off",
        *_board(firmware, mac, directory, number),
    ]  # fmt: skip
    if serial:
        words += ["-smbios", f"type=1,serial={serial}"]
    if disk is None:
        words.append("-no-reboot")
    else:
        drive = f"if=none,id=d0,format=raw,file={disk},cache=unsafe"
        drive += f",throttling.bps-write={disk_bytes_per_second}" if disk_bytes_per_second else ""
        words += ["-drive", drive, "-device", "virtio-blk-pci,drive=d0,bootindex=1"]
    process = Process(words, directory / f"qemu-{number}.log", prefix=on.network.command_prefix)
    try:
        yield Machine(process, console)
    finally:
        process.kill()
        on.unplug(number)


def _board(firmware: Firmware, mac: str, directory: Path, number: int) -> Sequence[str]:
    card = f"virtio-net-pci,netdev=n0,mac={mac},bootindex=0"
    if firmware is Firmware.BIOS:
        # Without graphics SeaBIOS and iPXE show what they do on the serial line.
        return ("-machine", "pc,graphics=off", "-device", card)
    code, template = (_OVMF / firmware.image.format(part) for part in ("CODE", "VARS"))
    if not code.exists():
        raise EngineCannotRun("OVMF is not installed; run `python -m tests.engines.install netboot` as root")
    variables = directory / f"vars-{number}.fd"
    shutil.copyfile(template, variables)
    secure = firmware is Firmware.UEFI_SECURE
    return (
        *("-machine", "q35,smm=on" if secure else "q35", *_NO_IPV6),
        *(_NO_PXE if firmware is Firmware.UEFI_HTTP else ()),
        *(("-global", "driver=cfi.pflash01,property=secure,value=on") if secure else ()),
        *("-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={code}"),
        *("-drive", f"if=pflash,format=raw,unit=1,file={variables}", "-device", f"{card},romfile="),
    )
