"""Following every key below a prefix, through whatever happens to etcd.

Invariant: the reader's picture, made of the changes that it got, is the directory's at `_revision`; every way to go on
starts from there. Where that revision is no longer kept (compaction) or never was (another cluster answers), the
picture is compared with a full list and the differences are handed out.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

import structlog

from common.backoff import Backoff
from common.discovery import Change
from common.discovery.etcd_client import EtcdClient
from common.discovery.etcd_requests import prefix_end, read_range, watch_answers
from common.errors import Stale, Unavailable
from proto.etcd import etcd_pb2 as wire

log = structlog.get_logger()


class EtcdWatch:
    def __init__(self, client: EtcdClient, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._known: dict[str, int] = {}  # the revision at which the reader's value of each key was written
        self._revision = 0  # 0: a full list is needed
        self._cluster = 0

    async def changes(self) -> AsyncGenerator[Change, None]:
        backoff = Backoff(self._client.chance, initial_seconds=0.1, cap_seconds=5.0)
        while True:
            try:
                if self._revision == 0:
                    for change in await self._compared():
                        yield change
                async with contextlib.aclosing(self._followed()) as followed:
                    async for change in followed:
                        backoff.reset()
                        yield change
            except Stale as failure:
                self._revision = 0
                log.info("watch starts again from a full list", prefix=self._prefix, reason=str(failure))
            except Unavailable as failure:
                log.warning("watch interrupted", prefix=self._prefix, error=str(failure))
            await self._client.clock.sleep(backoff.next_delay())

    async def _compared(self) -> list[Change]:
        """The differences between the reader's picture and the directory now."""
        listed = await read_range(
            self._client, wire.RangeRequest(key=self._prefix.encode(), range_end=prefix_end(self._prefix))
        )
        present = {pair.key.decode(): pair for pair in listed.kvs}
        gone = [Change(key, None) for key in self._known if key not in present]
        new = [Change(key, pair.value) for key, pair in present.items() if self._known.get(key) != pair.mod_revision]
        self._known = {key: pair.mod_revision for key, pair in present.items()}
        self._revision, self._cluster = listed.header.revision, listed.header.cluster_id
        return gone + new

    async def _followed(self) -> AsyncGenerator[Change, None]:
        """Changes after `_revision`. Raises `Unavailable` when the stream ends, `Stale` when it cannot be continued."""
        async with contextlib.aclosing(watch_answers(self._client, self._create_request())) as answers:
            async for answer in answers:
                for change in self._accepted(answer):
                    yield change

    def _create_request(self) -> wire.WatchCreateRequest:
        return wire.WatchCreateRequest(
            key=self._prefix.encode(),
            range_end=prefix_end(self._prefix),
            start_revision=self._revision + 1,
            progress_notify=True,
        )

    def _accepted(self, answer: wire.WatchResponse) -> list[Change]:
        if answer.compact_revision:
            raise Stale(f"revision {self._revision} is no longer kept")
        if answer.canceled:
            raise Unavailable(f"etcd cancelled the watch: {answer.cancel_reason}")
        if answer.header.cluster_id != self._cluster or answer.header.revision < self._revision:
            raise Stale("another etcd answers, or one that was restored from an older copy")
        changes = [self._applied(event) for event in answer.events]
        if answer.events:
            # Not the header's revision: while a watch catches up, that is ahead of events that are still to come.
            self._revision = answer.events[-1].kv.mod_revision
        elif not answer.created:  # a notification of progress, which only a watch that has caught up gets
            self._revision = max(self._revision, answer.header.revision)
        return changes

    def _applied(self, event: wire.Event) -> Change:
        key = event.kv.key.decode()
        if event.type == wire.Event.DELETE:
            self._known.pop(key, None)
            return Change(key, None)
        self._known[key] = event.kv.mod_revision
        return Change(key, event.kv.value)
