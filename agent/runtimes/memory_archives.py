"""Exports of the memory engine: a real tar archive of what an instance holds, and of its snapshots beside it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncIterator, Mapping

from agent.runtimes.failures import EngineRefused

Files = Mapping[str, bytes]
_SNAPSHOTS = ".snapshots"


async def packed(files: Files, snapshots: Mapping[str, Files]) -> AsyncIterator[bytes]:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in files.items():
            _add(archive, path.lstrip("/"), content)
        for name, kept in snapshots.items():
            _add(archive, f"{_SNAPSHOTS}/{name}/.", b"")
            for path, content in kept.items():
                _add(archive, f"{_SNAPSHOTS}/{name}/{path.lstrip('/')}", content)
    yield buffer.getvalue()


async def unpacked(archive: AsyncIterator[bytes]) -> tuple[dict[str, bytes], dict[str, dict[str, bytes]]]:
    """Files and snapshots. Raises `EngineRefused` for what is no such archive."""
    data = b"".join([chunk async for chunk in archive])
    files: dict[str, bytes] = {}
    snapshots: dict[str, dict[str, bytes]] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as opened:
            for entry in opened:
                content = opened.extractfile(entry)
                top, _, rest = entry.name.partition("/")
                if top != _SNAPSHOTS:
                    files[f"/{entry.name}"] = content.read() if content else b""
                    continue
                name, _, path = rest.partition("/")
                kept = snapshots.setdefault(name, {})
                if path != ".":
                    kept[f"/{path}"] = content.read() if content else b""
    except tarfile.TarError as error:
        raise EngineRefused(f"that is no export: {error}", action="export it again") from error
    return files, snapshots


def _add(archive: tarfile.TarFile, path: str, content: bytes) -> None:
    entry = tarfile.TarInfo(path)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
