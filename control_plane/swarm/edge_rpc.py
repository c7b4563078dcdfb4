"""The gRPC services of the edge beside its attachment: rights to read through, and contents given back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from common.digest import Digest
from common.errors import Denied, Invalid
from control_plane.rpc.peers import peer_of
from control_plane.swarm.access import BearerCheck, BearerRevoked
from control_plane.swarm.edge_rights import PullRights
from control_plane.swarm.healing import Returns
from control_plane.swarm.returns_store import Holder
from proto.edge.v1 import edge_pb2, edge_pb2_grpc

# Somebody who sends nothing for so long has gone.
_SILENCE_SECONDS = 60.0


class GiftMalformed(Invalid):
    code = "gift_malformed"


class PullRightsService(edge_pb2_grpc.PullRightsServicer):
    def __init__(self, rights: PullRights) -> None:
        self._rights = rights

    async def Ask(self, request: edge_pb2.RightsRequest, context: Any) -> edge_pb2.RightsReply:  # noqa: N802
        name = peer_of(context).name
        digests = [Digest.parse(text) for text in request.digests]
        granted = await self._rights.ask(
            f"{name.kind}/{name.id}", name.idc, request.registry_token, request.repository, digests
        )
        return edge_pb2.RightsReply(
            tenant_id=granted.tenant_id,
            rights=[
                edge_pb2.Right(digest=str(digest), size_bytes=size, token=granted.tokens[digest])
                for digest, size in granted.sizes.items()
            ],
            public=granted.public,
        )


class ReturnsService(edge_pb2_grpc.ReturnsServicer):
    def __init__(self, returns: Returns, bearers: BearerCheck) -> None:
        self._returns = returns
        self._bearers = bearers

    async def Give(self, request_iterator: Any, context: Any) -> edge_pb2.GiveReply:  # noqa: N802
        name = peer_of(context).name
        if not await self._bearers.may_read(f"{name.kind}/{name.id}"):
            raise BearerRevoked(f"{name.uri()} was revoked", action="enrol it again with a new join token")
        pieces = _patiently(request_iterator)
        first = await anext(pieces, None)
        if first is None or not first.request_id:
            raise GiftMalformed("the first piece names no request", action="name the request that was received")
        holder = Holder(name.kind, name.id)
        if first.absent:
            await self._returns.refuse(holder, first.request_id)
            return edge_pb2.GiveReply(accepted=False)
        return edge_pb2.GiveReply(accepted=await self._returns.receive(holder, first.request_id, _bytes(first, pieces)))


async def _patiently(messages: Any) -> AsyncIterator[edge_pb2.GivenPiece]:
    waiting = aiter(messages)
    while True:
        try:
            async with asyncio.timeout(_SILENCE_SECONDS):
                message = await anext(waiting)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Denied(f"no piece came for {_SILENCE_SECONDS:.0f} s", action="wait to be asked again") from None
        yield message


async def _bytes(first: edge_pb2.GivenPiece, rest: AsyncIterator[edge_pb2.GivenPiece]) -> AsyncIterator[bytes]:
    if first.data:
        yield first.data
    async for piece in rest:
        if piece.data:
            yield piece.data
