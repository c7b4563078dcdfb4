"""Codes and values of the options that we read or send; pure.

RFC 2132, 3004 (77), 3046 (82), 3397 (119), 3442 (121), 4578 (93, 94, 97), 5107 and 3527 (inside 82); 175 is iPXE's.
Invariant: what is read from a client is checked here, and is a value or absent, never an exception.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from common.errors import Invalid

PAD, END = 0, 255
SUBNET_MASK, ROUTERS, DNS, HOST_NAME, DOMAIN, MTU, BROADCAST, NTP = 1, 3, 6, 12, 15, 26, 28, 42
VENDOR, REQUESTED_ADDRESS, LEASE_SECONDS, OVERLOAD, MESSAGE_TYPE, SERVER_ID = 43, 50, 51, 52, 53, 54
PARAMETERS, MESSAGE, LONGEST, RENEW_SECONDS, REBIND_SECONDS, VENDOR_CLASS, CLIENT_ID = 55, 56, 57, 58, 59, 60, 61
SERVER_NAME, BOOT_FILE, USER_CLASS, RELAY_AGENT, ARCHITECTURE, UNDI, MACHINE_ID = 66, 67, 77, 82, 93, 94, 97
SUBNET_SELECTION, SEARCH, ROUTES, IPXE = 118, 119, 121, 175

DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM = range(1, 9)
NAMES = {1: "DISCOVER", 2: "OFFER", 3: "REQUEST", 4: "DECLINE", 5: "ACK", 6: "NAK", 7: "RELEASE", 8: "INFORM"}

# Inside option 82.
CIRCUIT_ID, LINK_SELECTION, SERVER_OVERRIDE = 1, 5, 11
# Inside option 43 of PXE (Intel's specification 2.1, table 2-1): bit 3 says, take the file of this very answer.
_DISCOVERY_CONTROL, _TAKE_THIS_FILE = 6, 8
# Inside option 175: what iPXE can, and that it shall not wait for a proxy.
IPXE_HTTP, _IPXE_NO_PROXY = 19, 176

PXE_VENDOR = bytes((_DISCOVERY_CONTROL, 1, _TAKE_THIS_FILE, END))
# Its boot ROM takes an answer only with this menu in it (raspberrypi.com's documentation, "PXE_OPTION43").
_PI_MENU, _PI_PROMPT = b"\0\0\x11Raspberry Pi Boot", b"\0PXE"
RASPBERRY_PI_VENDOR = (
    PXE_VENDOR[:-1]
    + b"".join(bytes((code, len(value))) + value for code, value in ((9, _PI_MENU), (10, _PI_PROMPT)))
    + bytes((END,))
)
IPXE_NO_PROXY = bytes((_IPXE_NO_PROXY, 1, 1))
_LONGEST_LABEL, _LONGEST_NAME = 63, 253


class OptionInvalid(Invalid):
    code = "dhcp_option_invalid"


def address(value: int) -> bytes:
    return value.to_bytes(4, "big")


def addresses(values: Iterable[int]) -> bytes:
    return b"".join(value.to_bytes(4, "big") for value in values)


def seconds(value: int) -> bytes:
    return struct.pack("!I", value)


def read_address(value: bytes | None) -> int:
    """0 if it is absent or not four bytes."""
    return int.from_bytes(value, "big") if value is not None and len(value) == 4 else 0


def search_list(domains: Sequence[str]) -> bytes:
    """RFC 3397 without compression, which some clients misread. Raises `OptionInvalid`."""
    return b"".join(_name(domain) for domain in domains)


def _name(domain: str) -> bytes:
    labels = domain.rstrip(".").split(".")
    try:
        written = [label.encode("ascii") for label in labels]
    except UnicodeEncodeError:
        raise OptionInvalid(f"{domain!r} is not ASCII", action="write it in its xn-- form") from None
    if not all(0 < len(label) <= _LONGEST_LABEL for label in written) or len(domain) > _LONGEST_NAME:
        raise OptionInvalid(f"{domain[:80]!r} is no domain name")
    return b"".join(bytes((len(label),)) + label for label in written) + b"\0"


def classless_routes(routes: Iterable[tuple[int, int, int]]) -> bytes:
    """(network, prefix length, gateway): RFC 3442 writes only the bytes of a network that its length covers."""
    return b"".join(
        bytes((prefix,)) + network.to_bytes(4, "big")[: (prefix + 7) // 8] + gateway.to_bytes(4, "big")
        for network, prefix, gateway in routes
    )


def inside(value: bytes | None) -> dict[int, bytes]:
    """The sub-options of 43, 82 and 175; those that run past the end are left out, and what follows them."""
    found: dict[int, bytes] = {}
    data, at = value or b"", 0
    while at < len(data):
        code = data[at]
        if code == PAD:
            at += 1
            continue
        if code == END or at + 1 >= len(data) or at + 2 + data[at + 1] > len(data):
            break
        found[code] = data[at + 2 : at + 2 + data[at + 1]]
        at += 2 + data[at + 1]
    return found


def user_classes(value: bytes | None) -> frozenset[bytes]:
    """Option 77 both ways: RFC 3004 has a length before each, iPXE and others send the bare word."""
    if not value:
        return frozenset()
    found, at = {value}, 0
    while at < len(value):
        size = value[at]
        if size == 0 or at + 1 + size > len(value):
            break
        found.add(value[at + 1 : at + 1 + size])
        at += 1 + size
    return frozenset(found)


def architectures(value: bytes | None) -> tuple[int, ...]:
    """Option 93: a list of 16-bit numbers, the preferred one first."""
    data = value or b""
    return tuple(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data) - 1, 2))
