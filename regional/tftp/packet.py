"""The packets of TFTP as bytes and back: RFC 1350 (sections 4, 5, 7), RFC 2347 (options).

Invariant: `decode` returns a packet or raises `PacketMalformed`, whatever the bytes; what it returns encodes to what
decodes to the same packet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from common.errors import Invalid

READ, WRITE, DATA, ACK, ERROR, OPTION_ACK = 1, 2, 3, 4, 5, 6
HEADER_BYTES = 4
# RFC 2347: a request may not be longer.
LONGEST_REQUEST = 512
_LONGEST_MESSAGE = 256
_LONG_WORD = re.compile(r"[A-Za-z0-9_-]{40,}")


class PacketMalformed(Invalid):
    code = "tftp_packet_malformed"


class ErrorCode(IntEnum):
    """RFC 1350, appendix I; 8 is of RFC 2347."""

    UNDEFINED = 0
    NOT_FOUND = 1
    ACCESS = 2
    DISK_FULL = 3
    ILLEGAL = 4
    UNKNOWN_TRANSFER = 5
    EXISTS = 6
    NO_USER = 7
    OPTIONS = 8


@dataclass(frozen=True, slots=True)
class Request:
    """RRQ, or with `writes` WRQ. `mode` and the options' names are in lower case; of two alike the first counts."""

    name: str
    mode: str = "octet"
    options: Mapping[str, str] = field(default_factory=dict)
    writes: bool = False

    @property
    def shown(self) -> str:
        """Its name for logs and timelines, without a word that could be a boot's token."""
        return _LONG_WORD.sub("...", self.name)[:200]


@dataclass(frozen=True, slots=True)
class Data:
    block: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Ack:
    block: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """ERROR. `error` is a number of the wire, also one that no RFC names."""

    error: int
    message: str = ""


@dataclass(frozen=True, slots=True)
class OptionAck:
    options: Mapping[str, str]


Packet = Request | Data | Ack | Refusal | OptionAck


def encode(packet: Packet) -> bytes:
    match packet:
        case Request(name, mode, options, writes):
            return _number(WRITE if writes else READ) + _strings(name, mode, *_flat(options))
        case Data(block, payload):
            return _number(DATA) + _number(block) + payload
        case Ack(block):
            return _number(ACK) + _number(block)
        case Refusal(error, message):
            return _number(ERROR) + _number(error) + _strings(message.replace("\0", " ")[:_LONGEST_MESSAGE])
        case OptionAck(options):
            return _number(OPTION_ACK) + _strings(*_flat(options))


def decode(packet: bytes) -> Packet:
    """Raises `PacketMalformed`."""
    if len(packet) < HEADER_BYTES:
        raise PacketMalformed(f"a packet of {len(packet)} bytes is too short")
    operation, block, body = int.from_bytes(packet[:2], "big"), int.from_bytes(packet[2:4], "big"), packet[4:]
    if operation in (READ, WRITE):
        return _request(packet, operation == WRITE)
    if operation == DATA:
        return Data(block, bytes(body))
    if operation == ACK:
        # Some firmware pads its acknowledgements to the least Ethernet frame.
        return Ack(block)
    if operation == ERROR:
        return Refusal(block, body.split(b"\0", 1)[0].decode("utf-8", "replace")[:_LONGEST_MESSAGE])
    if operation == OPTION_ACK:
        return OptionAck(_options(_split(packet[2:])))
    raise PacketMalformed(f"operation {operation} is none of TFTP's")


def _request(packet: bytes, writes: bool) -> Request:
    if len(packet) > LONGEST_REQUEST:
        raise PacketMalformed(f"a request of {len(packet)} bytes is longer than {LONGEST_REQUEST}")
    strings = _split(packet[2:])
    if len(strings) < 2 or not strings[0] or not strings[1]:
        raise PacketMalformed("a request without a file name or a mode")
    name, mode, *rest = strings
    if not name.isprintable():
        raise PacketMalformed("a file name with control characters")
    return Request(name, mode.lower(), _options(rest), writes)


def _split(body: bytes) -> list[str]:
    """The strings that NULs end."""
    *parts, rest = bytes(body).split(b"\0")
    if rest:
        raise PacketMalformed("the last string has no end")
    try:
        return [part.decode("utf-8") for part in parts]
    except UnicodeDecodeError:
        raise PacketMalformed("a string that is no UTF-8") from None


def _options(strings: list[str]) -> dict[str, str]:
    while strings and not strings[-1]:
        strings = strings[:-1]  # padding
    if len(strings) % 2:
        raise PacketMalformed("an option without a value")
    found: dict[str, str] = {}
    for name, value in zip(strings[::2], strings[1::2], strict=True):
        if not name or not value:
            raise PacketMalformed("an option with an empty name or value")
        found.setdefault(name.lower(), value)
    return found


def _flat(options: Mapping[str, str]) -> list[str]:
    return [text for option in options.items() for text in option]


def _strings(*texts: str) -> bytes:
    return b"".join(text.encode() + b"\0" for text in texts)


def _number(value: int) -> bytes:
    return value.to_bytes(2, "big")
