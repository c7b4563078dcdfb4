"""Who asks: identity, firmware and place of a client, read from its packet; pure.

Invariant: one machine is one client in all its stages. ROM, iPXE and operating system send different client
identifiers (61), so the hardware address decides, then the machine's UUID (97), and the identifier only where neither
is there: InfiniBand, RFC 4390.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from regional.boot_targets import RASPBERRY_PI, RASPBERRY_PI_CARDS, Asker
from regional.dhcp import options as o
from regional.dhcp.packet import Packet

_PXE, _HTTP = b"PXEClient", b"HTTPClient"
_ARCH = re.compile(rb":Arch:(\d{5})")


@dataclass(frozen=True, slots=True)
class Client:
    """`key` is what leases are held under. `boot`: it wants a boot file. `word`: what its vendor class (60) begins
    with, and what an answer must begin with too. `circuit`: the relay's port it hangs on, or empty.
    """

    key: bytes
    mac: str
    uuid: bytes | None
    boot: Asker | None
    word: bytes
    circuit: bytes

    @property
    def is_firmware(self) -> bool:
        """PXE or HTTP boot, iPXE among them: a stage that lasts minutes."""
        return self.boot is not None


def client_of(packet: Packet) -> Client | None:
    """None if it cannot be told from others."""
    options = packet.options
    uuid = _uuid(options.get(o.MACHINE_ID))
    identifier = options.get(o.CLIENT_ID)
    if any(packet.chaddr):
        key = bytes((packet.htype & 255,)) + packet.chaddr
    elif uuid is not None:
        key = b"\x00uuid" + uuid
    elif identifier:
        key = b"\x00id" + identifier
    else:
        return None
    mac = packet.chaddr.hex(":")
    asker, word = _boot(packet, mac)
    circuit = options.get(o.RELAY_AGENT)
    return Client(key, mac, uuid, asker, word, o.inside(circuit).get(o.CIRCUIT_ID, b"") if circuit else b"")


def _uuid(value: bytes | None) -> bytes | None:
    """Type 0 and 16 bytes; all zero is what OVMF sends without a UUID."""
    return value[1:] if value is not None and len(value) == 17 and value[0] == 0 and any(value[1:]) else None


def _boot(packet: Packet, mac: str) -> tuple[Asker | None, bytes]:
    options = packet.options
    vendor = options.get(o.VENDOR_CLASS, b"")
    ipxe_facts = options.get(o.IPXE)
    ipxe = ipxe_facts is not None or (
        o.USER_CLASS in options and any(each.startswith(b"iPXE") for each in o.user_classes(options[o.USER_CLASS]))
    )
    word = _PXE if vendor.startswith(_PXE) else _HTTP if vendor.startswith(_HTTP) else b""
    if not word and not ipxe:
        return None, b""
    numbers = o.architectures(options.get(o.ARCHITECTURE))
    said = _ARCH.search(vendor)
    # Some ARM firmware sends 0 (or no 93) and the truth in its class.
    if said and (not numbers or numbers == (0,)):
        numbers = (int(said[1]),)
    if numbers in ((), (0,)) and mac[:8] in RASPBERRY_PI_CARDS:
        numbers = (RASPBERRY_PI,)
    able = not ipxe_facts or o.IPXE_HTTP in (known := o.inside(ipxe_facts)) or not known
    return Asker(mac, numbers, word == _HTTP, ipxe, able), word
