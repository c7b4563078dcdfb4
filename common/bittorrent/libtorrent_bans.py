"""Addresses that sent false bytes, for ten minutes.

libtorrent bans a peer by address and port, and a banned peer that connects by itself comes from another port: measured,
a liar was back every second, and each time some pieces were fetched for nothing. So its whole address is filtered, but
never the one that this process listens on, where other peers of the same machine may be.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterable
from typing import Any

import libtorrent as lt
import structlog

from common.bittorrent import BannedPeer

log = structlog.get_logger()

BAN_SECONDS = 600.0
# A liar that changes its address may not make the list grow without end; the oldest ban goes first.
_MAXIMUM = 1000


class Bans:
    """Times are seconds of any one clock that does not run backwards."""

    def __init__(self, own_address: str) -> None:
        self._own = ipaddress.ip_address(own_address)
        self._until: dict[str, float] = {}

    def add(self, address: str, now: float) -> bool:
        """Whether the list changed."""
        if ipaddress.ip_address(address) == self._own:
            return False
        changed = self._until.pop(address, None) is None
        self._until[address] = now + BAN_SECONDS
        if len(self._until) > _MAXIMUM:
            del self._until[next(iter(self._until))]
        return changed

    def expire(self, now: float) -> bool:
        """Whether the list changed."""
        over = [address for address, until in self._until.items() if until <= now]
        for address in over:
            del self._until[address]
        return bool(over)

    @property
    def addresses(self) -> Iterable[str]:
        return tuple(self._until)

    def filter(self) -> lt.ip_filter:
        rules = lt.ip_filter()
        for address in self._until:
            rules.add_rule(address, address, 1)
        return rules


class Warden:
    """Bans on one session: whom libtorrent banned is told once (`tell`) and its address filtered."""

    def __init__(self, own_address: str) -> None:
        self.tell: Callable[[BannedPeer], None] = lambda peer: None
        self._bans = Bans(own_address)

    def ban(self, session: Any, info_hash: bytes, alert: Any) -> None:
        """`alert`: libtorrent's peer_ban_alert."""
        address, port = alert.endpoint
        fingerprint = alert.pid.to_bytes()[:8].decode("ascii", "replace")
        log.warning("peer banned", address=address, port=port, fingerprint=fingerprint)
        if self._bans.add(address, asyncio.get_running_loop().time()) and session is not None:
            session.set_ip_filter(self._bans.filter())
        self.tell(BannedPeer(info_hash, address, port, fingerprint))

    def pardon(self, session: Any, now: float) -> None:
        """Whose time is over; call it now and then."""
        if self._bans.expire(now):
            session.set_ip_filter(self._bans.filter())
