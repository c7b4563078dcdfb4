"""Does anybody use this address already? ARP where we are on the network, an ICMP echo where a relay is between.

Invariant: a probe takes `SECONDS` at most, and one that cannot be made says no: then DECLINE is what finds out.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from typing import Protocol

SECONDS = 0.4
_ETH_P_ARP = 0x0806
_BROADCAST = b"\xff" * 6
_ECHO, _ECHO_REPLY = 8, 0


class Probe(Protocol):
    async def in_use(self, interface: str, address: int) -> bool:
        """`interface` empty: behind a router."""
        ...


class NetworkProbe:
    async def in_use(self, interface: str, address: int) -> bool:
        try:
            async with asyncio.timeout(SECONDS):
                await (_arp(interface, address) if interface else _ping(address))
        except (TimeoutError, OSError):
            return False
        return True


async def _arp(interface: str, address: int) -> None:
    """RFC 5227 section 2.1.1: with no sender, so that nobody learns a false one. Returns when somebody answers."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ARP)) as found:
        found.bind((interface, _ETH_P_ARP))
        found.setblocking(False)
        own = found.getsockname()[4]
        target = address.to_bytes(4, "big")
        body = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, own, b"\0" * 4, b"\0" * 6, target)
        found.send(_BROADCAST + own + struct.pack("!H", _ETH_P_ARP) + body)
        while True:
            frame = await loop.sock_recv(found, 128)
            # Anybody who speaks as this address has it; our own question has no sender.
            if len(frame) >= 42 and frame[28:32] == target and frame[22:28] != own:
                return


async def _ping(address: int) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as found:
        found.setblocking(False)
        found.connect((socket.inet_ntoa(address.to_bytes(4, "big")), 0))
        name = os.getpid() & 0xFFFF
        head = struct.pack("!BBHHH", _ECHO, 0, 0, name, 1)
        total = sum(struct.unpack("!4H", head))
        found.send(head[:2] + struct.pack("!H", 0xFFFF - (total % 0xFFFF)) + head[4:])
        while True:
            data = await loop.sock_recv(found, 256)
            start = (data[0] & 15) * 4 if data else 0
            if len(data) >= start + 8 and data[start] == _ECHO_REPLY and data[start + 4 : start + 6] == head[4:6]:
                return
