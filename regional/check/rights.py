"""Which ports a regional uses, and what it must be allowed for them; pure. docs/operations/boot-files.md shows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Need:
    port: str
    what: str
    setting: str
    rights: str


NEEDS = (
    Need("UDP 67, 4011", "DHCP and PXE", "enable_dhcp", "CAP_NET_BIND_SERVICE, CAP_NET_RAW"),
    Need(
        "UDP 69", "TFTP; transfers from high ports, or 69 with tftp_single_port", "enable_tftp", "CAP_NET_BIND_SERVICE"
    ),
    Need("TCP 8081", "HTTP: files, scripts, device API, tracker", "api_port", "none"),
    Need("TCP 8443", "the same by HTTPS, with a certificate", "tls_port", "none"),
    Need("TCP content", "contents, for agents", "content_port", "none"),
    Need("TCP registry", "/v2/, for engines", "registry_port", "none"),
    Need("TCP and UDP peer", "BitTorrent", "peer_port", "none"),
    Need("-", "seeing that files of others are still being written", "settle_seconds", "CAP_LEASE (or time)"),
    Need("UDP 68", "`check`: asking for DHCP", "-", "CAP_NET_BIND_SERVICE, CAP_NET_RAW"),
)


def table() -> str:
    rows = [("port", "what", "setting", "rights"), *((n.port, n.what, n.setting, n.rights) for n in NEEDS)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
