"""Certificates for the swarms of this process: asked for when a swarm is joined, renewed in time, shown to peers.

Invariants: nobody waits for a certificate longer than some seconds, and a tenant's contents that are joined together
cost one question. A swarm whose certificate expired meets nobody until there is a new one. Peers look at certificates
in the handshake alone, so every connection is ended once an hour: one who lost the right keeps none for longer than the
life of its certificate and that hour.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from weakref import WeakKeyDictionary

import structlog

from common.backoff import jittered
from common.bittorrent import TorrentHandle
from common.bittorrent.credential_book import CredentialBook, Held
from common.bittorrent.credentials import Credentials
from common.bittorrent.metainfo import Metainfo
from common.clock import Clock
from common.errors import Failure, Unavailable

log = structlog.get_logger()

_ASK_SECONDS = 5.0
# After a question that failed: the centre is away for all contents of a tenant alike.
_PAUSE_SECONDS = 10.0
_ROUND_SECONDS = 20.0
_CONNECTION_SECONDS = 3600.0

# A certificate in PEM for that swarm, and for others of the tenant if need be. Raises `Failure`, TimeoutError, OSError.
Ask = Callable[[str, Metainfo], Awaitable[bytes]]
Members = Callable[[], Iterable[tuple[str, TorrentHandle]]]


class NoCredentials(Unavailable):
    """There is no certificate for a swarm, and nobody signs one now."""

    code = "no_swarm_credentials"


class CredentialKeeper:
    def __init__(self, book: CredentialBook, ask: Ask, clock: Clock, random: Callable[[], float]) -> None:
        self._book = book
        self._ask = ask
        self._clock = clock
        self._random = random
        self._locks: dict[str, asyncio.Lock] = {}
        self._paused: dict[str, tuple[float, str]] = {}
        self._reconnect_at: WeakKeyDictionary[TorrentHandle, float] = WeakKeyDictionary()

    async def obtain(self, tenant_id: str, metainfo: Metainfo) -> Credentials | None:
        """None for a swarm that speaks plainly. Raises `NoCredentials`."""
        if not metainfo.authority_pem:
            return None
        held = self._book.find(tenant_id, metainfo)
        if held is None:
            held = await self._renewed(tenant_id, metainfo)
        return held.credentials

    def retry_now(self) -> None:
        """Whoever signs is back, or tokens are new."""
        self._paused.clear()

    async def run(self, members: Members) -> None:
        """Until cancelled. `members`: the swarms that were joined, with their tenants."""
        while True:
            await self._clock.sleep(jittered(_ROUND_SECONDS, 0.2, self._random))
            await self.round(members)

    async def round(self, members: Members) -> None:
        for tenant_id, handle in list(members()):
            if handle.metainfo.authority_pem:
                try:
                    await self._tend(tenant_id, handle)
                except Failure as failure:
                    log.warning("swarm certificate not shown", name=handle.metainfo.name, error=str(failure))

    async def _tend(self, tenant_id: str, handle: TorrentHandle) -> None:
        now, shown = self._clock.now(), self._book.shown(tenant_id, handle.credentials)
        best = self._book.find(tenant_id, handle.metainfo)
        if best is None or best.is_due(now):
            try:
                best = await self._renewed(tenant_id, handle.metainfo)
            except NoCredentials:
                best = self._book.find(tenant_id, handle.metainfo)
        if best is None:
            if handle.credentials is not None:
                log.warning("swarm certificate expired", name=handle.metainfo.name, tenant=tenant_id)
                await handle.set_credentials(None)
        elif shown is None or (shown != best and shown.is_due(now)) or self._should_reconnect(handle):
            await handle.set_credentials(best.credentials)
            self._reconnect_at[handle] = self._clock.monotonic() + self._connection_seconds()

    def _should_reconnect(self, handle: TorrentHandle) -> bool:
        now = self._clock.monotonic()
        return now >= self._reconnect_at.setdefault(handle, now + self._connection_seconds())

    def _connection_seconds(self) -> float:
        return _CONNECTION_SECONDS * (0.8 + 0.2 * self._random())

    async def _renewed(self, tenant_id: str, metainfo: Metainfo) -> Held:
        """A certificate that is not due. Raises `NoCredentials`."""
        async with self._locks.setdefault(tenant_id, asyncio.Lock()):
            # Who held the lock before may have asked for this one too.
            held = self._book.find(tenant_id, metainfo)
            if held is not None and not held.is_due(self._clock.now()):
                return held
            until, reason = self._paused.get(tenant_id, (float("-inf"), ""))
            if self._clock.monotonic() < until:
                raise _no_credentials(metainfo, reason)
            try:
                async with asyncio.timeout(_ASK_SECONDS):
                    await self._book.keep(tenant_id, await self._ask(tenant_id, metainfo))
            except (Failure, TimeoutError, OSError) as error:
                reason = str(error) or type(error).__name__
                self._paused[tenant_id] = self._clock.monotonic() + jittered(_PAUSE_SECONDS, 0.5, self._random), reason
                log.warning("no swarm certificate", tenant=tenant_id, name=metainfo.name, error=reason)
                raise _no_credentials(metainfo, reason) from error
            held = self._book.find(tenant_id, metainfo)
            if held is None:
                raise _no_credentials(metainfo, "the certificate is not for this swarm")
            return held


def _no_credentials(metainfo: Metainfo, reason: str) -> NoCredentials:
    return NoCredentials(
        f"there is no certificate for the swarm of {metainfo.name}: {reason}",
        action="the content comes by HTTP meanwhile",
        retry_after_seconds=_PAUSE_SECONDS,
    )
