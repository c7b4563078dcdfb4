"""What clients send, for the tests."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Any

from regional.boot_targets import BootMap
from regional.dhcp import options as o
from regional.dhcp.handler import Arrival, Handler
from regional.dhcp.leases import LeaseBook
from regional.dhcp.packet import Packet
from regional.dhcp.subnets import Pool, Reservation, Subnet, Subnets, fixed_options

NETWORK = IPv4Network("10.77.0.0/24")
SERVER = int(IPv4Address("10.77.0.1"))
MAC = bytes.fromhex("525400123456")
OTHER = bytes.fromhex("525400abcdef")
HERE = Arrival("eth0", source=0, source_port=68)


def ip(text: str) -> int:
    return int(IPv4Address(text))


def subnet(**changes: Any) -> Subnet:
    facts: dict[str, Any] = {
        "network": NETWORK,
        "server": SERVER,
        "interface": "eth0",
        "pools": [Pool(ip("10.77.0.10"), ip("10.77.0.12"))],
        "reservations": [Reservation(mac="52:54:00:00:00:99", address=ip("10.77.0.99"), host_name="node-99")],
        "routers": [ip("10.77.0.254")],
        "options": fixed_options(NETWORK, [ip("10.77.0.254")], [ip("10.77.0.53")], domain="rack.example", mtu=1500),
        "authoritative": True,
    }
    return Subnet(**{**facts, **changes})


def book_of(*subnets: Subnet) -> tuple[LeaseBook, Handler]:
    every = Subnets(subnets or (subnet(),))
    book = LeaseBook(every)
    boot = BootMap("http://10.77.0.1:8081", "http://10.77.0.1:8081/boot/{mac}.ipxe")
    return book, Handler(every, book, boot)


def message(
    kind: int, mac: bytes = MAC, *, xid: int = 7, options: dict[int, bytes] | None = None, **more: Any
) -> Packet:
    return Packet(1, xid, mac, {o.MESSAGE_TYPE: bytes((kind,)), **(options or {})}, **more)


def discover(mac: bytes = MAC, **more: Any) -> Packet:
    return message(o.DISCOVER, mac, **more)


def request(address: str, mac: bytes = MAC, server: int | None = SERVER, **more: Any) -> Packet:
    options = {o.REQUESTED_ADDRESS: o.address(ip(address)), **more.pop("options", {})}
    if server is not None:
        options[o.SERVER_ID] = o.address(server)
    return message(o.REQUEST, mac, options=options, **more)


def firmware(architecture: int, word: str = "PXEClient") -> dict[int, bytes]:
    return {
        o.VENDOR_CLASS: f"{word}:Arch:{architecture:05}:UNDI:003000".encode(),
        o.ARCHITECTURE: architecture.to_bytes(2, "big"),
        o.UNDI: b"\x01\x03\x00",
        o.MACHINE_ID: b"\0" + bytes(16),
    }
