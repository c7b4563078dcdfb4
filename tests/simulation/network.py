"""The network between agents and the control plane: streams that delay, stall and break as TCP does.

Invariant: inside one stream everything arrives once and in order, or the stream is over; that is what gRPC over TCP
promises, and no more is assumed. What a stream cannot do, several can: the words of an old stream may be read after
those of its successor, and what was sent twice because an acknowledgement was lost arrives twice.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from common.errors import Failure
from common.rpc_failures import FAILURE_TRAILER, pack
from control_plane.rpc.errors import status_of
from proto.agent.v1 import agent_pb2

# HTTP/2 gives a stream 64 KiB of credit; a reader that stops reading stops the writer after that.
_CREDIT_BYTES = 64 * 1024
# Keepalives of both sides (common/channels.py, control_plane/rpc/server.py): ping, then patience.
_AGENT_NOTICES_SECONDS = 40.0
_PLANE_NOTICES_SECONDS = 80.0
# A retransmission or two.
SLOWEST_SECONDS = 3.0


class _Pipe:
    """One direction of a stream."""

    def __init__(self, latency: Callable[[], float]) -> None:
        self._loop = asyncio.get_running_loop()
        self._latency = latency
        # Bytes, or at last what the reader gets instead of them.
        self._under_way: deque[Any] = deque()
        self._arrived: deque[Any] = deque()
        self._credit = _CREDIT_BYTES
        self._last = 0.0
        self._late = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self.open = True  # to the writer
        self.delivering = True
        self.over = False

    async def write(self, data: bytes) -> None:
        while self.open and self._credit < 0:
            self._room.clear()
            await self._room.wait()
        if not self.open:
            raise asyncio.InvalidStateError("the stream is over")
        self._credit -= len(data)
        self._send(data)

    def end(self, last: Any) -> None:
        """By the writer: `last` comes after all that was written."""
        if self.open:
            self.open = False
            self._send(last)

    def lose(self, last: Any) -> None:
        """The connection is gone: what is under way never arrives."""
        self.open = False
        self._under_way.clear()
        self._room.set()
        if not self.over:
            self.over = True
            self._arrived.append(last)
            self._news.set()

    async def read(self) -> Any:
        while not self._arrived:
            self._news.clear()
            await self._news.wait()
        if not isinstance(self._arrived[0], bytes):
            return self._arrived[0]
        data = self._arrived.popleft()
        self._credit += len(data)
        self._room.set()
        return data

    def stall(self) -> None:
        self.delivering = False

    def resume(self) -> None:
        self.delivering = True
        late, self._late = self._late, 0
        for _ in range(late):
            self._arrive()

    def _send(self, item: Any) -> None:
        self._under_way.append(item)
        # What is sent later arrives later.
        self._last = max(self._last, self._loop.time() + self._latency())
        self._loop.call_at(self._last, self._arrive)

    def _arrive(self) -> None:
        if not self.delivering:
            self._late += 1
        elif self._under_way:
            item = self._under_way.popleft()
            if not isinstance(item, bytes):
                self.over = True
            self._arrived.append(item)
            self._news.set()


class Connection:
    """One attachment. `cut` breaks it: both sides learn of it soon, or, if `silently`, only by their keepalives."""

    def __init__(self, latency: Callable[[], float]) -> None:
        self._loop = asyncio.get_running_loop()
        self.up, self.down = _Pipe(latency), _Pipe(latency)
        self._latency = latency
        self.agent, self.plane = AgentCall(self), PlaneStream(self)
        self.serving: asyncio.Task[None] | None = None
        self.reset_on_resume = False
        self._gone = False
        self._stalls = 0

    @property
    def over(self) -> bool:
        return self.up.over and self.down.over

    def cut(self, *, silently: bool = False) -> None:
        self._stall()
        self._loop.call_later(_AGENT_NOTICES_SECONDS if silently else self._latency(), self._agent_learns)
        self._loop.call_later(_PLANE_NOTICES_SECONDS if silently else self._latency(), self._plane_learns)

    def partition(self) -> None:
        """Until `resume`; but keepalives are not patient for ever."""
        self._stall()
        stall = self._stalls
        self._loop.call_later(_AGENT_NOTICES_SECONDS, lambda: self._stalled_since(stall) and self._agent_learns())
        self._loop.call_later(_PLANE_NOTICES_SECONDS, lambda: self._stalled_since(stall) and self._plane_learns())

    def resume(self) -> None:
        self._stalls += 1
        if self.reset_on_resume:
            self.cut()
        else:
            self.up.resume()
            self.down.resume()
            if self._gone:
                self._plane_learns()

    def hung_up(self) -> None:
        """By the agent."""
        self._agent_learns()
        self._gone = True
        self._loop.call_later(self._latency(), lambda: self.up.delivering and self._plane_learns())

    def answered(self, failure: Failure | None) -> None:
        """By the plane: its handler returned or raised."""
        self.down.end(grpc.aio.EOF if failure is None else _status(failure))
        self.up.open = False

    def _stall(self) -> None:
        self._stalls += 1
        self.up.stall()
        self.down.stall()

    def _stalled_since(self, stall: int) -> bool:
        return self._stalls == stall

    def _agent_learns(self) -> None:
        self.down.lose(_broken())
        self.up.open = False

    def _plane_learns(self) -> None:
        self.up.lose(grpc.aio.EOF)
        self.down.open = False
        if self.serving is not None:
            self.serving.cancel()  # as gRPC does with the handler of a stream whose client is gone


class AgentCall:
    """What `common.attachment` uses of a gRPC call."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def read(self) -> Any:
        item = await self._connection.down.read()
        if isinstance(item, bytes):
            return agent_pb2.PlaneMessage.FromString(item)
        if item is grpc.aio.EOF:
            return item
        raise item

    async def write(self, message: Any) -> None:
        await self._connection.up.write(message.SerializeToString())

    def cancel(self) -> None:
        self._connection.hung_up()


