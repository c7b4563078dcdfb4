"""A network of libtorrent peers on loopback for the tests: a tracker and a small disk beside it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import subprocess
import urllib.parse
from pathlib import Path

import pytest
from aiohttp import web

from common.bittorrent import AGENT_FINGERPRINT, bencode
from common.bittorrent.libtorrent import LibtorrentSession


class TmpfsDisk:
    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], check=True)

    def grow(self) -> None:
        subprocess.run(["mount", "-o", "remount,size=64m", str(self.path)], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.path)], check=True)


class LibtorrentLab:
    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._stack = contextlib.AsyncExitStack()
        self.announces: list[dict[str, str]] = []

    async def close(self) -> None:
        await self._stack.aclose()

    async def session(self, fingerprint: bytes = AGENT_FINGERPRINT, *, tls: bool = False) -> LibtorrentSession:
        return await self._stack.enter_async_context(LibtorrentSession("127.0.0.1", 0, fingerprint, tls=tls))

    async def attempted(self) -> None:
        await asyncio.sleep(1.5)  # `connect_peer` waits for libtorrent's next second, and a refusal tells nobody

    async def tracker(self) -> str:
        swarms: dict[str, set[tuple[str, int]]] = {}

        async def announce(request: web.Request) -> web.Response:
            query = dict(pair.split("=", 1) for pair in request.rel_url.raw_query_string.split("&"))
            self.announces.append(query)
            swarm = swarms.setdefault(urllib.parse.unquote_to_bytes(query["info_hash"]).hex(), set())
            me = (request.remote or "", int(query["port"]))
            others = b"".join(socket.inet_aton(host) + struct.pack(">H", port) for host, port in sorted(swarm - {me}))
            swarm.add(me)
            if query.get("event") == "stopped":
                swarm.discard(me)
            return web.Response(body=bencode.encode({b"interval": 60, b"peers": others}))

        return await self._serve("/announce", announce) + "/announce?token=secret"

    def small_disk(self, size: int) -> TmpfsDisk:
        if os.geteuid() != 0:
            pytest.skip("a small disk is a tmpfs, which only root may mount")
        disk = TmpfsDisk(self._scratch / "small", size)
        self._stack.callback(disk.unmount)
        return disk

    async def _serve(self, path: str, handler) -> str:
        application = web.Application()
        application.router.add_get(path, handler)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"


@pytest.fixture
async def libtorrent_lab(tmp_path):
    lab = LibtorrentLab(tmp_path)
    try:
        yield lab
    finally:
        await lab.close()
