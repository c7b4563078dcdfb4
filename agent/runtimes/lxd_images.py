"""Images of an LXD: known by the digest of the OCI manifest that they came with, imported from this host's verified
contents.

Invariant: an alias of ours (`longshore-sha256-<hex>`) points at the image whose fingerprint was computed here from the
verified bytes, never at what a manifest or its config claims; so no tenant reaches another's image by lying.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from typing import BinaryIO
from weakref import WeakValueDictionary

import aiohttp

from agent.runtimes.failures import EngineRefused
from agent.runtimes.lxd_calls import AlreadyThere, LxdCalls, Missing
from common.digest import Digest
from common.errors import Failure
from common.lxd_image import Part, parts_in

OpenHeld = Callable[[Digest], Awaitable[BinaryIO | None]]

_CHUNK = 1 << 20
_LARGEST_MANIFEST = 4 << 20
# An import of many gigabytes is unpacked and written by LXD meanwhile.
_IMPORT_SECONDS = 3600.0


def alias_of(manifest: Digest) -> str:
    return f"longshore-{manifest.algorithm}-{manifest.hex}"


class LxdImages:
    """`open_held` gives a verified content of this host, None if it is not held."""

    def __init__(self, calls: LxdCalls, open_held: OpenHeld) -> None:
        self._calls = calls
        self._open_held = open_held
        self._turns: WeakValueDictionary[Digest, asyncio.Lock] = WeakValueDictionary()

    async def held(self, wanted: Collection[Digest]) -> frozenset[Digest]:
        names = {alias["name"] for alias in await self._calls.get("images", "aliases", recursion=1)}
        return frozenset(digest for digest in wanted if alias_of(digest) in names)

    async def fingerprint(self, manifest: Digest) -> str:
        """Raises `EngineRefused` if the image is not there."""
        try:
            alias = await self._calls.get("images", "aliases", alias_of(manifest))
        except Missing:
            raise EngineRefused(f"LXD has no image {manifest}", action="pull it first") from None
        return str(alias["target"])

    async def manifests_of(self, fingerprint: str) -> frozenset[Digest]:
        """All by which the image is known here."""
        aliases = await self._calls.get("images", "aliases", recursion=1)
        named = (one["name"].removeprefix("longshore-") for one in aliases if one["target"] == fingerprint)
        return frozenset(Digest.parse(name.replace("-", ":", 1)) for name in named if name.startswith("sha"))

    async def pull(self, manifest: Digest) -> None:
        """Import it, unless it is there. Raises `EngineRefused` if contents are not held or make no LXD image."""
        turn = self._turns.setdefault(manifest, asyncio.Lock())
        async with turn:  # several instances may want it at once, and gigabytes are handed over once
            if not await self.held([manifest]):
                await self._pull(manifest)

    async def _pull(self, manifest: Digest) -> None:
        parts = await self._parts(manifest)
        fingerprint = await self._fingerprint_of(parts)
        try:
            await self._calls.get("images", fingerprint)
        except Missing:
            await self._import(parts, fingerprint)
        await self._name(manifest, fingerprint)

    async def _parts(self, manifest: Digest) -> Sequence[Part]:
        with await self._opened(manifest) as file:
            payload = await asyncio.to_thread(file.read, _LARGEST_MANIFEST)
        try:
            return parts_in(payload)
        except Failure as failure:
            raise EngineRefused(f"{manifest} is no LXD image: {failure}", action="push it again") from failure

    async def _fingerprint_of(self, parts: Sequence[Part]) -> str:
        if len(parts) == 1 and parts[0].digest.algorithm == "sha256":
            return parts[0].digest.hex
        hasher = hashlib.sha256()
        for part in parts:
            with await self._opened(part.digest) as file:
                while chunk := await asyncio.to_thread(file.read, _CHUNK):
                    hasher.update(chunk)
        return hasher.hexdigest()

    async def _import(self, parts: Sequence[Part], fingerprint: str) -> None:
        """LXD checks the fingerprint too, over what it received."""
        headers = {"X-LXD-fingerprint": fingerprint}
        if len(parts) == 1:
            headers |= {"Content-Type": "application/octet-stream", "X-LXD-filename": fingerprint}
            data: object = self._bytes_of(parts[0])
        else:
            form = aiohttp.MultipartWriter("form-data")
            for name, part in zip(("metadata", "rootfs"), parts, strict=True):
                payload = form.append(self._bytes_of(part), {"Content-Type": "application/octet-stream"})
                payload.set_content_disposition("form-data", name=name, filename=name)
            data = form
        operation = await self._calls.post_bytes("images", data=data, headers=headers, seconds=_IMPORT_SECONDS)
        try:
            await self._calls.outcome(operation, _IMPORT_SECONDS)
        except AlreadyThere:
            return  # somebody else imported it meanwhile: an agent that was killed leaves LXD at work

    async def _bytes_of(self, part: Part) -> AsyncIterator[bytes]:
        with await self._opened(part.digest) as file:
            while chunk := await asyncio.to_thread(file.read, _CHUNK):
                yield chunk

    async def _name(self, manifest: Digest, fingerprint: str) -> None:
        body = {"name": alias_of(manifest), "target": fingerprint, "description": "image of a Longshore instance"}
        try:
            await self._calls.send("POST", "images", "aliases", body=body)
        except AlreadyThere:
            return

    async def _opened(self, digest: Digest) -> BinaryIO:
        file = await self._open_held(digest)
        if file is None:
            raise EngineRefused(f"{digest} is not held on this host", action="fetch it first")
        return file
