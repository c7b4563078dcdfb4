"""Where a peer is: an address and a port that libtorrent can dial, from what people and trackers write."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

from common.bittorrent.checks import check_port
from common.bittorrent.failures import AddressInvalid


async def resolve(host: str, port: int) -> tuple[str, int]:
    """Raises `AddressInvalid`."""
    check_port(port)
    try:
        return str(ipaddress.ip_address(host)), port
    except ValueError:
        pass
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise AddressInvalid(f"{host} has no address", host=host) from error
    return str(found[0][4][0]), port
