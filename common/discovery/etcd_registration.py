"""One key that this process holds in etcd: written under a lease, kept, written again, and ended."""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from common.backoff import Backoff, jittered
from common.discovery.etcd_client import EtcdClient
from common.discovery.etcd_requests import grant, keep_alive, read_range, revoke, transact
from common.errors import Failure, NotFound, Stale, Unavailable
from proto.etcd import etcd_pb2 as wire

log = structlog.get_logger()
_ENTER_SECONDS = 5.0
_END_SECONDS = 2.0


class EtcdRegistration:
    """Implements `common.discovery.Registration`. The lease that a key hangs on says whose it is."""

    def __init__(self, client: EtcdClient, key: str, value: bytes, ttl_seconds: float) -> None:
        self.displaced = asyncio.Event()
        self._client = client
        self._key = key
        self._value = value
        self._ttl_seconds = ttl_seconds
        self._lease = 0
        self._kept_until = float("-inf")
        self._written = False
        self._taken = False
        self._turn = asyncio.Lock()

    @property
    def held(self) -> bool:
        return self._written and not self.displaced.is_set() and self._client.clock.monotonic() < self._kept_until

    async def update(self, value: bytes) -> None:
        async with self._turn:
            self._value = value
            self._written = False
            if self.displaced.is_set():
                raise Stale(f"{self._key} was taken by another process", action="stop one of the two")
            await self._refresh()
            if self.displaced.is_set():
                raise Stale(f"{self._key} was taken by another process", action="stop one of the two")

    async def begin(self) -> None:
        """Take the key from whoever had it. Does not raise `Unavailable`: `keep` goes on trying."""
        try:
            async with asyncio.timeout(_ENTER_SECONDS), self._turn:
                await self._take()
        except (Unavailable, TimeoutError) as error:
            log.warning("not registered yet", key=self._key, error=str(error))

    async def keep(self) -> None:
        """Returns only when another process has taken the key."""
        period = self._ttl_seconds / 3
        backoff = Backoff(self._client.chance, initial_seconds=min(0.5, period), cap_seconds=period)
        pause = jittered(period, 0.1, self._client.chance) if self._written else backoff.next_delay()
        while not self.displaced.is_set():
            await self._client.clock.sleep(pause)
            try:
                async with self._turn:
                    await self._refresh()
                backoff.reset()
                pause = jittered(period, 0.1, self._client.chance)
            except Failure as failure:
                # Even wrong credentials are only logged now: they may be mended at the other end.
                log.warning("registration not kept", key=self._key, error=str(failure))
                pause = backoff.next_delay()
        log.error("another process took our key", key=self._key)

    async def end(self, final_value: bytes | None) -> None:
        """Leave the final value or nothing. What cannot be done in time is left to the lease."""
        self._written = False
        if not self._lease:
            return
        key = self._key.encode()
        request = wire.TxnRequest(compare=[_hangs_on(key, self._lease)])
        if final_value is not None:  # without a lease, so that it stays
            request.success.add().request_put.CopyFrom(wire.PutRequest(key=key, value=final_value))
        with contextlib.suppress(Failure, TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                if final_value is not None:
                    await transact(self._client, request, seconds=_END_SECONDS)
                await revoke(self._client, self._lease, seconds=_END_SECONDS)

    async def _refresh(self) -> None:
        """Keep the lease and the key, and see whether it is still ours."""
        began = self._client.clock.monotonic()
        if not self._lease or not await keep_alive(self._client, self._lease):
            await self._take()
            return
        self._kept_until = began + self._ttl_seconds
        if not self._written or not await self._is_ours():
            await self._write()

    async def _take(self) -> None:
        """A new lease, and the key on it."""
        began = self._client.clock.monotonic()
        self._lease = await grant(self._client, self._ttl_seconds)
        self._kept_until = began + self._ttl_seconds
        await self._write()

    async def _is_ours(self) -> bool:
        found = await read_range(self._client, wire.RangeRequest(key=self._key.encode()))
        return bool(found.kvs) and found.kvs[0].lease == self._lease

    async def _write(self) -> None:
        """The first time whoever holds the key loses it; later it is left to another process that took it."""
        key = self._key.encode()
        put = wire.RequestOp(request_put=wire.PutRequest(key=key, value=self._value, lease=self._lease))
        # Ours, or else nobody's: absent, or left without a lease by an operator or a process that has ended.
        conditions = [[_hangs_on(key, self._lease)], [_hangs_on(key, 0)]] if self._taken else [[]]
        for condition in conditions:
            if (await self._transact(wire.TxnRequest(compare=condition, success=[put]))).succeeded:
                self._written = self._taken = True
                return
        self.displaced.set()

    async def _transact(self, request: wire.TxnRequest) -> wire.TxnResponse:
        try:
            return await transact(self._client, request)
        except NotFound as error:
            self._lease = 0  # lapsed between our keeping it and our writing
            raise Unavailable("the lease lapsed while the key was written", action="it is written again") from error


def _hangs_on(key: bytes, lease: int) -> wire.Compare:
    """To etcd, a key that does not exist hangs on lease 0."""
    return wire.Compare(result=wire.Compare.EQUAL, target=wire.Compare.LEASE, key=key, lease=lease)
