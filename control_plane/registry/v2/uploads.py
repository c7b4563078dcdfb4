"""Pushing blobs over HTTP (distribution specification, "Pushing blobs").

An upload's address is opaque to clients; ours carries the algorithm that the client announced, so that it is hashed
with that one while it streams in.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from common.digest import Digest, DigestInvalid
from common.reference import NameInvalid, check_repository_name
from control_plane.blobs import UploadOffsetWrong
from control_plane.registry.chunk_ranges import chunk_range, progress
from control_plane.registry.failures import ContentRangeInvalid
from control_plane.registry.model import Pushed
from control_plane.registry.uploads import UploadService
from control_plane.registry.v2.exchange import Exchange
from control_plane.registry.v2.paths import blob_path, upload_path
from control_plane.tenants.access import Principal

_ALGORITHM = "digest-algorithm"
_EMPTY = {algorithm: Digest.of(b"", algorithm) for algorithm in ("sha256", "sha512")}


class UploadEndpoints:
    def __init__(self, uploads: UploadService) -> None:
        self._uploads = uploads

    async def start(self, exchange: Exchange, principal: Principal) -> None:
        """POST: mount, push in one request, or begin a session."""
        repository = exchange.target.repository
        if "mount" in exchange.query:
            mounted = await self._mount(exchange, principal)
            if mounted is not None:
                await _created(exchange, mounted)
                return
        elif "digest" in exchange.query:
            digest = Digest.parse(exchange.query["digest"])
            # Without a body it is a client that will send one later, unless the blob is the empty one.
            if exchange.has_body or digest == _EMPTY[digest.algorithm]:
                pushed = await self._uploads.push_whole(
                    principal, repository, digest, exchange.chunks(), exchange.content_length
                )
                await _created(exchange, pushed)
                return
        upload = await self._uploads.start(principal, repository)
        await exchange.answer(202, self._state(exchange, upload.upload_id, 0))

    async def _mount(self, exchange: Exchange, principal: Principal) -> Pushed | None:
        source = exchange.query.get("from")
        try:
            digest = Digest.parse(exchange.query["mount"])
            source = check_repository_name(source) if source is not None else None
        except (DigestInvalid, NameInvalid):
            return None  # "the registry will fall back to the standard upload behavior"
        return await self._uploads.mount(principal, exchange.target.repository, digest, source)

    async def append(self, exchange: Exchange, principal: Principal) -> None:
        """PATCH: one chunk, or (as Docker does) everything in one stream without a range."""
        size = await self._take(exchange, principal)
        await exchange.answer(202, self._state(exchange, exchange.target.item, size))

    async def finish(self, exchange: Exchange, principal: Principal) -> None:
        """PUT: perhaps a last chunk, then publish."""
        target = exchange.target
        if "digest" not in exchange.query:
            raise DigestInvalid("the last request of an upload needs its digest", action="add ?digest=<digest>")
        digest = Digest.parse(exchange.query["digest"])
        if not exchange.has_body:
            await _created(exchange, await self._uploads.finish(principal, target.repository, target.item, digest))
            return
        async with self._ranged(exchange, principal) as (chunks, start):
            pushed = await self._uploads.push_rest(
                principal, target.repository, target.item, digest, chunks, start, exchange.content_length
            )
        await _created(exchange, pushed)

    async def show(self, exchange: Exchange, principal: Principal) -> None:
        target = exchange.target
        size = await self._uploads.size(principal, target.repository, target.item)
        await exchange.answer(204, self._state(exchange, target.item, size))

    async def cancel(self, exchange: Exchange, principal: Principal) -> None:
        target = exchange.target
        await self._uploads.cancel(principal, target.repository, target.item)
        await exchange.answer(204)

    async def _take(self, exchange: Exchange, principal: Principal) -> int:
        target, algorithm = exchange.target, _announced(exchange) or "sha256"
        async with self._ranged(exchange, principal) as (chunks, start):
            return await self._uploads.append(
                principal, target.repository, target.item, chunks, start, algorithm, exchange.content_length
            )

    @contextlib.asynccontextmanager
    async def _ranged(
        self, exchange: Exchange, principal: Principal
    ) -> AsyncIterator[tuple[AsyncIterator[bytes], int | None]]:
        """The body and where it begins. A refusal because of that says where the upload ends."""
        target = exchange.target
        try:
            span = chunk_range(exchange.headers.get("content-range"), exchange.content_length)
            start, limit = (span[0], span[1] - span[0]) if span is not None else (None, None)
            yield exchange.chunks(limit), start
        except (UploadOffsetWrong, ContentRangeInvalid):
            size = await self._uploads.size(principal, target.repository, target.item)
            exchange.failure_headers = self._state(exchange, target.item, size)
            raise

    def _state(self, exchange: Exchange, upload_id: str, size: int) -> dict[str, str]:
        algorithm = _announced(exchange)
        suffix = f"?{_ALGORITHM}={algorithm}" if algorithm else ""
        return {
            "Location": upload_path(exchange.target.repository, upload_id) + suffix,
            "Range": progress(size),
            "Upload-Offset": str(size),
            "Docker-Upload-UUID": upload_id,
        }


def _announced(exchange: Exchange) -> str | None:
    algorithm = exchange.query.get(_ALGORITHM)
    return algorithm if algorithm in _EMPTY else None


async def _created(exchange: Exchange, pushed: Pushed) -> None:
    headers = {"Location": blob_path(pushed.repository, pushed.digest), "Docker-Content-Digest": str(pushed.digest)}
    await exchange.answer(201, headers)
