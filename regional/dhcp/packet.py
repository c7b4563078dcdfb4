"""The DHCP message on the wire (RFC 2131 section 2, RFC 2132, RFC 3396); pure.

Invariant: `decode` raises `PacketInvalid` and nothing else, whatever the bytes are; what `encode` writes with room
enough decodes to the same packet. IPv4 addresses are integers here: an `IPv4Address` costs a microsecond, and a packet
has four besides its options.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from common.errors import Invalid
from regional.dhcp.options import END, OVERLOAD, PAD, RELAY_AGENT

REQUEST, REPLY = 1, 2
BROADCAST_FLAG = 0x8000
# 576 bytes of IP datagram, which every client must take (RFC 2131 section 2), less the headers of IP and UDP.
LEAST_LIMIT = 548
# Some relays and firmware drop less than BOOTP's fixed size (RFC 1542 section 2.1).
LEAST_SIZE = 300
_COOKIE = b"\x63\x82\x53\x63"
_HEADER = struct.Struct("!BBBBIHHIIII16s64s128s4s")
_HEADER_SIZE = _HEADER.size
_LONGEST_CHADDR, _SNAME, _FILE = 16, 64, 128
_MOST_HOPS = 16
_USE_FILE, _USE_SNAME = 1, 2


class PacketInvalid(Invalid):
    code = "dhcp_packet_invalid"


@dataclass(frozen=True, slots=True)
class Packet:
    """`chaddr` has the length that `hlen` says. `options` in the order of the wire, long ones joined (RFC 3396);
    `sname` and `file` end before their first zero byte.
    """

    op: int
    xid: int
    chaddr: bytes
    options: Mapping[int, bytes] = field(default_factory=dict)
    htype: int = 1
    hops: int = 0
    secs: int = 0
    flags: int = 0
    ciaddr: int = 0
    yiaddr: int = 0
    siaddr: int = 0
    giaddr: int = 0
    sname: bytes = b""
    file: bytes = b""


def decode(data: bytes) -> Packet:
    """Raises `PacketInvalid`."""
    if len(data) < _HEADER_SIZE:
        raise PacketInvalid(f"{len(data)} bytes are no DHCP message: it has {_HEADER_SIZE} at least")
    op, htype, hlen, hops, xid, secs, flags, ciaddr, yiaddr, siaddr, giaddr, chaddr, sname, file, cookie = (
        _HEADER.unpack_from(data)
    )
    if cookie != _COOKIE:
        raise PacketInvalid("a BOOTP message without DHCP's magic cookie")
    if op not in (REQUEST, REPLY):
        raise PacketInvalid(f"operation {op} is neither a request nor a reply")
    if hlen > _LONGEST_CHADDR:
        raise PacketInvalid(f"a hardware address of {hlen} bytes, where {_LONGEST_CHADDR} is the most")
    if hops > _MOST_HOPS:
        raise PacketInvalid(f"passed by {hops} relays, where {_MOST_HOPS} is the most (RFC 1542 section 4.1.1)")
    options: dict[int, bytes] = {}
    _parse(data, _HEADER_SIZE, len(data), options)
    overload = options.pop(OVERLOAD, b"")
    if overload:
        file, sname = _overloaded(overload, file, sname, options)
    return Packet(
        op, xid, chaddr[:hlen], options, htype, hops, secs, flags, ciaddr, yiaddr, siaddr, giaddr,
        sname.partition(b"\0")[0], file.partition(b"\0")[0],
    )  # fmt: skip


def _overloaded(overload: bytes, file: bytes, sname: bytes, options: dict[int, bytes]) -> tuple[bytes, bytes]:
    """What is left of file and sname. `file` is read before `sname` (RFC 3396 section 5)."""
    which = overload[0]
    if len(overload) != 1 or which not in (1, 2, 3):
        raise PacketInvalid(f"option overload (52) is {overload[:4].hex()}, not 1, 2 or 3")
    if which & _USE_FILE:
        _parse(file, 0, _FILE, options)
        file = b""
    if which & _USE_SNAME:
        _parse(sname, 0, _SNAME, options)
        sname = b""
    # Overload inside an overloaded field means nothing (RFC 2131 section 4.1).
    options.pop(OVERLOAD, None)
    return file, sname


def _parse(data: bytes, at: int, end: int, into: dict[int, bytes]) -> None:
    """A missing END is tolerated: several ROMs fill to the end of the datagram instead."""
    while at < end:
        code = data[at]
        if code == PAD:
            at += 1
            continue
        if code == END:
            return
        if at + 1 >= end:
            raise PacketInvalid(f"option {code} has no length")
        start = at + 2
        at = start + data[at + 1]
        if at > end:
            raise PacketInvalid(f"option {code} runs {at - end} bytes past the end")
        value = data[start:at]
        into[code] = into[code] + value if code in into else value


def encode(packet: Packet, limit: int = 65535, overload: bool = True) -> bytes:
    """At most `limit` bytes (of UDP payload), 300 at least. Options that find no room are left out from the end, never
    the relay's (82), which is last (RFC 3046 section 2.2). `overload` allows them in unused `file` and `sname`: ROMs
    that boot do not all read those, so it is for others. Raises `PacketInvalid` if a field cannot be written.
    """
    if len(packet.chaddr) > _LONGEST_CHADDR or len(packet.sname) > _SNAME or len(packet.file) > _FILE:
        raise PacketInvalid("a hardware address, server name or boot file name is too long for its field")
    relay = packet.options.get(RELAY_AGENT)
    tail = (b"" if relay is None else b"".join(_chunks(RELAY_AGENT, relay))) + b"\xff"
    area, sname, file = _fill(packet, limit - _HEADER_SIZE - len(tail), overload)
    head = _HEADER.pack(
        packet.op, packet.htype, len(packet.chaddr), packet.hops, packet.xid, packet.secs, packet.flags, packet.ciaddr,
        packet.yiaddr, packet.siaddr, packet.giaddr, packet.chaddr, sname, file, _COOKIE,
    )  # fmt: skip
    return (head + area + tail).ljust(LEAST_SIZE, b"\0")


def _fill(packet: Packet, room: int, overload: bool) -> tuple[bytes, bytes, bytes]:
    """The options' area, sname and file."""
    written = {code: _chunks(code, value) for code, value in packet.options.items() if code != RELAY_AGENT}
    whole = b"".join(chunk for chunks in written.values() for chunk in chunks)
    if len(whole) <= room:
        return whole, packet.sname, packet.file
    spare_file = _FILE - 1 if overload and not packet.file else 0
    spare_sname = _SNAME - 1 if overload and not packet.sname else 0
    overload_size = 3 if spare_file or spare_sname else 0
    areas = _Areas((room - overload_size, spare_file, spare_sname))
    for chunks in written.values():
        areas.place(chunks)
    options, file, sname = areas.content
    which = (_USE_FILE if file else 0) | (_USE_SNAME if sname else 0)
    if which:
        options += bytes((OVERLOAD, 1, which))
    return options, sname + b"\xff" if sname else packet.sname, file + b"\xff" if file else packet.file


class _Areas:
    """Options, file, sname, in the order in which they are read: parts of one option stand in that order too."""

    def __init__(self, room: tuple[int, int, int]) -> None:
        self._room = list(room)
        self._content = [b"", b"", b""]

    @property
    def content(self) -> tuple[bytes, bytes, bytes]:
        first, second, third = self._content
        return first, second, third

    def place(self, chunks: Iterable[bytes]) -> None:
        """All of it, or nothing."""
        content, room, area = list(self._content), list(self._room), 0
        for chunk in chunks:
            while area < len(room) and room[area] < len(chunk):
                area += 1
            if area == len(room):
                return
            content[area] += chunk
            room[area] -= len(chunk)
        self._content, self._room = content, room


def _chunks(code: int, value: bytes) -> list[bytes]:
    """RFC 3396 section 6: parts of at most 255 bytes."""
    if not 0 < code < END:
        raise PacketInvalid(f"{code} is no code of an option")
    if len(value) <= 255:
        return [bytes((code, len(value))) + value]
    parts = [value[at : at + 255] for at in range(0, len(value), 255)]
    return [bytes((code, len(part))) + part for part in parts]
