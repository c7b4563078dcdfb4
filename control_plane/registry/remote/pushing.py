"""Writing to a registry: blobs in one piece or in chunks that go on after a break, mounts, manifests (distribution
specification 1.1, "Push").
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from urllib.parse import urlencode

import aiohttp

from common.backoff import Backoff
from common.digest import Digest, DigestInvalid
from common.errors import RateLimited, Unavailable
from control_plane.registry.remote.failures import RemoteAway, RemoteDenied, RemoteMissing, RemoteRejected, RemoteUntrue
from control_plane.registry.remote.transport import Transport

# From `start` to `end` (exclusive) of the blob; called again from where the registry has got to.
Source = Callable[[int, int], AsyncIterator[bytes]]

_CHUNK = 64 << 20


class UploadLost(RemoteAway):
    """The registry does not know the upload any more. Distribution says so too of one that got further than its last
    answer that reached us (its `_state` names the offset), so that it begins anew.
    """

    code = "remote_upload_lost"


_MAX_BREAKS = 5


class Pushing:
    """Every method raises the failures of this package and those of the way there."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def mount(self, repository: str, digest: Digest, source: str) -> bool:
        """Whether the registry took the blob from its repository `source`; if not, push it."""
        query = urlencode({"mount": str(digest), "from": source})
        scope = f"{_scope(repository)} repository:{source}:pull"
        path = f"/v2/{repository}/blobs/uploads/?{query}"
        async with self._transport.exchange("POST", path, scope, (201, 202), data=b"") as answer:
            mounted, location = answer.status == 201, answer.headers.get("Location")
        if not mounted and location:
            await self._cancel(location, _scope(repository))
        return mounted

    async def blob(self, repository: str, digest: Digest, size: int, source: Source, chunk_bytes: int = _CHUNK) -> None:
        """Push a blob that the registry does not have. What fits into one chunk goes with the last request; what does
        not goes in chunks, each of which is tried again from where the registry has got to.

        Raises `RemoteRejected` if the registry finds another digest.
        """
        backoff = self._backoff()
        while True:
            try:
                await self._whole(repository, digest, size, source, chunk_bytes)
            except (Unavailable, RateLimited) as failure:
                if isinstance(failure, RemoteUntrue):
                    raise
                if await self._has(repository, digest, size):
                    return  # only the answer to the last request was lost
                again = size <= chunk_bytes or isinstance(failure, UploadLost)
                if not again or backoff.failures >= _MAX_BREAKS:
                    raise
                await self._transport.clock.sleep(backoff.next_delay())
            else:
                return

    async def _has(self, repository: str, digest: Digest, size: int) -> bool:
        path = f"/v2/{repository}/blobs/{digest}"
        try:
            async with self._transport.exchange("HEAD", path, _scope(repository), tries=1) as answer:
                return answer.headers.get("Content-Length") == str(size)
        except (RemoteMissing, RemoteRejected, RemoteDenied, Unavailable, RateLimited):
            return False

    async def _whole(self, repository: str, digest: Digest, size: int, source: Source, chunk_bytes: int) -> None:
        scope = _scope(repository)
        location = await self._begin(repository, scope)
        at = 0
        try:
            if size > chunk_bytes:
                location, at = await self._chunks(location, scope, size, source, chunk_bytes)
            await self._finish(location, scope, digest, at, size, source)
        except RemoteMissing as failure:
            raise UploadLost(
                f"{self._transport.endpoint.host} lost an upload: {failure.detail}", action="push again"
            ) from failure
        except Exception:
            await self._cancel(location, scope)
            raise

    def _backoff(self) -> Backoff:
        patience = self._transport.patience
        return Backoff(self._transport.random, patience.first_wait_seconds, patience.longest_wait_seconds)

    async def manifest(self, repository: str, reference: str | Digest, media_type: str, payload: bytes) -> Digest:
        """Its digest, as computed here. Raises `RemoteRejected`, `RemoteUntrue` if the registry stored another one."""
        path = f"/v2/{repository}/manifests/{reference}"
        async with self._transport.exchange(
            "PUT", path, _scope(repository), (200, 201, 202), headers={"Content-Type": media_type}, data=payload
        ) as answer:
            named = answer.headers.get("Docker-Content-Digest")
        digest = Digest.of(payload, reference.algorithm if isinstance(reference, Digest) else "sha256")
        try:
            same = named is None or Digest.parse(named) in (digest, Digest.of(payload, Digest.parse(named).algorithm))
        except DigestInvalid:
            same = False
        if not same:
            raise RemoteUntrue(
                f"{self._transport.endpoint.host} stored {str(named)[:80]}, not {digest}", action="check that registry"
            )
        return digest

    async def _begin(self, repository: str, scope: str) -> str:
        path = f"/v2/{repository}/blobs/uploads/"
        async with self._transport.exchange("POST", path, scope, (202,), data=b"") as answer:
            return self._location(answer)

    async def _chunks(self, location: str, scope: str, size: int, source: Source, chunk_bytes: int) -> tuple[str, int]:
        backoff = self._backoff()
        at = 0
        while at < size:
            end = min(size, at + chunk_bytes)
            try:
                location = await self._chunk(location, scope, at, end, source)
                at = end
                backoff.reset()
            except (Unavailable, RateLimited, RemoteRejected) as failure:
                if isinstance(failure, RemoteRejected) and failure.facts.get("status") != 416:
                    raise
                if isinstance(failure, RemoteUntrue) or backoff.failures >= _MAX_BREAKS:
                    raise
                await self._transport.clock.sleep(backoff.next_delay())
                # `0-0` is an upload with one byte, and what distribution says of one without any. Only a refusal tells.
                refused_at_start = at == 0 and isinstance(failure, RemoteRejected)
                location, at = await self._progress(location, scope)
                at = 1 if at == 0 and refused_at_start else at
        return location, at

    async def _chunk(self, location: str, scope: str, at: int, end: int, source: Source) -> str:
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"{at}-{end - 1}",
            "Content-Length": str(end - at),
        }
        async with self._transport.exchange(
            "PATCH", location, scope, (202, 204), headers=headers, open_data=lambda: source(at, end)
        ) as answer:
            return self._location(answer)

    async def _progress(self, location: str, scope: str) -> tuple[str, int]:
        """Where the upload goes on, and from which byte."""
        async with self._transport.exchange("GET", location, scope, (200, 204)) as answer:
            reached = answer.headers.get("Range", "").removeprefix("bytes=").partition("-")[2]
            if "Location" in answer.headers:
                location = self._location(answer)
        if not reached.isdigit():
            raise RemoteUntrue(
                f"{self._transport.endpoint.host} does not say how far an upload got", action="push again"
            )
        return location, int(reached) + 1 if int(reached) else 0

    async def _finish(self, location: str, scope: str, digest: Digest, at: int, size: int, source: Source) -> None:
        path = location + ("&" if "?" in location else "?") + urlencode({"digest": str(digest)})
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size - at)}
        body = (lambda: source(at, size)) if at < size else None
        async with self._transport.exchange(
            "PUT", path, scope, (201, 204), headers=headers, data=b"", open_data=body
        ) as answer:
            named = answer.headers.get("Docker-Content-Digest")
        if named is not None and named != str(digest):
            raise RemoteUntrue(
                f"{self._transport.endpoint.host} stored {named[:80]}, not {digest}", action="check that registry"
            )

    async def _cancel(self, location: str, scope: str) -> None:
        """As far as the registry lets us: it forgets the upload after a while anyway."""
        try:
            async with self._transport.exchange("DELETE", location, scope, (200, 202, 204), tries=1):
                pass
        except (RemoteMissing, RemoteRejected, RemoteDenied, Unavailable, RateLimited):
            return

    def _location(self, answer: aiohttp.ClientResponse) -> str:
        location = answer.headers.get("Location")
        if not location:
            raise RemoteUntrue(
                f"{self._transport.endpoint.host} does not say where an upload goes on", action="check that registry"
            )
        return self._transport.url_of(location)


def _scope(repository: str) -> str:
    return f"repository:{repository}:pull,push"
