"""The web seeds of one torrent: which there are, and another try for one that answered with an error.

libtorrent retries a web seed that it cannot reach (`urlseed_wait_retry`), but after an HTTP error it waits for minutes
and forgets some for good (measured: no second request within 20 s of a 503 without Retry-After). So here it is removed
and added again, after a delay with jitter that grows from one to thirty seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import structlog

from common.backoff import Backoff
from common.bittorrent import libtorrent_parameters as translate
from common.bittorrent.metainfo import Metainfo

log = structlog.get_logger()

_FIRST_SECONDS, _LONGEST_SECONDS = 2.0, 30.0


class WebSeeds:
    """`handle` gives libtorrent's handle, or None while the torrent is not in libtorrent."""

    def __init__(
        self, metainfo: Metainfo, urls: Sequence[str], handle: Callable[[], Any], random: Callable[[], float]
    ) -> None:
        self._metainfo = metainfo
        self._urls = list(urls)
        self._handle = handle
        self._random = random
        self._backoffs: dict[str, Backoff] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(self._urls)

    def add(self, url: str) -> None:
        """Raises `AddressInvalid`. Harmless to repeat."""
        seed = translate.web_seed(self._metainfo, url)
        if url not in self._urls:
            self._urls.append(url)
            self._handle().add_url_seed(seed)

    def remove(self, url: str) -> None:
        """Harmless to repeat."""
        if url in self._urls:
            self._urls.remove(url)
            self._backoffs.pop(url, None)
            self._cancel(url)
            handle = self._handle()
            if handle is not None:
                handle.remove_url_seed(translate.web_seed(self._metainfo, url))

    def failed(self, seed: str) -> None:
        """`seed`: the URL as libtorrent has it."""
        for url in self._urls:
            if translate.web_seed(self._metainfo, url) == seed and url not in self._timers:
                backoff = self._backoffs.setdefault(url, Backoff(self._random, _FIRST_SECONDS, _LONGEST_SECONDS, 1.0))
                loop = asyncio.get_running_loop()
                self._timers[url] = loop.call_later(backoff.next_delay(), self._again, url, seed)

    def stop(self) -> None:
        for url in list(self._timers):
            self._cancel(url)

    def _again(self, url: str, seed: str) -> None:
        self._timers.pop(url, None)
        handle = self._handle()
        if handle is not None and url in self._urls:
            handle.remove_url_seed(seed)
            handle.add_url_seed(seed)

    def _cancel(self, url: str) -> None:
        timer = self._timers.pop(url, None)
        if timer is not None:
            timer.cancel()


# The URLs carry tokens: only their hosts may reach a log.


def failed_web_seed(alert: Any) -> str:
    """The URL of libtorrent's url_seed_alert."""
    url: str = alert.server_url()
    log.info("web seed failed", host=urlsplit(url).hostname, error=alert.error_message())
    return url


def log_failed_tracker(alert: Any) -> None:
    log.info("tracker failed", host=urlsplit(alert.url).hostname, error=alert.error.message())
