"""`longshore.agent.v1.Channels`: hosts that come with a channel they were asked for."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio

from common.errors import Denied, Invalid, Unauthenticated
from control_plane.channels.exchange import Exchange
from control_plane.fleet.hosts import Members
from control_plane.rpc.peers import PeerIdentity, peer_of
from proto.agent.v1 import channels_pb2_grpc

_HELLO_SECONDS = 10.0


class ChannelHelloInvalid(Invalid):
    code = "channel_hello_invalid"


class ChannelsService(channels_pb2_grpc.ChannelsServicer):
    def __init__(self, exchange: Exchange, members: Members) -> None:
        self._exchange = exchange
        self._members = members

    # A coroutine that reads and writes its context instead of a generator: the tasks of a stream then have one owner.
    async def Serve(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]  # noqa: N802
        peer = peer_of(context)
        await self._admit(peer)
        try:
            async with asyncio.timeout(_HELLO_SECONDS):
                message = await context.read()
        except TimeoutError:
            raise ChannelHelloInvalid("no ChannelHello came", action="send it first") from None
        if message is grpc.aio.EOF or message.WhichOneof("body") != "hello":
            raise ChannelHelloInvalid("the stream did not begin with ChannelHello", action="send it first")
        line = self._exchange.claim(message.hello.channel_id, message.hello.secret, peer.name.id)
        await line.serve(context)

    async def _admit(self, peer: PeerIdentity) -> None:
        if peer.name.kind != "host":
            raise Denied(f"{peer.name.uri()} is no host", action="only hosts have channels")
        if not await self._members.may_read(f"host/{peer.name.id}"):
            raise Unauthenticated(f"{peer.name.uri()} was revoked", action="enrol it again with a new join token")
