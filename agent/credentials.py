"""Asking for this host's certificates in a tenant's swarms: of a regional, which passes it on, else of the centre.

Invariant: one question is for up to 100 contents of the tenant that are assigned here and have no fresh certificate, so
an image of 40 layers costs one round trip, whichever layer is first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path

import aiohttp

from agent.content_http import Source, Trust
from agent.desired import DesiredBook
from common.bittorrent.credential_book import CredentialBook
from common.bittorrent.credential_keeper import CredentialKeeper
from common.bittorrent.metainfo import Metainfo
from common.clock import Clock
from common.errors import Failure, Unavailable
from common.swarm_certificate import MAXIMUM_NAMES, signed_request
from common.swarm_certificate_client import send_request
from common.tls import Identity

# Of the five seconds that the keeper waits (credential_keeper.py), so that the centre can be asked after a regional.
_SOURCE_SECONDS = 2.5


class IdentityMissing(Unavailable):
    code = "identity_missing"


class Questions:
    """`CredentialKeeper`'s `Ask`. `sources`: whom to ask, best first."""

    def __init__(
        self,
        book: CredentialBook,
        desired: DesiredBook,
        identity_dir: Path,
        http: aiohttp.ClientSession,
        trust: Trust,
        sources: Callable[[], Sequence[Source]],
    ) -> None:
        self._book = book
        self._desired = desired
        self._identity_dir = identity_dir
        self._http = http
        self._trust = trust
        self._sources = sources

    async def ask(self, tenant_id: str, metainfo: Metainfo) -> bytes:
        """Raises the last source's `Failure`."""
        body = await asyncio.to_thread(self._request, self._wanted(tenant_id, metainfo.name))
        last: Failure = IdentityMissing("there is nobody to ask for swarm certificates", retry_after_seconds=5)
        for source in self._sources():
            tls = self._trust.regional() if source.kind == "regional" else self._trust.centre()
            try:
                return (await send_request(self._http, source.base_url, tls, body, _SOURCE_SECONDS)).certificate_pem()
            except Failure as failure:
                last = failure
        raise last

    def _wanted(self, tenant_id: str, wanted: str) -> Mapping[str, str]:
        """Tokens by the names of contents: the wanted one's first, then those of others that will be wanted."""
        smallest = self._desired.swarm_bytes
        assigned = self._desired.assigned().items()
        keys = [key for key, content in assigned if key[0] == tenant_id and content.size_bytes >= smallest]
        keys.sort(key=lambda key: key[1].hex != wanted)
        missing = (key for key in keys if key[1].hex == wanted or not self._book.is_fresh(tenant_id, key[1].hex))
        tokens = ((key[1].hex, token) for key in missing if (token := self._desired.token(*key)))
        return dict(islice(tokens, MAXIMUM_NAMES))

    def _request(self, wanted: Mapping[str, str]) -> bytes:
        identity = Identity.load(self._identity_dir)
        if identity is None:
            raise IdentityMissing("this host is not enrolled yet", retry_after_seconds=5)
        return signed_request(
            identity, self._book.request(), list(dict.fromkeys(wanted.values())), list(wanted)
        ).encode()


async def open_credentials(
    directory: Path,
    desired: DesiredBook,
    identity_dir: Path,
    http: aiohttp.ClientSession,
    trust: Trust,
    clock: Clock,
    random: Callable[[], float],
) -> CredentialKeeper:
    """`directory`: of the key and the certificates. What earlier processes were given is used again."""
    book = CredentialBook(directory, clock)
    await book.load()
    questions = Questions(book, desired, identity_dir, http, trust, lambda: _sources(desired))
    return CredentialKeeper(book, questions.ask, clock, random)


def _sources(desired: DesiredBook) -> list[Source]:
    regionals = [Source("regional", one.content_url) for one in desired.endpoints if one.content_url]
    return [*regionals[:1], Source("centre", desired.centre_url)]
