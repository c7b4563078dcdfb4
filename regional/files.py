"""`/static/`, `/repos/` and their listing API: what machines boot from and install.

Open to everybody who reaches the port, as boot firmware has no credentials; so nothing outside the two areas is ever
served (see `paths`).
"""

from __future__ import annotations

import asyncio
import functools
import json
import mimetypes
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from aiohttp import web

from common.byte_ranges import Validators
from common.clock import Clock
from common.errors import Invalid
from regional import listing, paths
from regional.listing import Entry
from regional.publication import DEFAULT_SETTLE_SECONDS, check_whole
from regional.sending import FileBody, Representation, send
from regional.tree import AREAS

# A full Ubuntu pool has some 70,000 packages; an answer of 10,000 entries is about 1.5 MB.
_DEFAULT_ENTRIES = 10_000
_MAXIMUM_ENTRIES = 100_000
_MAXIMUM_DEPTH = listing.MAXIMUM_DEPTH


class LimitInvalid(Invalid):
    code = "limit_invalid"


@dataclass(frozen=True, slots=True)
class _Found:
    """`file` is open; None: a directory."""

    path: Path
    file: BinaryIO | None
    modified: datetime
    etag: str


class Upstreams(Protocol):
    """Whoever has files that are not here (`regional.mirrors`)."""

    async def answer(
        self, request: web.Request, names: tuple[str, ...], content_type: str
    ) -> web.StreamResponse | None:
        """`names` below `/repos/`. None: nobody there has them either. Raises what hinders the answer."""
        ...


class Files:
    """Handlers over `root/static` and `root/repos`. What `upstreams` have is served where no file of ours has the
    name. `settle_seconds`: see `regional.publication`.
    """

    def __init__(
        self,
        root: Path,
        clock: Clock,
        upstreams: Upstreams | None = None,
        settle_seconds: float = DEFAULT_SETTLE_SECONDS,
    ) -> None:
        self._root = root
        self._clock = clock
        self._upstreams = upstreams
        self._settle_seconds = settle_seconds
        self._types = mimetypes.MimeTypes()
        # Names such as pool/x.tar.gz are files of type gzip, not tar files in transit encoding gzip.
        self._types.encodings_map.clear()
        self._types.add_type("application/gzip", ".gz")
        self._types.add_type("application/x-xz", ".xz")
        # UEFI HTTP boot goes by the type (UEFI specification section 24.7.3.2).
        self._types.add_type("application/efi", ".efi")
        self._types.add_type("application/vnd.efi-iso", ".iso")

    def routes(self) -> list[web.RouteDef]:
        served = [web.get(f"/{area}{{tail:(?s:.*)}}", self.serve) for area in AREAS]
        return [*served, web.get("/api/v1/files/{area}", self.list)]

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """One file, or the index of a directory."""
        encoded = request.rel_url.raw_path
        area, *names = paths.segments(encoded)
        if area not in AREAS:  # /staticfoo
            raise paths.FileMissing("there is no such file", action="see /static/ and /repos/")
        content_type = self._types.guess_type(names[-1])[0] if names else None
        content_type = content_type or "application/octet-stream"
        try:
            found = await asyncio.to_thread(self._open, area, tuple(names))
        except paths.FileMissing:
            if area != "repos" or self._upstreams is None or any(paths.hidden(name) for name in names):
                raise
            answer = await self._upstreams.answer(request, tuple(names), content_type)
            if answer is None:
                raise
            return answer
        if found.file is None:
            return await self._index(encoded, area, tuple(names))
        try:
            validators = Validators(found.etag, found.modified)
            body = FileBody(found.file, foreign=True)
            return await send(request, Representation(body, validators, content_type, several_ranges=True))
        finally:
            found.file.close()

    async def _index(self, encoded: str, area: str, names: tuple[str, ...]) -> web.StreamResponse:
        if not encoded.endswith("/"):
            # Relative links need the slash. Only the path itself goes back, so this redirects nowhere else.
            raise web.HTTPMovedPermanently("/" + encoded.lstrip("/") + "/")
        entries = await asyncio.to_thread(listing.list_directory, self._root / area, names, _DEFAULT_ENTRIES)
        page = listing.index_page("/" + "/".join((area, *names)), entries, has_parent=bool(names))
        return web.Response(text=page, content_type="text/html")

    async def list(self, request: web.Request) -> web.Response:
        """`?path=` names a directory of the area, `?depth=` how deep to look, `?limit=` bounds the answer; `truncated`
        tells that it did, and `next` what to say as `?after=` to go on.
        """
        area = request.match_info["area"]
        if area not in AREAS:
            raise paths.FileMissing(f"there is no area {area[:40]!r}", action="use static or repos")
        query = request.query
        limit = _number(query.get("limit"), "limit", _DEFAULT_ENTRIES, _MAXIMUM_ENTRIES)
        depth = _number(query.get("depth"), "depth", _MAXIMUM_DEPTH, _MAXIMUM_DEPTH)
        names, after = _names(query.get("path", "")), _names(query.get("after", ""))
        page = functools.partial(listing.list_recursively, self._root / area, names, limit, after, depth)
        body = await asyncio.to_thread(_list, self._root / area, area, names, page)
        return web.Response(body=body, content_type="application/json", charset="utf-8")

    def _open(self, area: str, names: tuple[str, ...]) -> _Found:
        if any(paths.hidden(name) for name in names):
            raise paths.missing()
        root = self._root / area
        path = paths.resolve(root, names)
        try:
            # O_NONBLOCK: opening a FIFO that somebody left here must not hang a thread for ever.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        except PermissionError:
            raise paths.forbidden() from None
        except OSError:
            raise paths.missing() from None
        try:
            return self._checked(descriptor, path)
        except BaseException:
            os.close(descriptor)
            raise

    def _checked(self, descriptor: int, path: Path) -> _Found:
        status = os.fstat(descriptor)
        modified = datetime.fromtimestamp(status.st_mtime, tz=UTC)
        etag = f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"
        if stat.S_ISREG(status.st_mode):
            check_whole(descriptor, status, self._clock.now().timestamp(), self._settle_seconds)
            return _Found(path, os.fdopen(descriptor, "rb", buffering=0), modified, etag)
        if stat.S_ISDIR(status.st_mode):
            os.close(descriptor)
            return _Found(path, None, modified, etag)
        raise paths.missing()


def _names(path: str) -> tuple[str, ...]:
    return paths.segments(path.replace("%", "%25"))


def _number(text: str | None, name: str, default: int, most: int) -> int:
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 0 < int(text) <= most):
        raise LimitInvalid(f"{name} is not a number from 1 to {most}")
    return int(text)


def _list(root: Path, area: str, names: tuple[str, ...], page: Callable[[], tuple[list[Entry], bool]]) -> bytes:
    """In a thread as well: 100,000 entries are 15 MB of JSON."""
    if not paths.resolve(root, names).is_dir():
        raise paths.FileMissing("there is no such directory", action="name a directory of the area with ?path=")
    entries, truncated = page()
    body: dict[str, object] = {
        "path": "/" + "/".join((area, *names)),
        "files": [entry.as_json() for entry in entries],
    }
    if truncated:
        body["truncated"] = True
        body["next"] = entries[-1].as_json()["path"]
    return json.dumps(body).encode()
