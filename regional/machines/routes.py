"""`/boot/...`: scripts of loaders, and the kernels, initrds, images and documents of one boot.

Open like the listener, as boot firmware has no credentials: a script is given by address, serial number and lease, and
all else only for the token that a script carried. Invariant: nothing of a boot is kept by anybody (`no-store`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from aiohttp import web

from common.byte_ranges import Span, Validators, requested_span
from common.clock import Clock
from common.errors import NotFound
from regional import paths
from regional.edge import Edge
from regional.machines.asking import Ask, said_mac
from regional.machines.boot_files import BootFilesOf, Found
from regional.machines.device import Device
from regional.machines.model import Content
from regional.machines.scripts import Scripts
from regional.machines.timeline import Timeline
from regional.machines.watching import Watching
from regional.model import ContentKey
from regional.publication import check_whole
from regional.sending import Body, FileBody, Representation, send

_NO_STORE = {"Cache-Control": "no-store"}


class ContentsMissing(NotFound):
    """This regional has no centre, so it has no contents."""

    code = "contents_missing"


class BootRoutes:
    """`edge` is set when there is one; `static`: `/static` on the disk."""

    def __init__(
        self,
        scripts: Scripts,
        files: BootFilesOf,
        device: Device,
        timeline: Timeline,
        watching: Watching,
        static: Path,
        clock: Clock,
        settle_seconds: float,
    ) -> None:
        self._scripts = scripts
        self._files = files
        self._device = device
        self._timeline = timeline
        self._watching = watching
        self._static = static
        self._clock = clock
        self._settle_seconds = settle_seconds
        self.edge: Edge | None = None

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/boot/{mac}.ipxe", self.stub),
            web.get("/boot/{mac}/next.ipxe", self.script),
            web.get("/boot/grub.cfg-01-{mac}", self.grub),
            web.get("/boot/s/{token}/{name}", self.file),
            web.get("/boot/s/{token}/documents/{name}", self.document),
        ]

    async def stub(self, request: web.Request) -> web.Response:
        mac = said_mac(request.match_info["mac"])
        self._watching.asked(mac, request.remote or "", ipxe=True)
        return web.Response(text=self._scripts.ipxe_stub(mac), headers=_NO_STORE)

    async def script(self, request: web.Request) -> web.Response:
        """`?serial=&uuid=&platform=&arch=`, as iPXE knows them."""
        query = request.query
        ask = self._ask(request, query.get("serial"), query.get("uuid", "")[:64], query.get("arch", "")[:32])
        if request.method == "HEAD":
            return web.Response(headers=_NO_STORE)
        self._watching.said(ask)
        return web.Response(text=await asyncio.to_thread(self._scripts.ipxe, ask), headers=_NO_STORE)

    async def grub(self, request: web.Request) -> web.Response:
        ask = self._ask(request, None, "", "")
        if request.method == "HEAD":
            return web.Response(headers=_NO_STORE)
        self._watching.said(ask)
        return web.Response(text=await asyncio.to_thread(self._scripts.grub, ask), headers=_NO_STORE)

    async def file(self, request: web.Request) -> web.StreamResponse:
        token, name = request.match_info["token"], request.match_info["name"]
        peek = request.method == "HEAD"
        found = await asyncio.to_thread(self._files.find, token, name, peek=peek)
        if found.file.content is None:
            try:
                return await self._static_file(request, found.file.path)
            except paths.FileMissing:
                await asyncio.to_thread(self._files.lacks, token, found.file.path)
                raise
        return await self._content(request, found, found.file.content)

    async def document(self, request: web.Request) -> web.Response:
        token, name = request.match_info["token"], request.match_info["name"]
        found = await asyncio.to_thread(self._device.document, token, name)
        headers = {**_NO_STORE, "Content-Type": found.media_type or "text/plain; charset=utf-8"}
        return web.Response(body=found.content, headers=headers)

    async def _content(self, request: web.Request, found: Found, content: Content) -> web.StreamResponse:
        if self.edge is None:
            raise ContentsMissing("this regional has no control plane", action="start it with --server")
        key = ContentKey(content.digest, found.tenant_id)
        headers = {"Docker-Content-Digest": str(content.digest)}
        async with await self.edge.open(key, content.token) as reader:
            with self.edge.links.serving(request, key):
                return await _answer(request, reader, Validators(str(content.digest)), headers)

    async def _static_file(self, request: web.Request, path: str) -> web.StreamResponse:
        file = await asyncio.to_thread(self._open, path)
        with file:
            status = os.fstat(file.fileno())
            modified = datetime.fromtimestamp(status.st_mtime, tz=UTC)
            validators = Validators(f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}", modified)
            return await _answer(request, FileBody(file), validators, {})

    def _open(self, path: str) -> BinaryIO:
        file: BinaryIO = paths.resolve(self._static, paths.segments(path.replace("%", "%25"))).open("rb", buffering=0)
        try:
            now = self._clock.now().timestamp()
            check_whole(file.fileno(), os.fstat(file.fileno()), now, self._settle_seconds)
        except BaseException:
            file.close()
            raise
        return file

    def _ask(self, request: web.Request, serial: str | None, uuid: str, architecture: str) -> Ask:
        mac, address = said_mac(request.match_info["mac"]), request.remote or ""
        return Ask(mac, serial, uuid, address, self._timeline.leased(mac), architecture)


@dataclass(frozen=True, slots=True)
class _Part:
    """A stretch of a body as if it were the whole: busybox's wget takes no 206 for a range that it did not choose."""

    body: Body
    part: Span

    @property
    def size(self) -> int:
        return self.part.length

    async def ready(self, span: Span) -> None:
        await self.body.ready(self._moved(span))

    async def send(self, request: web.BaseRequest, response: web.StreamResponse, span: Span) -> None:
        await self.body.send(request, response, self._moved(span))

    def _moved(self, span: Span) -> Span:
        return Span(self.part.start + span.start, self.part.start + span.end)


async def _answer(
    request: web.Request, body: Body, validators: Validators, headers: Mapping[str, str]
) -> web.StreamResponse:
    """`?bytes=0-1023` for clients that cannot ask for ranges."""
    part = requested_span(f"bytes={request.query['bytes']}", body.size) if "bytes" in request.query else None
    if part is not None:
        own = Validators(f"{validators.etag}-{part.start}-{part.end}")
        return await send(request, Representation(_Part(body, part), own, headers=headers))
    return await send(request, Representation(body, validators, headers=headers))