class PlaneStream:
    """`control_plane.fleet.conversation.Stream`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def read(self) -> Any:
        item = await self._connection.up.read()
        return agent_pb2.AgentMessage.FromString(item) if isinstance(item, bytes) else item

    async def write(self, message: Any) -> None:
        try:
            await self._connection.down.write(message.SerializeToString())
        except asyncio.InvalidStateError:
            raise grpc.aio.UsageError("the stream is over") from None


class Network:
    """The links of all hosts. `listener`: the plane that listens now."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._connections: dict[str, list[Connection]] = {}
        self._partitioned: set[str] = set()
        self.listener: Callable[[str, Connection], None] | None = None

    async def dial(self, host_id: str) -> AgentCall:
        await asyncio.sleep(self._latency())
        if host_id in self._partitioned:
            await asyncio.sleep(20.0)  # SYNs into nowhere
            raise _broken()
        if self.listener is None:
            raise _broken()
        connection = Connection(self._latency)
        self._connections[host_id] = [*self._open(host_id), connection]
        self.listener(host_id, connection)
        return connection.agent

    def cut(self, host_id: str, *, silently: bool = False) -> None:
        for connection in self._open(host_id):
            connection.cut(silently=silently)

    def partition(self, host_id: str) -> None:
        """Nothing passes until `heal`; what waits then arrives, unless the keepalives gave up before."""
        if host_id not in self._partitioned:
            self._partitioned.add(host_id)
            for connection in self._open(host_id):
                connection.partition()

    def heal(self, host_id: str) -> None:
        if host_id in self._partitioned:
            self._partitioned.discard(host_id)
            for connection in self._open(host_id):
                connection.resume()

    def plane_gone(self) -> None:
        """Killed: the kernel resets what was open; who is cut off learns of it later."""
        self.listener = None
        for host_id in list(self._connections):
            for connection in self._open(host_id):
                if host_id in self._partitioned:
                    connection.reset_on_resume = True
                else:
                    connection.cut()

    def _open(self, host_id: str) -> list[Connection]:
        return [one for one in self._connections.get(host_id, ()) if not one.over]

    def _latency(self) -> float:
        # Mostly a LAN or a WAN, now and then a retransmission.
        return (
            self._chance.uniform(0.001, 0.05)
            if self._chance.random() < 0.97
            else self._chance.uniform(0.2, SLOWEST_SECONDS)
        )


def _broken() -> grpc.aio.AioRpcError:
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, "the connection broke")


def _status(failure: Failure) -> grpc.aio.AioRpcError:
    trailer = grpc.aio.Metadata((FAILURE_TRAILER, pack(failure)))
    return grpc.aio.AioRpcError(status_of(failure), grpc.aio.Metadata(), trailer, str(failure))
