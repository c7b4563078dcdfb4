"""Pulling and deleting blobs over HTTP (distribution specification, "Pulling blobs", "Deleting blobs")."""

from __future__ import annotations

from common.digest import Digest
from common.errors import NotFound
from control_plane.registry.contents import ContentService
from control_plane.registry.model import OCTETS
from control_plane.registry.serving import (
    accelerated,
    pieces_of,
    plan,
    redirected,
    sees_credentials,
    send_body,
    send_empty,
    send_start,
)
from control_plane.registry.v2 import Options
from control_plane.registry.v2.exchange import Exchange
from control_plane.tenants.access import Principal


class BlobEndpoints:
    def __init__(self, contents: ContentService, options: Options) -> None:
        self._contents = contents
        self._options = options

    async def get(self, exchange: Exchange, principal: Principal) -> None:
        digest = Digest.parse(exchange.target.item)
        try:
            size = await self._contents.blob_size(principal, exchange.target.repository, digest)
        except NotFound:
            if await self._passed_through(exchange, principal, digest):
                return
            size = await self._contents.blob_size(principal, exchange.target.repository, digest)
        planned = plan("GET", exchange.headers, digest, size, OCTETS)
        if planned.bodiless:
            await send_empty(exchange.send, planned.status, planned.headers)
            return
        if self._options.accel_prefix is not None and await self._contents.local_path(digest, size) is not None:
            await send_empty(exchange.send, 200, accelerated(self._options.accel_prefix, digest, OCTETS))
            return
        if self._options.redirected(exchange.target.repository):
            address = await self._contents.address(digest, size, self._options.redirect_seconds)
            if address is not None and not self._sends_credentials(exchange, address):
                await send_empty(exchange.send, 307, redirected(address, digest))
                return
        async with self._contents.open_blob(digest, size) as reader:
            await send_start(exchange.send, planned.status, planned.headers)
            pieces = pieces_of(exchange.scope, reader, planned.start, planned.end)
            length = planned.end - planned.start
            await send_body(exchange.receive, exchange.send, length, pieces, self._options.idle_seconds)

    def _sends_credentials(self, exchange: Exchange, address: str) -> bool:
        if "authorization" not in exchange.headers:
            return False
        return sees_credentials(self._options.public_url or f"//{exchange.headers.get('host', '')}", address)

    async def _passed_through(self, exchange: Exchange, principal: Principal, digest: Digest) -> bool:
        """Whether the blob was answered from upstream, while it is being stored here."""
        async with self._contents.incoming(principal, exchange.target.repository, digest) as incoming:
            if incoming is None:
                return False
            planned = plan("GET", exchange.headers, digest, incoming.size, OCTETS)
            if planned.bodiless:
                await send_empty(exchange.send, planned.status, planned.headers)
                return True
            await send_start(exchange.send, planned.status, planned.headers)
            pieces = incoming.read(planned.start, planned.end)
            length = planned.end - planned.start
            await send_body(exchange.receive, exchange.send, length, pieces, self._options.idle_seconds)
        return True

    async def head(self, exchange: Exchange, principal: Principal) -> None:
        digest = Digest.parse(exchange.target.item)
        repository = exchange.target.repository
        try:
            size = await self._contents.present_blob_size(principal, repository, digest)
        except NotFound:
            upstream = await self._contents.upstream_blob_size(principal, repository, digest)
            if upstream is None:
                raise
            size = upstream
        planned = plan("HEAD", exchange.headers, digest, size, OCTETS)
        await send_empty(exchange.send, planned.status, planned.headers)

    async def delete(self, exchange: Exchange, principal: Principal) -> None:
        digest = Digest.parse(exchange.target.item)
        await self._contents.unlink_blob(principal, exchange.target.repository, digest)
        await exchange.answer(202)
