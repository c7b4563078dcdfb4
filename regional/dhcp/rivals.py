"""Which other DHCP servers were heard, and which of them should not be there; pure, time is an argument.

Machines take whichever answer comes first, so a second server gives some of them wrong addresses or no boot file, now
and then. Invariant: nobody is called a rival whom the configuration names, and not ourselves; where another server
gives the addresses (`proxy`), the first that does so is the network's own. What is kept is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from regional.dhcp import options as o
from regional.dhcp.packet import REPLY, Packet
from regional.dhcp.subnets import Subnet, Subnets

# Longer than the pause between two questions, however it is jittered; so a rival that is still there stays known.
_FORGET_QUESTIONS = 3
_LEAST_SECONDS = 900.0
_MOST = 64
_LONGEST_NAME = 80


@dataclass(frozen=True, slots=True)
class Rival:
    """`server`: its name in its answers (option 54). `deed`: what it does there, in words."""

    interface: str
    server: int
    deed: str
    last: float

    @property
    def words(self) -> str:
        return f"another DHCP server, {IPv4Address(self.server)}, {self.deed} on {self.interface}"


class Rivals:
    """`every_seconds`: how often somebody asks for them; 0: nobody does."""

    def __init__(self, subnets: Subnets, every_seconds: float = 0.0) -> None:
        self._subnets = subnets
        self._ours = frozenset(subnet.server for subnet in subnets.every)
        self._known: dict[tuple[str, int], Rival] = {}
        # Of networks whose addresses another server gives: which one.
        self._givers: dict[str, int] = {}
        self._kept_seconds = max(_LEAST_SECONDS, _FORGET_QUESTIONS * every_seconds)

    def heard(self, interface: str, packet: Packet, source: int, now: float) -> Rival | None:
        """An answer to some client; `source`: who sent it. Gives a rival that was not known before."""
        kind = packet.options.get(o.MESSAGE_TYPE, b"")
        if packet.op != REPLY or len(kind) != 1 or kind[0] not in (o.OFFER, o.ACK, o.NAK):
            return None
        server = o.read_address(packet.options.get(o.SERVER_ID)) or source
        subnet = self._subnets.find(interface, 0, 0)
        if subnet is None or not self._foreign(subnet, server):
            return None
        deed = self._deed(subnet, packet, server, kind[0])
        return self._noted(interface, server, deed, now) if deed else None

    def chosen(self, interface: str, server: int, now: float) -> Rival | None:
        """A client took this server's offer instead of ours; as `heard`."""
        return self._noted(interface, server, "gives addresses", now) if server not in self._ours else None

    def present(self, now: float) -> list[Rival]:
        late = [key for key, rival in self._known.items() if now - rival.last > self._kept_seconds]
        for key in late:
            del self._known[key]
        return list(self._known.values())

    def _foreign(self, subnet: Subnet, server: int) -> bool:
        return bool(server) and server not in self._ours and server not in subnet.others

    def _deed(self, subnet: Subnet, packet: Packet, server: int, kind: int) -> str:
        """Empty: it may do that."""
        name = _name(packet)
        if not subnet.proxy:
            if kind == o.NAK:
                return "refuses addresses"
            return "gives addresses" if packet.yiaddr else f"names the boot file {name}" if name else ""
        if name and o.VENDOR_CLASS in packet.options:
            # It answered firmware as a boot server does, not merely with a field that it always fills.
            return f"names the boot file {name}"
        if not packet.yiaddr or self._givers.setdefault(subnet.interface, server) == server:
            return ""
        return f"gives addresses, as {IPv4Address(self._givers[subnet.interface])} does,"

    def _noted(self, interface: str, server: int, deed: str, now: float) -> Rival | None:
        key = (interface, server)
        known = self._known.get(key)
        if known is not None and now - known.last <= self._kept_seconds:
            self._known[key] = replace(known, last=now)
            return None
        self.present(now)
        if len(self._known) >= _MOST:
            return None
        self._known[key] = Rival(interface, server, deed, now)
        return self._known[key]


def _name(packet: Packet) -> str:
    """As one harmless word: it comes from whoever is there."""
    found = (packet.options.get(o.BOOT_FILE) or packet.file).partition(b"\0")[0]
    text = found[:_LONGEST_NAME].decode("ascii", "replace")
    return "".join(each if each.isprintable() and each.isascii() else "?" for each in text)
