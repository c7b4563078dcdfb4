"""The bus between the replicas: publish and subscribe of Redis.

One connection a process listens to every topic and hands the events to the subscriptions of this process, however many
they are (a replica may hold one a host). Redis keeps no history, so a lost connection is a gap: all subscriptions are
then ended with `Overrun`, never resumed in silence.

A Redis that hangs does not close the connection. So when nothing came for `heartbeat_seconds` the listener asks, and
treats silence for as long again as a loss.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from common.backoff import Backoff
from common.clock import Clock
from common.errors import Unavailable
from common.lifecycle import Lifecycle
from control_plane.events import Event
from control_plane.events.fanout import Fanout, decode, encode

log = structlog.get_logger()
_DEADLINE_SECONDS = 2.0
_LOST = (RedisError, OSError, TimeoutError)


class RedisEventBus:
    """Implements the port `control_plane.events.EventBus`. `prefix` keeps two installations on one Redis apart."""

    def __init__(
        self, url: str, clock: Clock, *, prefix: str = "longshore:events:", heartbeat_seconds: float = 5.0
    ) -> None:
        self._clock = clock
        self._prefix = prefix
        self._heartbeat_seconds = heartbeat_seconds
        self._fanout = Fanout()
        self._owner = Lifecycle()
        self._listening = asyncio.Event()
        self._started = False
        self._publisher = Redis.from_url(url, retry=Retry(NoBackoff(), 1), socket_connect_timeout=_DEADLINE_SECONDS)
        # No retries: the library would reconnect and subscribe again by itself, and the gap would go unseen.
        self._listener = Redis.from_url(
            url, retry=Retry(NoBackoff(), 0), socket_connect_timeout=_DEADLINE_SECONDS, socket_timeout=None
        )

    async def publish(self, event: Event) -> None:
        data = encode(event)
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                await self._publisher.publish(self._prefix + event.topic, data)
        except _LOST as error:
            raise _away() from error

    @contextlib.asynccontextmanager
    async def subscribe(self, *topics: str, capacity: int = 1000) -> AsyncIterator[AsyncIterator[Event]]:
        if not self._started:
            self._started = True
            self._owner.spawn("event bus listener", self._listen_forever())
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                await self._listening.wait()
        except TimeoutError as error:
            raise _away() from error
        with self._fanout.joined(frozenset(topics), capacity) as subscription:
            yield subscription

    async def close(self) -> None:
        self._fanout.close()
        await self._owner.__aexit__(None, None, None)
        await self._publisher.aclose()
        await self._listener.aclose()

    async def _listen_forever(self) -> None:
        backoff = Backoff(random.SystemRandom().random, initial_seconds=0.1, cap_seconds=2.0)
        while True:
            pubsub = self._listener.pubsub()
            try:
                await self._subscribe(pubsub)
                backoff.reset()
                self._listening.set()
                await self._listen(pubsub)
            except _LOST as error:
                log.warning("event bus lost", error=repr(error))
            finally:
                self._listening.clear()
                self._fanout.interrupt("the connection to Redis was lost")
                with contextlib.suppress(*_LOST):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]
            await self._clock.sleep(backoff.next_delay())

    async def _subscribe(self, pubsub: PubSub) -> None:
        async with asyncio.timeout(_DEADLINE_SECONDS):
            await pubsub.psubscribe(f"{self._prefix}*")
            while (message := await pubsub.get_message(timeout=_DEADLINE_SECONDS)) is None or (
                message["type"] != "psubscribe"
            ):
                pass

    async def _listen(self, pubsub: PubSub) -> None:
        """Returns never; raises when the connection is lost or silent."""
        asked = False
        while True:
            message = await pubsub.get_message(timeout=self._heartbeat_seconds)
            if message is None:
                if asked:
                    raise TimeoutError("Redis has not answered a ping")
                await pubsub.ping()
                asked = True
                continue
            asked = False
            if message["type"] == "pmessage":
                self._deliver(message["channel"].decode().removeprefix(self._prefix), message["data"])

    def _deliver(self, topic: str, data: bytes) -> None:
        if not self._fanout.listens(topic):
            return
        try:
            event = decode(topic, data)
        except ValueError:  # a stranger on this Redis; one bad message must not cost the good ones
            log.warning("event not understood", topic=topic, size_bytes=len(data))
        else:
            self._fanout.deliver(event)


def _away() -> Unavailable:
    return Unavailable("the event bus does not answer", action="try again", retry_after_seconds=1)
