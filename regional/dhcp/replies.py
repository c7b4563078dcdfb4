"""What an answer says and where it goes: options in their order of weight, the boot file, the address; pure.

Invariant: `xid`, `chaddr`, `flags`, `giaddr` and option 82 go back as they came (RFC 2131 section 4.3.1, RFC 3046), and
the boot file stands in the fixed field and in the option, for ROMs read one or the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from regional.boot_targets import RASPBERRY_PI, BootFile
from regional.dhcp import options as o
from regional.dhcp.client import Client
from regional.dhcp.packet import BROADCAST_FLAG, LEAST_LIMIT, REPLY, Packet
from regional.dhcp.subnets import Reservation, Subnet

SERVER_PORT, CLIENT_PORT, PROXY_PORT = 67, 68, 4011
EVERYBODY = 0xFFFFFFFF
_LONGEST_FILE = 127
_MOST_CHOICES = 1024
# RFC 3046 section 2.0 gives it one length byte. A longer one is nobody's relay, and would leave no room for an answer.
_LONGEST_RELAY = 255
# Given whether asked for or not: without them a lease is of little use. Others only to who asks (55).
_ALWAYS = frozenset({o.SUBNET_MASK, o.ROUTERS, o.BROADCAST})


@dataclass(frozen=True, slots=True)
class Destination:
    """`mac`: the client has no address yet, so the frame is addressed to its card, and nobody is asked for it."""

    address: int
    port: int
    mac: bytes = b""


class Options:
    """Chooses what a client asked for; the choice is kept, since a rack asks in one way."""

    def __init__(self) -> None:
        self._chosen: dict[tuple[Subnet, bytes | None], Mapping[int, bytes]] = {}

    def of(self, subnet: Subnet, wanted: bytes | None) -> Mapping[int, bytes]:
        found = self._chosen.get((subnet, wanted))
        if found is None:
            found = {
                code: value
                for code, value in subnet.options.items()
                if wanted is None or code in _ALWAYS or code in wanted
            }
            if len(self._chosen) >= _MOST_CHOICES:
                self._chosen.clear()
            self._chosen[subnet, wanted] = found
        return found


def reply(
    request: Packet,
    kind: int,
    server_id: int,
    options: Mapping[int, bytes],
    *,
    address: int = 0,
    next_server: int = 0,
    boot: BootFile | None = None,
) -> Packet:
    """`options` follow the type and the server's name in the order that is given."""
    every = {o.MESSAGE_TYPE: bytes((kind,)), o.SERVER_ID: o.address(server_id), **options}
    if o.CLIENT_ID in request.options:  # RFC 6842
        every[o.CLIENT_ID] = request.options[o.CLIENT_ID]
    relay = request.options.get(o.RELAY_AGENT)
    if relay is not None and len(relay) <= _LONGEST_RELAY:
        every[o.RELAY_AGENT] = relay
    sname = file = b""
    if boot is not None:
        name = boot.name.encode()
        file = name if len(name) <= _LONGEST_FILE else b""
        sname = b"" if boot.url else str(IPv4Address(next_server)).encode()
    return Packet(
        REPLY, request.xid, request.chaddr, every, request.htype, 0, 0, request.flags,
        request.ciaddr if kind == o.ACK else 0, address, next_server if boot else 0, request.giaddr, sname, file,
    )  # fmt: skip


def lease_times(seconds: int) -> dict[int, bytes]:
    """RFC 2131 section 4.4.5: half, and seven eighths."""
    return {
        o.LEASE_SECONDS: o.seconds(seconds),
        o.RENEW_SECONDS: o.seconds(seconds // 2),
        o.REBIND_SECONDS: o.seconds(seconds * 7 // 8),
    }


def boot_options(request: Packet, client: Client, server: int, boot: BootFile | None) -> dict[int, bytes]:
    if client.boot is None:
        return {}
    found: dict[int, bytes] = {}
    if client.word and boot is not None:
        found[o.VENDOR_CLASS] = client.word
    if o.MACHINE_ID in request.options:
        found[o.MACHINE_ID] = request.options[o.MACHINE_ID]
    if boot is None:
        return found
    found[o.BOOT_FILE] = boot.name.encode()
    if not boot.url:
        found[o.SERVER_NAME] = str(IPv4Address(server)).encode()
    if client.boot.ipxe:
        found[o.IPXE] = o.IPXE_NO_PROXY
    elif client.word == b"PXEClient" and client.boot.architectures in ((), (0,)):
        # Old ROMs look for boot servers unless they are told not to; UEFI firmware takes any 43 for a menu.
        found[o.VENDOR] = o.PXE_VENDOR
    elif client.boot.architectures == (RASPBERRY_PI,):
        found[o.VENDOR] = o.RASPBERRY_PI_VENDOR
    return found


def host_options(reservation: Reservation | None, wanted: bytes | None) -> dict[int, bytes]:
    if reservation is None or not reservation.host_name or (wanted is not None and o.HOST_NAME not in wanted):
        return {}
    return {o.HOST_NAME: reservation.host_name.encode()}


def size_limit(request: Packet) -> int:
    """Of UDP payload, from option 57 (of IP datagrams); never beyond Ethernet, as some say 65280."""
    said = request.options.get(o.LONGEST)
    if said is None or len(said) != 2:
        return LEAST_LIMIT
    return min(1472, max(LEAST_LIMIT, int.from_bytes(said, "big") - 28))


def destination(request: Packet, answer: Packet, kind: int) -> Destination:
    """RFC 2131 section 4.1."""
    if request.giaddr:
        return Destination(request.giaddr, SERVER_PORT)
    if kind == o.NAK:
        return Destination(EVERYBODY, CLIENT_PORT)
    if request.ciaddr:
        return Destination(request.ciaddr, CLIENT_PORT)
    if request.flags & BROADCAST_FLAG or not answer.yiaddr or len(request.chaddr) != 6:
        return Destination(EVERYBODY, CLIENT_PORT)
    return Destination(answer.yiaddr, CLIENT_PORT, request.chaddr)
