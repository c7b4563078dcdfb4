"""Listening for other DHCP servers, and asking whether there are any, on the wire of one interface (Linux).

A packet socket with a filter of the kernel sees what goes to clients' port, whoever holds that port on this computer.
The question goes out as a frame, so our own server, which reads UDP, never sees it: no address is held for it. Behind
relays nothing can be heard. Invariant: nothing that is heard ends it, and it takes nothing away from anybody.
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from common.backoff import jittered
from common.clock import Clock
from regional.boot_targets import SELF_CHECK_MAC
from regional.dhcp import options as o
from regional.dhcp.packet import BROADCAST_FLAG, REQUEST, Packet, PacketInvalid, decode, encode
from regional.dhcp.replies import CLIENT_PORT, EVERYBODY, SERVER_PORT
from regional.dhcp.rivals import Rival, Rivals
from regional.dhcp.wire import datagram

log = structlog.get_logger()

_ETH_P_IP = 0x0800
_SO_ATTACH_FILTER = 26
_BROADCAST = b"\xff" * 6
_AT_ONCE = 32
_LARGEST = 4096
_SHARE = 0.2
_MAC = bytes.fromhex(SELF_CHECK_MAC.replace(":", ""))
# (code, jump if true, jump if false, operand): UDP, no later fragment, to the clients' port; all of it, or nothing.
_FILTER = (
    (0x30, 0, 0, 9),  # load the protocol
    (0x15, 0, 6, socket.IPPROTO_UDP),
    (0x28, 0, 0, 6),  # load flags and fragment offset
    (0x45, 4, 0, 0x1FFF),
    (0xB1, 0, 0, 0),  # X = length of the IP header
    (0x48, 0, 0, 2),  # load the destination port
    (0x15, 0, 1, CLIENT_PORT),
    (0x06, 0, 0, 0xFFFF),
    (0x06, 0, 0, 0),
)


@dataclass(frozen=True)
class Ear:
    interface: str
    frames: socket.socket


def open_ear(interface: str) -> Ear | None:
    """None where we may not: then rivals are known only by the clients that take their offers."""
    found: socket.socket | None = None
    try:
        # Without a protocol nothing arrives before the filter stands.
        found = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in _FILTER))
        found.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_FILTER), ctypes.addressof(program))
        )
        found.bind((interface, _ETH_P_IP))
        found.setblocking(False)
    except OSError as error:
        log.warning("other DHCP servers cannot be heard", interface=interface, error=str(error))
        if found is not None:
            found.close()
        return None
    return Ear(interface, found)


async def overhear(
    ears: Sequence[Ear], rivals: Rivals, every_seconds: float, clock: Clock, random: Callable[[], float]
) -> None:
    """Until it is cancelled. `every_seconds` 0: only listen. The ears stay the caller's."""
    loop = asyncio.get_running_loop()
    for ear in ears:
        loop.add_reader(ear.frames, partial(_readable, ear, rivals, clock))
    try:
        while every_seconds:
            for ear in ears:
                _ask(ear, int(random() * 0xFFFFFFFF))
            await clock.sleep(jittered(every_seconds, _SHARE, random))
        await loop.create_future()
    finally:
        for ear in ears:
            loop.remove_reader(ear.frames)


def question(xid: int) -> Packet:
    """As firmware asks, so that boot servers answer as well; who hears it in vain holds an address for a moment."""
    options = {
        o.MESSAGE_TYPE: bytes((o.DISCOVER,)),
        o.PARAMETERS: bytes((o.SUBNET_MASK, o.ROUTERS, o.SERVER_ID, o.VENDOR_CLASS, o.SERVER_NAME, o.BOOT_FILE)),
        o.VENDOR_CLASS: b"PXEClient:Arch:00007:UNDI:003000",
        o.ARCHITECTURE: b"\0\7",
        o.UNDI: b"\1\3\0",
        o.MACHINE_ID: b"\0" + bytes(10) + _MAC,
    }
    return Packet(REQUEST, xid, _MAC, options, flags=BROADCAST_FLAG, secs=4)


def answer_in(data: bytes) -> tuple[Packet, int] | None:
    """The message of an IP datagram, and who sent it. None: it is none."""
    head = (data[0] & 15) * 4 if data else 0
    if len(data) < head + 8 or head < 20:
        return None
    try:
        return decode(data[head + 8 :]), int.from_bytes(data[12:16], "big")
    except PacketInvalid:
        return None


def told(rival: Rival | None) -> None:
    if rival is not None:
        log.warning(
            rival.words,
            action="stop it, or name it in `other_servers` of this network in the DHCP configuration",
        )


def _ask(ear: Ear, xid: int) -> None:
    frame = datagram(encode(question(xid)), 0, EVERYBODY, (CLIENT_PORT, SERVER_PORT))
    try:
        ear.frames.sendto(frame, (ear.interface, _ETH_P_IP, 0, 0, _BROADCAST))
    except OSError as error:
        log.debug("other DHCP servers are not asked", interface=ear.interface, error=str(error))


def _readable(ear: Ear, rivals: Rivals, clock: Clock) -> None:
    for _ in range(_AT_ONCE):
        try:
            data = ear.frames.recv(_LARGEST)
        except OSError:
            return  # nothing more, or the interface went down; the socket stays good
        found = answer_in(data)
        if found is not None:
            told(rivals.heard(ear.interface, *found, clock.monotonic()))
