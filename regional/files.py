"""`/static/`, `/repos/` and their listing API: what machines boot from and install.

Open to everybody who reaches the port, as boot firmware has no credentials; so nothing outside the two areas is ever
served (see `paths`).
"""

from __future__ import annotations

import asyncio
import json
import mimetypes
import os
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from aiohttp import web

from common.byte_ranges import Validators
from common.errors import Invalid
from regional import listing, paths
from regional.sending import FileBody, Representation, send
from regional.tree import AREAS

# A full Ubuntu pool has some 70,000 packages; an answer of 10,000 entries is about 1.5 MB.
_DEFAULT_ENTRIES = 10_000
_MAXIMUM_ENTRIES = 100_000


class LimitInvalid(Invalid):
    code = "limit_invalid"


@dataclass(frozen=True, slots=True)
class _Found:
    """`file` is open; None: a directory."""

    path: Path
    file: BinaryIO | None
    modified: datetime
    etag: str


class Files:
    """Handlers over `root/static` and `root/repos`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._types = mimetypes.MimeTypes()
        # Names such as pool/x.tar.gz are files of type gzip, not tar files in transit encoding gzip.
        self._types.encodings_map.clear()
        self._types.add_type("application/gzip", ".gz")
        self._types.add_type("application/x-xz", ".xz")

    def routes(self) -> list[web.RouteDef]:
        served = [web.get(f"/{area}{{tail:(?s:.*)}}", self.serve) for area in AREAS]
        return [*served, web.get("/api/v1/files/{area}", self.list)]

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """One file, or the index of a directory."""
        encoded = request.rel_url.raw_path
        area, *names = paths.segments(encoded)
        if area not in AREAS:  # /staticfoo
            raise paths.FileMissing("there is no such file", action="see /static/ and /repos/")
        found = await asyncio.to_thread(_open, self._root / area, tuple(names))
        if found.file is None:
            return await self._index(encoded, area, tuple(names))
        try:
            content_type = self._types.guess_type(found.path.name)[0] or "application/octet-stream"
            validators = Validators(found.etag, found.modified)
            return await send(request, Representation(FileBody(found.file), validators, content_type))
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
        """`?path=` names a directory of the area, `?limit=` bounds the answer; `truncated` tells that it did."""
        area = request.match_info["area"]
        if area not in AREAS:
            raise paths.FileMissing(f"there is no area {area[:40]!r}", action="use static or repos")
        limit = _limit(request.query.get("limit"))
        names = paths.segments(request.query.get("path", "").replace("%", "%25"))
        body = await asyncio.to_thread(_list, self._root / area, area, names, limit)
        return web.Response(body=body, content_type="application/json", charset="utf-8")


def _limit(text: str | None) -> int:
    if text is None:
        return _DEFAULT_ENTRIES
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 0 < int(text) <= _MAXIMUM_ENTRIES):
        raise LimitInvalid(f"limit is not a number from 1 to {_MAXIMUM_ENTRIES}")
    return int(text)


def _list(root: Path, area: str, names: tuple[str, ...], limit: int) -> bytes:
    """In a thread as well: 100,000 entries are 15 MB of JSON."""
    if not paths.resolve(root, names).is_dir():
        raise paths.FileMissing("there is no such directory", action="name a directory of the area with ?path=")
    entries, truncated = listing.list_recursively(root, names, limit)
    body: dict[str, object] = {
        "path": "/" + "/".join((area, *names)),
        "files": [entry.as_json() for entry in entries],
    }
    if truncated:
        body["truncated"] = True
    return json.dumps(body).encode()


def _open(area: Path, names: tuple[str, ...]) -> _Found:
    path = paths.resolve(area, names)
    try:
        # O_NONBLOCK: opening a FIFO that somebody left here must not hang a thread for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        raise paths.forbidden() from None
    except OSError:
        raise paths.missing() from None
    status = os.fstat(descriptor)
    modified = datetime.fromtimestamp(status.st_mtime, tz=UTC)
    etag = f"{status.st_mtime_ns:x}-{status.st_size:x}"
    if stat.S_ISREG(status.st_mode):
        return _Found(path, os.fdopen(descriptor, "rb", buffering=0), modified, etag)
    os.close(descriptor)
    if stat.S_ISDIR(status.st_mode):
        return _Found(path, None, modified, etag)
    raise paths.missing()
