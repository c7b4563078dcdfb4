"""Who sent this host false bytes: said to the IDC's regional, whose tracker may know whose address that is and heed it,
and to the control plane, which keeps and shows it.

Invariant: a report is never in the way of a download, and however much somebody lies, what is reported is bounded: a
banned address stays banned for ten minutes (common/bittorrent/libtorrent_bans.py), and no more than `_MOST_AN_HOUR`
are told. What is said here takes no right from anybody by itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import structlog

from agent.content_http import ContentHttp, Source
from agent.desired import DesiredBook
from agent.ledger import ContentKey
from agent.offence import Offence, OffenceKind
from agent.reporter import Reporter
from common.bittorrent import BannedPeer
from common.clock import Clock
from common.errors import Failure
from common.identifiers import new_id

log = structlog.get_logger()

_MOST_AN_HOUR = 60
_HOUR = 3600.0
_REGIONAL_SECONDS = 5.0


class Spawn(Protocol):
    """`Lifecycle.spawn`."""

    def __call__(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]: ...


class Offences:
    """`key_of`: whose swarm an info-hash is (`Swarms.key_of`)."""

    def __init__(
        self,
        key_of: Callable[[bytes], ContentKey | None],
        book: DesiredBook,
        http: ContentHttp,
        reporter: Reporter,
        clock: Clock,
        spawn: Spawn,
    ) -> None:
        self._key_of = key_of
        self._book = book
        self._http = http
        self._reporter = reporter
        self._clock = clock
        self._spawn = spawn
        self._told: deque[float] = deque()

    def banned(self, peer: BannedPeer) -> None:
        """`PeerSession.banned`."""
        key = self._key_of(peer.info_hash)
        if key is not None and self._may_tell(key, f"{peer.address}:{peer.port}"):
            self._spawn("accuse a peer", self._accuse(key, peer))

    def metainfo_refused(self, key: ContentKey, source: Source, failure: Failure) -> None:
        """Logged as an error: whoever handed this out may have meant to send us after other bytes."""
        told = {"digest": str(key[1]), "tenant": key[0], "code": failure.code, "error": str(failure)}
        log.error("metainfo refused", source=str(source), **told)
        if self._may_tell(key, source.base_url):
            self._report(OffenceKind.FALSE_METAINFO, key, source.base_url, "")

    async def _accuse(self, key: ContentKey, peer: BannedPeer) -> None:
        source = f"[{peer.address}]:{peer.port}" if ":" in peer.address else f"{peer.address}:{peer.port}"
        accused = await self._ask_regionals(key, peer)
        log.error("a peer sent false bytes", source=source, accused=accused, digest=str(key[1]), tenant=key[0])
        self._report(OffenceKind.FALSE_BLOCK, key, source, accused)

    async def _ask_regionals(self, key: ContentKey, peer: BannedPeer) -> str:
        """Every regional is told; what the first one that knows calls the peer."""
        accused = ""
        for endpoint in self._book.endpoints:
            if not endpoint.content_url:
                continue
            source = Source("regional", endpoint.content_url)
            try:
                async with asyncio.timeout(_REGIONAL_SECONDS):
                    named = await self._http.accuse(source, key[1], self._book.token(*key), peer.address, peer.port)
            except (Failure, TimeoutError) as error:
                log.info("regional not told of a false peer", source=str(source), error=str(error))
                continue
            accused = accused or named
        return accused

    def _report(self, kind: OffenceKind, key: ContentKey, source: str, accused: str) -> None:
        now = self._clock.now()
        milliseconds = int(now.timestamp() * 1000)
        self._reporter.report(Offence(new_id(self._clock), kind, *key, source, accused, milliseconds))

    def _may_tell(self, key: ContentKey, source: str) -> bool:
        now = self._clock.monotonic()
        while self._told and self._told[0] <= now - _HOUR:
            self._told.popleft()
        if len(self._told) >= _MOST_AN_HOUR:
            log.warning("too many offences to report", source=source, digest=str(key[1]))
            return False
        self._told.append(now)
        return True
