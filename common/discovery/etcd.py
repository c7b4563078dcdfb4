"""The directory in etcd, over the part of its v3 API that proto/etcd declares."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from pathlib import Path

import structlog
from pydantic import SecretStr

from common.backoff import Backoff
from common.clock import Clock
from common.discovery import Change
from common.discovery.etcd_client import EtcdClient, EtcdOptions
from common.discovery.etcd_lock import Candidate
from common.discovery.etcd_registration import EtcdRegistration
from common.discovery.etcd_requests import prefix_end, read_range
from common.discovery.etcd_watch import EtcdWatch
from common.errors import Invalid, Unavailable
from common.lifecycle import Lifecycle
from proto.etcd import etcd_pb2 as wire

log = structlog.get_logger()


class EtcdCaUnreadable(Invalid):
    code = "etcd_ca_unreadable"


def etcd_options(
    endpoints: tuple[str, ...],
    *,
    username: str | None = None,
    password: SecretStr | None = None,
    ca_file: Path | None = None,
) -> EtcdOptions:
    """What the settings of a service say of its etcd. Reads `ca_file`; raises `EtcdCaUnreadable`."""
    try:
        ca_pem = None if ca_file is None else ca_file.read_bytes()
    except OSError as error:
        raise EtcdCaUnreadable(
            f"{ca_file} cannot be read: {error.strerror}", action="check the setting for etcd's CA file"
        ) from error
    secret = None if password is None else password.get_secret_value()
    return EtcdOptions(endpoints, username=username, password=secret, ca_pem=ca_pem)


@contextlib.asynccontextmanager
async def open_etcd(
    endpoints: tuple[str, ...],
    clock: Clock,
    *,
    username: str | None = None,
    password: SecretStr | None = None,
    ca_file: Path | None = None,
) -> AsyncIterator[EtcdRegistry]:
    """The directory that the settings of a service name. Raises `EtcdCaUnreadable`."""
    options = await asyncio.to_thread(etcd_options, endpoints, username=username, password=password, ca_file=ca_file)
    registry = EtcdRegistry(options, clock)
    try:
        yield registry
    finally:
        await registry.close()


class EtcdRegistry:
    """Implements the port `common.discovery.ServiceRegistry`. Nothing is connected before the first use."""

    def __init__(self, options: EtcdOptions, clock: Clock, chance: Callable[[], float] = random.random) -> None:
        self._client = EtcdClient(options, clock, chance)

    @contextlib.asynccontextmanager
    async def register(
        self, key: str, value: bytes, ttl_seconds: float, *, final_value: bytes | None = None
    ) -> AsyncIterator[EtcdRegistration]:
        registration = EtcdRegistration(self._client, key, value, ttl_seconds)
        try:
            async with Lifecycle() as owner:
                await registration.begin()
                owner.spawn(f"registration of {key}", registration.keep())
                yield registration
        finally:
            await registration.end(final_value)

    async def list(self, prefix: str) -> Mapping[str, bytes]:
        found = await read_range(self._client, wire.RangeRequest(key=prefix.encode(), range_end=prefix_end(prefix)))
        return {pair.key.decode(): pair.value for pair in found.kvs}

    async def watch(self, prefix: str) -> AsyncGenerator[Change, None]:
        async with contextlib.aclosing(EtcdWatch(self._client, prefix).changes()) as changes:
            async for change in changes:
                yield change

    @contextlib.asynccontextmanager
    async def lock(self, name: str, ttl_seconds: float) -> AsyncIterator[Candidate]:
        async with Lifecycle() as owner:
            candidate = await self._elected(name, ttl_seconds, owner)
            try:
                yield candidate
            finally:
                await candidate.leave()

    async def close(self) -> None:
        """After registrations, watches and locks have ended."""
        await self._client.close()

    async def _elected(self, name: str, ttl_seconds: float, owner: Lifecycle) -> Candidate:
        backoff = Backoff(self._client.chance, initial_seconds=0.2, cap_seconds=5.0)
        while True:
            candidate = Candidate(self._client, name, ttl_seconds)
            try:
                await candidate.join()
                owner.spawn(f"lock {name}", candidate.keep())
                if await candidate.elected():
                    return candidate
            except Unavailable as failure:
                log.warning("waiting for the lock goes on", lock=name, error=str(failure))
                await candidate.leave()
            except BaseException:
                await candidate.leave()
                raise
            await self._client.clock.sleep(backoff.next_delay())
