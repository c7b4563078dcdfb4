"""Files of configured upstreams, as the handlers of `/repos/` ask for them.

Invariants: one file is fetched once however many ask for it at the same time; what upstream cannot be asked about now
is served as it was kept; only a complete file is ever kept.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import structlog
from aiohttp import web

from common.byte_ranges import Validators
from common.clock import Clock
from common.errors import Failure, Unavailable
from regional.mirrors.download import WAIT_SECONDS, Download, Source
from regional.mirrors.model import NotStored, Upstream, UpstreamAway, UpstreamRefuses, immutable, upstream_of
from regional.mirrors.shelf import Kept, Shelf
from regional.sending import FileBody, Representation, send

log = structlog.get_logger()

Spawn = Callable[[str, Coroutine[Any, Any, None]], object]
Count = Callable[[str], None]

# apt asks for translations and indices that most repositories do not have.
_MISSING_SECONDS = 30.0
_MOST_MISSING = 10_000
# After a failed look at upstream what is kept counts for so long, so that each request does not wait for a dead server.
_AWAY_SECONDS = 10.0
_MOST_FLIGHTS = 1000
_STRONG = re.compile(r'"[\x21\x23-\x7e]{1,200}"', re.ASCII)

# What came of a look at upstream: a file on its way, what is kept already, or nothing.
_Outcome = Download | Kept | None


class Mirrors:
    """Implements `regional.files.Upstreams`. `count` is told how each answer came about: held, fetched, stale, missing.
    `fresh_seconds`: how long what may change is served without asking upstream.
    """

    def __init__(
        self,
        upstreams: Sequence[Upstream],
        shelf: Shelf,
        source: Source,
        clock: Clock,
        spawn: Spawn,
        count: Count,
        *,
        fresh_seconds: float,
        at_once: int,
    ) -> None:
        self._upstreams = tuple(upstreams)
        self._shelf = shelf
        self._source = source
        self._clock = clock
        self._spawn = spawn
        self._count = count
        self._fresh_seconds = fresh_seconds
        self._turns = asyncio.Semaphore(at_once)
        self._flights: dict[str, asyncio.Future[_Outcome]] = {}
        self._missing: OrderedDict[str, float] = OrderedDict()
        self._away: dict[str, float] = {}

    async def answer(
        self, request: web.Request, names: tuple[str, ...], content_type: str
    ) -> web.StreamResponse | None:
        """None: no upstream has it. Raises `UpstreamAway`, `UpstreamRefuses`, `NotStored`, `MirrorFull`."""
        upstream = upstream_of(self._upstreams, names)
        if upstream is None:
            return None
        url = upstream.url_of(names)
        kept = await asyncio.to_thread(self._shelf.find, url, self._wall())
        outcome: _Outcome = kept
        said = "held"
        if kept is None or not self._fresh(kept, names):
            outcome, said = await self._looked(upstream, url, kept)
        if outcome is None:
            self._count("missing")
            return None
        self._count(said)
        headers = {"X-Cache": said}
        if said == "stale":
            headers["Warning"] = '110 longshore "Response is Stale"'
        if isinstance(outcome, Download):
            return await self._pass_on(request, outcome, content_type, headers)
        return await self._send_kept(request, outcome, content_type, headers)

    def _fresh(self, kept: Kept, names: Sequence[str]) -> bool:
        return immutable(names) or abs(self._wall() - kept.checked) < self._fresh_seconds

    async def _looked(self, upstream: Upstream, url: str, kept: Kept | None) -> tuple[_Outcome, str]:
        if kept is None and self._missing.get(url, 0.0) > self._clock.monotonic():
            return None, "missing"
        try:
            outcome = await self._flown(upstream, url, kept)
        except Unavailable as failure:
            if kept is None:
                raise
            log.info("mirror serves what it has", url=url, error=str(failure))
            return kept, "stale"
        return outcome, "fetched" if isinstance(outcome, Download) else "held"

    async def _flown(self, upstream: Upstream, url: str, kept: Kept | None) -> _Outcome:
        """Joins whoever asks for it already."""
        flight = self._flights.get(url)
        if flight is None:
            if kept is not None and self._away.get(upstream.url, 0.0) > self._clock.monotonic():
                raise UpstreamAway("the upstream did not answer a moment ago")
            if len(self._flights) >= _MOST_FLIGHTS:
                raise UpstreamAway("too many files are being fetched", action="ask again", retry_after_seconds=5.0)
            flight = self._flights[url] = asyncio.get_running_loop().create_future()
            # Nobody may be left to hear how it ended.
            flight.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._spawn(f"mirror {url}", self._fly(upstream, url, kept, flight))
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await asyncio.shield(flight)
        except TimeoutError:
            raise UpstreamAway("the upstream is slow", action="ask again", retry_after_seconds=5.0) from None

    async def _fly(self, upstream: Upstream, url: str, kept: Kept | None, flight: asyncio.Future[_Outcome]) -> None:
        try:
            async with self._turns:
                await self._fetch(url, kept, flight)
            self._away.pop(upstream.url, None)
        except (Failure, OSError) as error:
            failure = error if isinstance(error, Failure) else _disk(error)
            if isinstance(failure, UpstreamAway):
                self._away[upstream.url] = self._clock.monotonic() + _AWAY_SECONDS
            log.warning("mirror fetch failed", url=url, error=str(failure))
            if not flight.done():
                flight.set_exception(failure)
        finally:
            self._flights.pop(url, None)
            if not flight.done():
                flight.cancel()

    async def _fetch(self, url: str, kept: Kept | None, flight: asyncio.Future[_Outcome]) -> None:
        async with self._source.opened(url, _conditions(kept)) as response:
            if response.status == 304 and kept is not None:
                await asyncio.to_thread(self._shelf.confirm, url, self._wall())
                flight.set_result(kept)
            elif response.status in (404, 410) or (response.status == 403 and kept is None):  # 403: S3 without listing
                await asyncio.to_thread(self._shelf.forget, url)
                self._remember_missing(url)
                flight.set_result(None)
            elif response.status == 200:
                heading = self._source.heading(response)
                body, file = await asyncio.to_thread(self._shelf.begin)
                await self._fill(url, Download(heading, body, file), response, flight)
            elif response.status >= 500 or response.status == 429:
                raise UpstreamAway(f"the upstream answers {response.status}", action="ask again")
            else:
                raise UpstreamRefuses(f"the upstream answers {response.status}", action="check the mirror's URL")

    async def _fill(
        self, url: str, download: Download, response: aiohttp.ClientResponse, flight: asyncio.Future[_Outcome]
    ) -> None:
        if download.heading.size is not None:
            flight.set_result(download)
        kept: Kept | None = None
        failure: Failure | None = None
        try:
            await self._source.fill(download, url, response)
            heading, wall = download.heading, self._wall()
            kept = Kept(url, download.body, download.written, heading.etag, heading.modified, wall)
            await asyncio.to_thread(self._shelf.keep, kept, download.file, wall)
            if not flight.done():
                flight.set_result(kept)
        except (Failure, OSError) as error:
            failure = error if isinstance(error, Failure) else _disk(error)
            raise failure from error
        finally:
            if failure is not None or kept is None:
                await asyncio.to_thread(self._shelf.abandon, download.body)
                failure = failure or UpstreamAway("the regional stops")
            download.end(kept=None if failure else kept, failure=failure)

    async def _pass_on(
        self, request: web.Request, download: Download, content_type: str, headers: dict[str, str]
    ) -> web.StreamResponse:
        if download.failure is not None:
            raise download.failure
        if download.kept is not None:
            return await self._send_kept(request, download.kept, content_type, headers)
        heading = download.heading
        validators = Validators(_tag(heading.etag, download.body), _moment(heading.modified))
        with download.used():
            return await send(request, Representation(download, validators, content_type, headers))

    async def _send_kept(
        self, request: web.Request, kept: Kept, content_type: str, headers: dict[str, str]
    ) -> web.StreamResponse:
        file = await asyncio.to_thread(self._shelf.read, kept)
        if file is None:
            raise UpstreamAway("this file left the cache just now", action="ask again")
        try:
            validators = Validators(_tag(kept.etag, kept.body), _moment(kept.modified))
            return await send(
                request, Representation(FileBody(file), validators, content_type, headers, several_ranges=True)
            )
        finally:
            file.close()

    def _remember_missing(self, url: str) -> None:
        self._missing.pop(url, None)
        self._missing[url] = self._clock.monotonic() + _MISSING_SECONDS
        if len(self._missing) > _MOST_MISSING:
            self._missing.popitem(last=False)

    def _wall(self) -> float:
        return self._clock.now().timestamp()


def _conditions(kept: Kept | None) -> dict[str, str]:
    conditions = {}
    if kept is not None and kept.etag:
        conditions["If-None-Match"] = kept.etag
    if kept is not None and kept.modified:
        conditions["If-Modified-Since"] = kept.modified
    return conditions


def _tag(upstream: str, body: str) -> str:
    """Upstream's strong tag, so that clients can go on after the file was fetched anew; else one of this copy."""
    return upstream[1:-1] if _STRONG.fullmatch(upstream) else body


def _moment(http_date: str) -> datetime | None:
    with suppress(ValueError, TypeError, IndexError):
        found = parsedate_to_datetime(http_date)
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    return None


def _disk(error: OSError) -> Failure:
    return NotStored(
        f"the disk cannot take files of mirrors: {error.strerror or error}",
        action="make room in the regional's data directory, or lower mirror_cache_bytes",
        retry_after_seconds=30.0,
    )
