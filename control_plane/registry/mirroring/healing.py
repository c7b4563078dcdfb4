"""A mirror's upstream as somebody who may have the bytes of a damaged blob (`Healer` of registry/stores)."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

from common.digest import Digest
from common.errors import NotFound
from control_plane.registry.mirroring.directory import MirrorDirectory
from control_plane.registry.remote.downloads import Download


class UpstreamHealer:
    """What it hands out is not verified; the store's commit does that."""

    name = "upstream"

    def __init__(self, directory: MirrorDirectory) -> None:
        self._directory = directory

    @contextlib.asynccontextmanager
    async def pieces(
        self, digest: Digest, size: int, repositories: Sequence[str]
    ) -> AsyncIterator[AsyncIterator[bytes] | None]:
        """Of the first of the repositories that is a mirror and whose upstream has the blob."""
        async with contextlib.AsyncExitStack() as stack:
            download = await self._download(stack, digest, repositories)
            yield download.pieces() if download is not None and download.size == size else None

    async def _download(
        self, stack: contextlib.AsyncExitStack, digest: Digest, repositories: Sequence[str]
    ) -> Download | None:
        for repository in repositories:
            mirrored = await self._directory.find(repository)
            if mirrored is not None:
                with contextlib.suppress(NotFound):
                    return await stack.enter_async_context(
                        mirrored.client.download(mirrored.there, digest, verify=False)
                    )
        return None
