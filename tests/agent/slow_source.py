"""A source that keeps one content back until it is let go."""

from __future__ import annotations

import asyncio

from aiohttp import web

from common.digest import Digest
from tests.agent.lab import FakeSource


class SlowSource(FakeSource):
    def __init__(self, kept_back: Digest | None = None) -> None:
        super().__init__()
        self.kept_back = kept_back
        self.let_go = asyncio.Event()

    async def _content(self, request: web.Request) -> web.StreamResponse:
        if request.match_info["digest"] == str(self.kept_back):
            await self.let_go.wait()
        return await super()._content(request)
