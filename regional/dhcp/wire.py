"""Sockets for DHCP on one interface, and frames to clients that have no address yet (Linux).

Invariant: nothing is taken from or sent to another interface (SO_BINDTODEVICE), and answers leave from the address that
is the server's name in them (IP_PKTINFO), also where the interface has several.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from common.errors import Unavailable
from regional.dhcp.replies import CLIENT_PORT, SERVER_PORT, Destination

# A rack's worth of requests, while a commit is on its way to the disk.
_RECEIVE_BYTES = 4 << 20
_IP_PKTINFO = 8  # the socket module of Python 3.11 does not name it
_ETH_P_IP = 0x0800
_UDP = 17


class DhcpPortUnusable(Unavailable):
    code = "dhcp_port_unusable"


@dataclass(frozen=True)
class Line:
    """The sockets of one interface and port."""

    interface: str
    port: int
    udp: socket.socket
    frames: socket.socket | None

    def send(self, data: bytes, to: Destination, server: int) -> None:
        """Raises OSError. Never blocks: what does not fit into the kernel's buffer is lost, as on any wire."""
        if to.mac and self.frames is not None:
            packet = datagram(data, server, to.address)
            self.frames.sendto(packet, (self.interface, _ETH_P_IP, 0, 0, to.mac))
            return
        # Without frames the client is reached as everybody is.
        address = "255.255.255.255" if to.mac else socket.inet_ntoa(to.address.to_bytes(4, "big"))
        source = [(socket.IPPROTO_IP, _IP_PKTINFO, struct.pack("=iII", 0, socket.htonl(server), 0))]
        self.udp.sendmsg([data], source, 0, (address, to.port))

    def close(self) -> None:
        self.udp.close()
        if self.frames is not None:
            self.frames.close()


def open_line(interface: str, port: int) -> Line:
    """Raises `DhcpPortUnusable`."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        udp.setblocking(False)
        udp.bind(("", port))
    except OSError as error:
        udp.close()
        raise DhcpPortUnusable(
            f"UDP port {port} of {interface} cannot be used for DHCP: {error.strerror}",
            action="check --interface, stop other DHCP servers, and give CAP_NET_RAW and CAP_NET_BIND_SERVICE",
        ) from error
    return Line(interface, port, udp, _frames())


def _frames() -> socket.socket | None:
    try:
        found = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    except OSError:
        return None
    found.setblocking(False)
    return found


def datagram(data: bytes, source: int, target: int, ports: tuple[int, int] = (SERVER_PORT, CLIENT_PORT)) -> bytes:
    """IP and UDP around `data`; `ports`: from and to (RFC 791, RFC 768)."""
    size = 8 + len(data)
    pseudo = struct.pack("!IIBBHHHHH", source, target, 0, _UDP, size, *ports, size, 0)
    udp = struct.pack("!HHHH", *ports, size, checksum(pseudo + data) or 0xFFFF)
    head = struct.pack("!BBHHHBBHII", 0x45, 0x10, 20 + size, 0, 0, 64, _UDP, 0, source, target)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + udp + data


def checksum(data: bytes) -> int:
    """RFC 1071: the sum modulo 65535, which is what the sum of 16-bit words with carries is."""
    if len(data) & 1:
        data += b"\0"
    return 0xFFFF - (int.from_bytes(data, "big") % 0xFFFF or 0xFFFF)
