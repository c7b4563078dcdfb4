"""What DHCP tells whoever keeps a machine's boot together (timeline, verdicts, sightings); pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from uuid import UUID

from regional.dhcp.handler import Outcome


@dataclass(frozen=True, slots=True)
class DhcpSeen:
    """One answer that left, or a request that got none. `verdict`: as in the metrics (offer, ack, nak, proxy offer,
    proxy ack, inform, declined, no address free, too many newcomers, nothing to boot, another server's, ...). `boots`:
    it is firmware or iPXE that wants a boot file; `file`: the one it was given. `address`: the one it was promised.
    `server`: another one, whose offer it took, and that nobody told us of.
    """

    mac: str
    verdict: str
    interface: str
    address: str | None = None
    uuid: UUID | None = None
    boots: bool = False
    ipxe: bool = False
    http: bool = False
    architectures: tuple[int, ...] = ()
    file: str | None = None
    server: str | None = None


Watch = Callable[[DhcpSeen], None]


def nobody_watches(_: DhcpSeen) -> None:
    return


def seen(outcome: Outcome, interface: str) -> DhcpSeen | None:
    """None: nobody who can be told from others."""
    client, answer = outcome.client, outcome.answer
    if client is None:
        return None
    asker = client.boot
    return DhcpSeen(
        client.mac,
        outcome.verdict,
        interface,
        str(IPv4Address(answer.yiaddr)) if answer is not None and answer.yiaddr else None,
        UUID(bytes=client.uuid) if client.uuid else None,
        client.is_firmware,
        asker.ipxe if asker else False,
        asker.http if asker else False,
        asker.architectures if asker else (),
        outcome.boot.name if outcome.boot else None,
        str(IPv4Address(outcome.chosen)) if outcome.chosen else None,
    )
