"""Giving back a content that the control plane lost and this process holds (proto/edge/v1): over mutual TLS, from the
first byte to the last.

Invariant: nothing here is believed by the other end before it hashed all of it; whoever does not hold the content says
so at once, so that somebody else is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import grpc.aio
import structlog

from common.channels import identified_channel
from common.digest import Digest, DigestInvalid
from common.errors import Failure
from common.rpc_failures import failure_of
from common.tls import Identity
from proto.edge.v1 import edge_pb2, edge_pb2_grpc

log = structlog.get_logger()

_PIECE = 1 << 20
# Requests come one by one, from the scrub; more than these at once are somebody's mistake, and they are asked again.
_AT_ONCE = 2
_MOST_WAITING = 16
_MARGIN_SECONDS = 60.0
_SLOWEST_BYTES_PER_SECOND = 1 << 20


class Spawn(Protocol):
    """`Lifecycle.spawn`."""

    def __call__(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]: ...


class Giver:
    """`open_held`: the whole, verified content, or None if it is not held; it is closed here. `address`: host:port of
    the attach listener.
    """

    def __init__(
        self,
        open_held: Callable[[Digest], Awaitable[BinaryIO | None]],
        identity_dir: Path,
        address: Callable[[], Awaitable[str]],
        spawn: Spawn,
    ) -> None:
        self._open_held = open_held
        self._identity_dir = identity_dir
        self._address = address
        self._spawn = spawn
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0

    def asked(self, wanted: edge_pb2.ReturnContent) -> None:
        """Give it in the background; a failure is logged, and the control plane asks again or somebody else."""
        if self._waiting >= _MOST_WAITING:
            log.warning("too many contents are asked back at once", digest=wanted.digest[:160])
            return
        self._waiting += 1
        self._spawn(f"give back {wanted.digest[:80]}", self._give_quietly(wanted))

    async def _give_quietly(self, wanted: edge_pb2.ReturnContent) -> None:
        try:
            async with self._turns, asyncio.timeout(wanted.size_bytes / _SLOWEST_BYTES_PER_SECOND + _MARGIN_SECONDS):
                accepted = await self._give(wanted)
            log.info("content given back", digest=wanted.digest[:160], accepted=accepted)
        except (Failure, OSError, TimeoutError) as error:
            log.warning("content not given back", digest=wanted.digest[:160], error=str(error))
        finally:
            self._waiting -= 1

    async def _give(self, wanted: edge_pb2.ReturnContent) -> bool:
        file = await self._find(wanted)
        try:
            identity = await asyncio.to_thread(Identity.load, self._identity_dir)
            if identity is None:
                return False
            async with identified_channel(await self._address(), identity) as channel:
                try:
                    reply = await edge_pb2_grpc.ReturnsStub(channel).Give(_pieces(wanted, file))
                except grpc.aio.AioRpcError as error:
                    raise failure_of(error, "giving a content back") from error
                return reply.accepted
        finally:
            if file is not None:
                file.close()

    async def _find(self, wanted: edge_pb2.ReturnContent) -> BinaryIO | None:
        try:
            return await self._open_held(Digest.parse(wanted.digest))
        except DigestInvalid:
            return None


async def _pieces(wanted: edge_pb2.ReturnContent, file: BinaryIO | None) -> AsyncIterator[edge_pb2.GivenPiece]:
    yield edge_pb2.GivenPiece(request_id=wanted.request_id, absent=file is None)
    while file is not None and (data := await asyncio.to_thread(file.read, _PIECE)):
        yield edge_pb2.GivenPiece(data=data)
