"""An answer to who looks for an IPv6 router: there is none, and no DHCPv6 either (RFC 4861).

iPXE asks on IPv6 too before it boots, and waits some 13 s if nobody answers (measured: 21 s until it fetched its
script). Invariant: nothing is configured by it: router lifetime 0, no prefix, no flags, so no host gets an address or a
route. Off unless a subnet asks for it: firmware whose IPv6 is faulty had better not be talked to.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Sequence
from functools import partial

import structlog

from common.clock import Clock
from regional.dhcp.rates import Rate, RateLimit

log = structlog.get_logger()
_SOLICITATION, _ADVERTISEMENT = 133, 134
_ALL_NODES, _ALL_ROUTERS = "ff02::1", "ff02::2"
_HOP_LIMIT = 255  # section 6.1: others are not believed
_ICMP6_FILTER = 1
_RATE = Rate(each_second=5, burst=5)
# Type, code, sum (the kernel's), hop limit, flags, lifetime, reachable and retransmission time.
_MESSAGE = struct.pack("!BBHBBHII", _ADVERTISEMENT, 0, 0, 64, 0, 0, 0, 0)


def open_advertiser(interface: str) -> socket.socket | None:
    """None where IPv6 is off: then nobody waits for it to be answered by us."""
    index = 0
    found: socket.socket | None = None
    try:
        index = socket.if_nametoindex(interface)
        found = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        passed = 0xFFFFFFFF & ~(1 << (_SOLICITATION & 31))
        words = [0xFFFFFFFF] * 8
        words[_SOLICITATION >> 5] = passed
        found.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, struct.pack("=8I", *words))
        group = socket.inet_pton(socket.AF_INET6, _ALL_ROUTERS) + struct.pack("=I", index)
        found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
        found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, _HOP_LIMIT)
        found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        found.setblocking(False)
    except OSError as error:
        log.warning("no IPv6 answers on this interface", interface=interface, error=str(error))
        if found is not None:
            found.close()
        return None
    return found


async def advertise(sockets: Sequence[socket.socket], clock: Clock) -> None:
    """Until it is cancelled. The sockets stay the caller's."""
    loop = asyncio.get_running_loop()
    limit = RateLimit(_RATE)
    for each in sockets:
        loop.add_reader(each, partial(_solicited, each, limit, clock))
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        for each in sockets:
            loop.remove_reader(each)


def _solicited(found: socket.socket, limit: RateLimit, clock: Clock) -> None:
    try:
        found.recv(256)
        if limit.allows(str(found.fileno()).encode(), clock.monotonic()):
            found.sendto(_MESSAGE, (_ALL_NODES, 0))
    except OSError as error:
        log.debug("an IPv6 router solicitation is not answered", error=str(error))
