"""DHCP as a machine without an address asks: broadcast on one interface, and whoever answers is heard."""

from __future__ import annotations

import asyncio
import secrets
import socket
from typing import Protocol

from common.errors import Unavailable
from regional.check.clients import Kind, discover
from regional.dhcp import options as o
from regional.dhcp.packet import REPLY, Packet, PacketInvalid, decode, encode

_CLIENT_PORT, _SERVER_PORT = 68, 67
# After the first offer others are still waited for: a second server is what confuses racks most.
_OTHERS_SECONDS = 1.0
_MOST_OFFERS = 32


class CannotAsk(Unavailable):
    code = "check_cannot_ask"


class Asker(Protocol):
    async def offers(self, kind: Kind) -> list[Packet]:
        """Raises `CannotAsk`."""
        ...


class Broadcast:
    def __init__(self, interface: str, wait_seconds: float) -> None:
        self._interface = interface
        self._wait_seconds = wait_seconds

    async def offers(self, kind: Kind) -> list[Packet]:
        with self._opened() as line:
            packet = discover(kind, secrets.randbits(32))
            found: list[Packet] = []
            loop = asyncio.get_running_loop()
            ends = loop.time() + self._wait_seconds
            again = loop.time()
            while loop.time() < ends and len(found) < _MOST_OFFERS:
                if loop.time() >= again and not found:  # firmware asks again as well
                    self._send(line, packet)
                    again += self._wait_seconds / 3
                offer = await self._hear(line, packet.xid, min(ends, ends if found else again) - loop.time())
                if offer is not None:
                    found.append(offer)
                    ends = min(ends, loop.time() + _OTHERS_SECONDS)
            return found

    def _send(self, line: socket.socket, packet: Packet) -> None:
        try:
            line.sendto(encode(packet), ("255.255.255.255", _SERVER_PORT))
        except OSError as error:
            raise self._cannot(error) from error

    async def _hear(self, line: socket.socket, xid: int, seconds: float) -> Packet | None:
        try:
            async with asyncio.timeout(max(seconds, 0.001)):
                while True:
                    data = await asyncio.get_running_loop().sock_recv(line, 4096)
                    try:
                        packet = decode(data)
                    except PacketInvalid:
                        continue
                    kind = packet.options.get(o.MESSAGE_TYPE, b"")
                    if packet.op == REPLY and packet.xid == xid and kind == bytes((o.OFFER,)):
                        return packet
        except TimeoutError:
            return None

    def _opened(self) -> socket.socket:
        line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._interface.encode())
            line.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            line.setblocking(False)
            line.bind(("", _CLIENT_PORT))
        except OSError as error:
            line.close()
            raise self._cannot(error) from error
        return line

    def _cannot(self, error: OSError) -> CannotAsk:
        return CannotAsk(
            f"DHCP cannot be asked for on {self._interface}: {error.strerror or error}",
            action="run this as root, name the interface with --interface, and stop a DHCP client that holds UDP 68; "
            "or leave DHCP out with --address",
        )
