"""Leadership by order of creation: each candidate writes a key under its lease, the oldest key leads.

A candidate watches only the one before it, so that the end of a leader wakes one process, not all.
"""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from common.backoff import Backoff
from common.discovery.etcd_client import EtcdClient
from common.discovery.etcd_requests import grant, keep_alive, prefix_end, read_range, revoke, transact, watch_answers
from common.discovery.keys import lock_prefix
from common.errors import Failure, Unavailable
from proto.etcd import etcd_pb2 as wire

log = structlog.get_logger()
_END_SECONDS = 2.0


class Candidate:
    """One place in the line; implements `common.discovery.Leadership` once `elected` has returned True.

    `lost` is set by our own clock: the time to live is counted from before the last request that etcd answered, so it
    ends here before it can end there.
    """

    def __init__(self, client: EtcdClient, name: str, ttl_seconds: float) -> None:
        self.lost = asyncio.Event()
        self.term = 0
        self._client = client
        self._prefix = lock_prefix(name)
        self._key = b""
        self._ttl_seconds = ttl_seconds
        self._lease = 0
        self._kept_until = float("-inf")

    async def join(self) -> None:
        """Raises `Unavailable`; what was begun then lapses by itself."""
        began = self._client.clock.monotonic()
        self._lease = await grant(self._client, self._ttl_seconds)
        self._kept_until = began + self._ttl_seconds
        self._key = key = f"{self._prefix}{self._lease:016x}".encode()
        request = wire.TxnRequest(
            compare=[wire.Compare(result=wire.Compare.EQUAL, target=wire.Compare.CREATE, key=key, create_revision=0)],
            success=[wire.RequestOp(request_put=wire.PutRequest(key=key, lease=self._lease))],
            failure=[wire.RequestOp(request_range=wire.RangeRequest(key=key))],
        )
        answer = await transact(self._client, request, seconds=self._ttl_seconds)
        if answer.succeeded:
            self.term = answer.header.revision
        else:  # an earlier try had written it, and its answer was lost
            self.term = answer.responses[0].response_range.kvs[0].create_revision

    async def keep(self) -> None:
        """Prolong the lease until it is lost; ends then."""
        clock, backoff = self._client.clock, Backoff(self._client.chance, initial_seconds=0.1, cap_seconds=1.0)
        try:
            while (left := self._kept_until - clock.monotonic()) > 0:
                pause = min(self._ttl_seconds / 3, left)
                began = clock.monotonic()
                try:
                    async with asyncio.timeout(left):
                        if not await keep_alive(self._client, self._lease, seconds=left) or not await self._in_line():
                            break
                    self._kept_until = began + self._ttl_seconds
                    backoff.reset()
                except (Failure, TimeoutError) as failure:
                    log.warning("lock not prolonged", lock=self._prefix, error=str(failure))
                    pause = min(backoff.next_delay(), max(0.0, self._kept_until - clock.monotonic()))
                await clock.sleep(pause)
        finally:
            self.lost.set()

    async def elected(self) -> bool:
        """Waits until every older candidate is gone; False when our own place is lost."""
        backoff = Backoff(self._client.chance, initial_seconds=0.1, cap_seconds=1.0)
        while not self.lost.is_set():
            try:
                before = await self._candidate_before()
                if before is None:
                    return await self._in_line() and not self.lost.is_set()
                await self._gone(before)
                backoff.reset()
            except Unavailable as failure:
                log.warning("waiting for the lock goes on", lock=self._prefix, error=str(failure))
                await self._client.clock.sleep(backoff.next_delay())
        return False

    async def leave(self) -> None:
        if self._lease:
            with contextlib.suppress(Failure, TimeoutError):
                async with asyncio.timeout(_END_SECONDS):
                    await revoke(self._client, self._lease, seconds=_END_SECONDS)

    async def _in_line(self) -> bool:
        """Whether our key is still there: an operator may delete it to make a leader step down."""
        return bool((await read_range(self._client, wire.RangeRequest(key=self._key))).kvs)

    async def _candidate_before(self) -> wire.KeyValue | None:
        found = await read_range(
            self._client,
            wire.RangeRequest(
                key=self._prefix.encode(),
                range_end=prefix_end(self._prefix),
                max_create_revision=self.term - 1,
                sort_order=wire.RangeRequest.DESCEND,
                sort_target=wire.RangeRequest.CREATE,
                limit=1,
            ),
        )
        return found.kvs[0] if found.kvs else None

    async def _gone(self, candidate: wire.KeyValue) -> None:
        """Returns when the candidate's key is deleted or our own place is lost."""
        async with asyncio.TaskGroup() as group:
            deleted = group.create_task(self._deleted(candidate))
            lost = group.create_task(self.lost.wait())
            await asyncio.wait({deleted, lost}, return_when=asyncio.FIRST_COMPLETED)
            deleted.cancel()
            lost.cancel()

    async def _deleted(self, candidate: wire.KeyValue) -> None:
        create = wire.WatchCreateRequest(key=candidate.key, start_revision=candidate.mod_revision + 1)
        with contextlib.suppress(Unavailable):  # then the line is read again
            async with contextlib.aclosing(watch_answers(self._client, create)) as answers:
                async for answer in answers:
                    if answer.canceled or any(event.type == wire.Event.DELETE for event in answer.events):
                        return
