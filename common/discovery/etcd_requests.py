"""What we say to etcd, as functions of the client; each may be repeated when its answer was lost."""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
from collections.abc import AsyncGenerator, AsyncIterator

from common.discovery.etcd_client import ATTEMPT_SECONDS, Connection, EtcdClient, Metadata
from common.errors import Conflict, NotFound, Unavailable
from proto.etcd import etcd_pb2 as wire

# The node that serves a watch must have a leader: one that is cut off from its cluster ends the stream.
_REQUIRE_LEADER = (("hasleader", "true"),)
_CREATE_SECONDS = 5.0


def prefix_end(prefix: str) -> bytes:
    """The first key after everything that begins with `prefix`; pure."""
    raw = bytearray(prefix.encode())
    while raw and raw[-1] == 0xFF:
        raw.pop()
    if not raw:
        return b"\0"  # to etcd: up to the last key
    raw[-1] += 1
    return bytes(raw)


async def read_range(client: EtcdClient, request: wire.RangeRequest) -> wire.RangeResponse:
    async def operation(connection: Connection, metadata: Metadata) -> wire.RangeResponse:
        return await connection.kv.Range(request, timeout=ATTEMPT_SECONDS, metadata=metadata)

    return await client.call("read", operation)


async def transact(client: EtcdClient, request: wire.TxnRequest, *, seconds: float | None = None) -> wire.TxnResponse:
    async def operation(connection: Connection, metadata: Metadata) -> wire.TxnResponse:
        return await connection.kv.Txn(request, timeout=ATTEMPT_SECONDS, metadata=metadata)

    return await client.call("write", operation, seconds=seconds)


async def grant(client: EtcdClient, ttl_seconds: float, *, seconds: float | None = None) -> int:
    """A new lease. The id is ours, so that a repeated request finds the lease that the first one made."""
    lease = secrets.randbits(62) + 1
    request = wire.LeaseGrantRequest(TTL=math.ceil(ttl_seconds), ID=lease)

    async def operation(connection: Connection, metadata: Metadata) -> wire.LeaseGrantResponse:
        return await connection.lease.LeaseGrant(request, timeout=ATTEMPT_SECONDS, metadata=metadata)

    with contextlib.suppress(Conflict):  # it exists: the answer to an earlier try was lost
        await client.call("grant a lease", operation, seconds=seconds)
    return lease


async def keep_alive(client: EtcdClient, lease: int, *, seconds: float | None = None) -> bool:
    """False if the lease is no more."""
    request = wire.LeaseKeepAliveRequest(ID=lease)

    async def requests() -> AsyncIterator[wire.LeaseKeepAliveRequest]:
        yield request

    async def operation(connection: Connection, metadata: Metadata) -> wire.LeaseKeepAliveResponse:
        call = connection.lease.LeaseKeepAlive(requests(), timeout=ATTEMPT_SECONDS, metadata=metadata)
        async for answer in call:
            return answer
        raise Unavailable("etcd ended the stream without an answer")

    return (await client.call("keep a lease alive", operation, seconds=seconds)).TTL > 0


async def revoke(client: EtcdClient, lease: int, *, seconds: float | None = None) -> None:
    """Deletes its keys. A lease that is no more is fine."""
    request = wire.LeaseRevokeRequest(ID=lease)

    async def operation(connection: Connection, metadata: Metadata) -> wire.LeaseRevokeResponse:
        return await connection.lease.LeaseRevoke(request, timeout=ATTEMPT_SECONDS, metadata=metadata)

    with contextlib.suppress(NotFound):
        await client.call("revoke a lease", operation, seconds=seconds)


async def watch_answers(
    client: EtcdClient, create: wire.WatchCreateRequest
) -> AsyncGenerator[wire.WatchResponse, None]:
    """What etcd says to a watch, until the stream ends: raises `Unavailable` then, however it ended."""

    async def requests() -> AsyncIterator[wire.WatchRequest]:
        yield wire.WatchRequest(create_request=create)
        await asyncio.Event().wait()  # an end of the requests would end the watch

    async with client.connected("watch") as connection:
        metadata = (*_REQUIRE_LEADER, *await client.credentials(connection))
        call = connection.watch.Watch(requests(), metadata=metadata)
        answers = aiter(call)
        try:
            yield await _first(answers)
            async for answer in answers:
                yield answer
        except TimeoutError as error:
            client.abandon(connection)
            raise Unavailable(f"etcd has not begun the watch within {_CREATE_SECONDS} s") from error
        finally:
            call.cancel()
    raise Unavailable("etcd ended the watch")


async def _first(answers: AsyncIterator[wire.WatchResponse]) -> wire.WatchResponse:
    async with asyncio.timeout(_CREATE_SECONDS):
        async for answer in answers:
            return answer
    raise Unavailable("etcd ended the watch")
