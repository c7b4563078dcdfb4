"""A boot firmware's TFTP client, packet by packet, for the tests."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from regional.tftp.packet import Ack, Data, OptionAck, Packet, Refusal, Request, decode, encode

Address = tuple[Any, ...]


class Firmware:
    """One UDP port. `server` is where requests go; `peer` who answered first."""

    def __init__(self, server: Address) -> None:
        self.server, self.peer = server, server
        family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind((server[0], 0))

    def close(self) -> None:
        self.socket.close()

    def ask(self, name: str, mode: str = "octet", **options: int) -> None:
        self.peer = self.server
        self.send(Request(name, mode, {key: str(value) for key, value in options.items()}), self.server)

    def send(self, packet: Packet | bytes, to: Address | None = None) -> None:
        self.socket.sendto(packet if isinstance(packet, bytes) else encode(packet), to or self.peer)

    async def hear(self, seconds: float = 5.0) -> Packet:
        """The next packet. Raises `TimeoutError`."""
        async with asyncio.timeout(seconds):
            packet, self.peer = await asyncio.get_running_loop().sock_recvfrom(self.socket, 65536)
        return decode(packet)

    async def silent(self, seconds: float = 0.15) -> bool:
        try:
            await self.hear(seconds)
        except TimeoutError:
            return True
        return False

    async def fetch(self, name: str, mode: str = "octet", lose: int = 0, **options: int) -> bytes:
        """A whole file; every `lose`th block is lost once. Raises `AssertionError` with the server's ERROR."""
        lost = -1
        self.ask(name, mode, **options)
        content, block, in_window, block_bytes, window = bytearray(), 0, 0, 512, 1
        while True:
            packet = await self.hear()
            if isinstance(packet, OptionAck):
                block_bytes, window = (
                    int(packet.options.get(key, usual)) for key, usual in (("blksize", 512), ("windowsize", 1))
                )
                self.send(Ack(0))
                continue
            assert isinstance(packet, Data), packet
            if lose and block + 1 > lost and (block + 1) % lose == 0:
                lost = block + 1
                continue
            if packet.block != (block + 1) & 0xFFFF:
                if in_window and packet.block == (block + 2) & 0xFFFF:  # a gap
                    in_window = 0
                    self.send(Ack(block & 0xFFFF))
                continue
            block, in_window = block + 1, in_window + 1
            content += packet.payload
            last = len(packet.payload) < block_bytes
            if last or in_window == window:
                in_window = 0
                self.send(Ack(block & 0xFFFF))
            if last:
                return bytes(content)

    async def refused(self, seconds: float = 5.0) -> int:
        packet = await self.hear(seconds)
        assert isinstance(packet, Refusal), packet
        return packet.error
