"""The centre's word on which contents of a repository somebody may pull, and our right to fetch them for the cache:
asked over mutual TLS, so the tokens that come back are this regional's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import grpc
import grpc.aio

from common.channels import identified_channel
from common.digest import Digest
from common.errors import Failure, Internal, Unauthenticated, Unavailable
from common.rpc_failures import failure_of
from common.tls import Identity
from proto.edge.v1 import edge_pb2, edge_pb2_grpc

_ASK_SECONDS = 10.0
# The centre answers no more at once; a manifest with more contents is rare, and they are asked when they are wanted.
MOST_DIGESTS = 1000


@dataclass(frozen=True, slots=True)
class Granted:
    """`tokens` and `sizes` have the same digests: those that the repository has. `public`: everybody may pull it."""

    tenant_id: str
    sizes: Mapping[Digest, int]
    tokens: Mapping[Digest, str]
    public: bool


class PullRights(Protocol):
    async def ask(self, registry_token: str, repository: str, digests: Sequence[Digest]) -> Granted:
        """`registry_token` empty: as nobody in particular. Raises what the centre refuses with (`Unauthenticated`,
        `Denied`, `NotFound`), and `Unavailable` while it is away.
        """
        ...


class CentreRights:
    """One connection, made when it is first needed and anew after it failed. `close` ends it."""

    def __init__(self, identity_dir: Path, address: Callable[[], Awaitable[str]]) -> None:
        self._identity_dir = identity_dir
        self._address = address
        self._channel: grpc.aio.Channel | None = None
        self._shown: Identity | None = None
        self._connecting = asyncio.Lock()

    async def ask(self, registry_token: str, repository: str, digests: Sequence[Digest]) -> Granted:
        request = edge_pb2.RightsRequest(
            registry_token=registry_token,
            repository=repository,
            digests=[str(digest) for digest in digests[:MOST_DIGESTS]],
        )
        channel = await self._connected()
        try:
            reply = await edge_pb2_grpc.PullRightsStub(channel).Ask(request, timeout=_ASK_SECONDS)
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                await self.close()
            raise failure_of(error, "asking the centre for rights") from error
        except grpc.aio.UsageError as error:  # another asker closed the channel
            raise Unavailable("the line to the centre was just closed", action="ask again") from error
        try:
            given = {Digest.parse(right.digest): right for right in reply.rights}
        except Failure as failure:
            raise Internal("the centre's answer on rights makes no sense", action="update one of the two") from failure
        return Granted(
            reply.tenant_id,
            {digest: right.size_bytes for digest, right in given.items()},
            {digest: right.token for digest, right in given.items()},
            reply.public,
        )

    async def close(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    async def _connected(self) -> grpc.aio.Channel:
        async with self._connecting:
            identity = await asyncio.to_thread(Identity.load, self._identity_dir)
            if identity is None:
                raise Unauthenticated("this regional has no identity", action="enrol it with a join token")
            if self._channel is None or identity != self._shown:
                await self.close()
                self._channel = identified_channel(await self._address(), identity)
                self._shown = identity
            return self._channel
