"""What a description of a BMC may say; pure. Where a regional may reach one is the regional's own setting."""

from __future__ import annotations

import ipaddress
import re

from control_plane.machines.model import Firmware, Machine
from control_plane.machines.power.model import BmcInvalid, BmcProtocol, Login

_PORTS = {BmcProtocol.REDFISH: 443, BmcProtocol.IPMI: 623}
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_SYSTEM = re.compile(r"[A-Za-z0-9._~/:@-]{0,255}")
# IPMI v2.0 sections 13.20 and 22.30: 16 bytes of a name, 20 of a password.
_IPMI_NAME_BYTES, _IPMI_PASSWORD_BYTES = 16, 20
_MOST_BYTES = 256


def check_address(said: str) -> str:
    """An IP address: a name would let whoever answers for it choose where the password goes. Raises `BmcInvalid`."""
    try:
        address = ipaddress.ip_address(said.strip())
    except ValueError:
        raise BmcInvalid(f"{said[:80]!r} is no IP address", action="give the BMC's IP address, not a name") from None
    scoped = isinstance(address, ipaddress.IPv6Address) and (address.scope_id is not None or address.ipv4_mapped)
    if address.is_unspecified or address.is_multicast or scoped:
        raise BmcInvalid(f"{address} is nobody's address", action="give the BMC's plain IP address")
    return str(address)


def check_port(protocol: BmcProtocol, said: int | None) -> int:
    """Raises `BmcInvalid`."""
    port = _PORTS[protocol] if said is None else said
    if not 1 <= port <= 65535:
        raise BmcInvalid(f"{port} is no port", action="leave it out for the protocol's own")
    return port


def check_fingerprint(protocol: BmcProtocol, said: str) -> str:
    """With colons or without, as tools print it. Raises `BmcInvalid`."""
    plain = said.replace(":", "").replace(" ", "").lower()
    if plain and protocol is not BmcProtocol.REDFISH:
        raise BmcInvalid("IPMI shows no certificate", action="leave the fingerprint out")
    if plain and not _FINGERPRINT.fullmatch(plain):
        raise BmcInvalid(
            "that is no SHA-256 fingerprint", action="`openssl x509 -noout -fingerprint -sha256` of its certificate"
        )
    return plain


def check_system(protocol: BmcProtocol, said: str) -> str:
    """Its id, or its path. Raises `BmcInvalid`."""
    if said and protocol is not BmcProtocol.REDFISH:
        raise BmcInvalid("IPMI knows one system", action="leave the system out")
    if not _SYSTEM.fullmatch(said) or "//" in said or ".." in said:
        raise BmcInvalid(f"{said[:80]!r} is no system of a BMC", action="give its id as in /redfish/v1/Systems")
    return said


def check_login(protocol: BmcProtocol, login: Login) -> Login:
    """Raises `BmcInvalid`; the password is in no message."""
    name, password = (text.encode() for text in (login.username, login.password))
    ipmi = protocol is BmcProtocol.IPMI
    if len(name) > (_IPMI_NAME_BYTES if ipmi else _MOST_BYTES):
        raise BmcInvalid("the user's name is too long", action=f"IPMI takes {_IPMI_NAME_BYTES} bytes")
    if len(password) > (_IPMI_PASSWORD_BYTES if ipmi else _MOST_BYTES):
        raise BmcInvalid("the password is too long", action=f"IPMI takes {_IPMI_PASSWORD_BYTES} bytes")
    if not name or any(not letter.isprintable() for letter in login.username + login.password):
        raise BmcInvalid("a BMC needs a user, and letters that can be typed", action="give --user and a password")
    if not ipmi and ":" in login.username:
        raise BmcInvalid("a user's name has no colon", action="HTTP could not tell it from the password")
    return login


def boots_by_uefi(machine: Machine) -> bool:
    chosen = machine.boot.firmware
    if chosen is Firmware.AUTOMATIC:
        return machine.inventory.uefi if machine.inventory is not None else machine.architecture.startswith("uefi")
    return chosen is not Firmware.BIOS


def boots_by_http(machine: Machine) -> bool:
    return machine.boot.firmware in (Firmware.UEFI_HTTP_X64, Firmware.UEFI_HTTP_ARM64)
