"""Use cases of the swarm: wanting and releasing content, orders for regionals, what is reported, metainfo.

`want` and `release` run in the caller's unit of work, so that an instance and its orders appear together. Everything
else has a transaction of its own, and writes nothing when a report says what is known already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from common.bittorrent import SMALLEST_SWARM_BYTES
from common.digest import Digest
from common.gathering import Gathering
from control_plane.database import Database, UnitOfWork
from control_plane.fleet import store as fleet_store
from control_plane.fleet.desired import OrderSnapshot
from control_plane.fleet.messages import OrdersChanged
from control_plane.fleet.model import IdcUnknown
from control_plane.jobs.service import JobService
from control_plane.swarm import bad_peers_store, contents_store, describe, metainfo_store, reports, store
from control_plane.swarm.describe import ContentSource
from control_plane.swarm.model import (
    ContentCorrupted,
    Effort,
    HostContent,
    MetainfoPending,
    NotInSwarm,
    Order,
    StoredMetainfo,
    WantedContent,
)
from control_plane.swarm.provenance_metrics import SwarmMetrics
from control_plane.swarm.reports import News
from control_plane.swarm.spreads.observing import observed
from control_plane.swarm.tokens import ContentTokens
from control_plane.swarm.wire import EFFORTS
from proto.agent.v1 import agent_pb2
from proto.content.v1 import content_pb2
from proto.regional.v1 import regional_pb2

# How long a damaged content is not looked at again.
_FAILURE_STANDS = timedelta(minutes=2)
_LOOK_SECONDS = 0.05
# Of one regional; it tells of half as many (regional/holdings.py).
_MOST_UNWANTED = 1000
# Hosts whose reports are taken together: 500 contents each (agent/reporter.py) stay below what databases bind.
_MOST_SPEAKERS = 30
_DESCRIBED_SOON_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _HostSaid:
    host_id: str
    said: Mapping[contents_store.Key, HostContent]


@dataclass(frozen=True, slots=True)
class _HostNews:
    host_id: str
    known: Mapping[contents_store.Key, HostContent]
    news: News[HostContent]


class SwarmService:
    def __init__(
        self,
        database: Database,
        tokens: ContentTokens,
        contents: ContentSource,
        jobs: JobService,
        metrics: SwarmMetrics,
        *,
        smallest_bytes: int = SMALLEST_SWARM_BYTES,
        patience_seconds: float = 0.0,
    ) -> None:
        """`smallest_bytes`: smaller contents get no metainfo and travel by HTTP alone. `patience_seconds`: how long
        `metainfo` waits for one that is being made, before it sends the asker away: 120 MB take 0.2 s, and an asker
        that is sent away comes back after a whole second (Retry-After has no smaller unit).
        """
        self._database = database
        self._tokens = tokens
        self._contents = contents
        self._jobs = jobs
        self._metrics = metrics
        self._smallest_bytes = smallest_bytes
        self._patience_seconds = patience_seconds
        self._comparing = Gathering(self._compared, _MOST_SPEAKERS)
        self._writing = Gathering(self._written, _MOST_SPEAKERS)

    async def want(
        self,
        unit: UnitOfWork,
        idc_id: str,
        tenant_id: str,
        owner_id: str,
        contents: Sequence[WantedContent],
        effort: Effort = Effort.ORDINARY,
    ) -> None:
        """`owner_id` wants these held in the IDC until it releases them, from now on with this effort. Harmless to
        repeat.
        """
        await self.want_all(unit, idc_id, tenant_id, [owner_id], contents, effort)

    async def want_all(
        self,
        unit: UnitOfWork,
        idc_id: str,
        tenant_id: str,
        owner_ids: Sequence[str],
        contents: Sequence[WantedContent],
        effort: Effort = Effort.ORDINARY,
    ) -> None:
        """`want` for many owners of the same contents."""
        if not await store.add_wants(unit.connection, owner_ids, idc_id, tenant_id, contents, effort):
            return
        await self._orders_changed(unit, idc_id)
        large = [content.digest for content in contents if content.size_bytes >= self._smallest_bytes]
        for digest in sorted(set(large) - await metainfo_store.described(unit.connection, tenant_id, large)):
            await self._enqueue(unit, tenant_id, digest)

    async def release(self, unit: UnitOfWork, owner_id: str, idc_id: str | None = None) -> None:
        """`owner_id` wants nothing any more, in that IDC or at all. Harmless to repeat."""
        for changed_id in await store.remove_wants(unit.connection, owner_id, idc_id):
            await self._orders_changed(unit, changed_id)

    async def orders(self, idc_id: str, regional_id: str) -> OrderSnapshot:
        """What the IDC shall hold, with tokens for that regional. Raises `IdcUnknown`."""
        async with self._database.reading() as connection:
            found = await store.ordered_set(connection, idc_id)
        if found is None:
            raise IdcUnknown(f"there is no IDC {idc_id!r}", action="enrol again with a new join token")
        bearer = f"regional/{regional_id}"
        orders = {
            (order.tenant_id, str(order.content.digest)): self._order(order, bearer, found.idc)
            for order in found.orders
        }
        return OrderSnapshot(found.generation, orders)

    async def accept_order_reports(self, regional_id: str, order_reports: Sequence[regional_pb2.OrderReport]) -> None:
        """Durable when it returns. Of contents that nobody wants or ever wanted only whole ones are kept, to be asked
        back if the centre loses them, and of each regional a bounded number.
        """
        parsed = [reports.regional_content(regional_id, report) for report in order_reports]
        said = {reports.key_of(one): one for one in parsed if one is not None}
        async with self._database.reading() as connection:
            known = await contents_store.of_regional(connection, regional_id, list(said))
            wanted = set(await store.wanted_anywhere(connection, list(said)))
            if spare := reports.spare(said, known, wanted):
                room = _MOST_UNWANTED - await contents_store.unwanted_at_regional(connection, regional_id)
                wanted |= set(spare[: max(room, 0)])
        news = reports.news(said, known, wanted)
        if not news:
            return
        async with self._database.transaction() as unit:
            await contents_store.put_regional_contents(unit.connection, news.kept, unit.clock.now())
            await contents_store.remove_regional_contents(unit.connection, regional_id, news.dropped)

    async def accept_content_reports(self, host_id: str, content_reports: Sequence[agent_pb2.ContentReport]) -> None:
        """Durable when it returns. Reports of contents that nobody wants or ever wanted are ignored; one that says that
        nothing of an unwanted content is left removes what was known of it.
        """
        parsed = [reports.host_content(host_id, report) for report in content_reports]
        said = {reports.key_of(one): one for one in parsed if one is not None}
        if not said:
            return
        found = await self._comparing.ask(_HostSaid(host_id, said))
        if found.news:
            await self._writing.ask(found)

    async def _compared(self, spoken: Sequence[_HostSaid]) -> list[_HostNews]:
        keys = list({key for one in spoken for key in one.said})
        async with self._database.reading() as connection:
            known = await contents_store.of_hosts(connection, {one.host_id for one in spoken}, keys)
            wanted = await store.wanted_anywhere(connection, keys)
        return [
            _HostNews(one.host_id, known[one.host_id], reports.news(one.said, known[one.host_id], wanted))
            for one in spoken
        ]

    async def _written(self, found: Sequence[_HostNews]) -> list[None]:
        # In the order of ids, as everywhere: transactions that touch several hosts never wait in a circle.
        kept = [content for one in sorted(found, key=lambda one: one.host_id) for content in one.news.kept]
        async with self._database.transaction() as unit:
            places = await bad_peers_store.places_of(unit.connection, {one.host_id for one in found})
            await contents_store.put_host_contents(unit.connection, kept, unit.clock.now())
            for one in found:
                await contents_store.remove_host_contents(unit.connection, one.host_id, one.news.dropped)
                await observed(unit, one.host_id, one.known, one.news.kept, self._smallest_bytes)
        for one in found:
            place = places.get(one.host_id)
            if place is not None:
                for content in one.news.kept:
                    self._metrics.received(place.idc, one.known.get(reports.key_of(content)), content)
        return [None] * len(found)

    async def metainfo(self, tenant_id: str, digest: Digest) -> StoredMetainfo:
        """Raises `NotFound`, `NotInSwarm` for small contents, `MetainfoPending` while it is being made (and has it
        made), `ContentCorrupted` if the bytes here are not what the digest says.
        """
        async with self._database.reading() as connection:
            known = await metainfo_store.find(connection, tenant_id, digest)
            failure = None if known else await metainfo_store.find_failure(connection, tenant_id, digest)
        if known is not None:
            return known
        if failure is not None and self._database.clock.now() - failure.failed_at < _FAILURE_STANDS:
            raise ContentCorrupted(failure.detail, action=describe.REPAIR)
        content = await self._contents.content(digest)
        if content.size < self._smallest_bytes:
            raise NotInSwarm(
                f"{digest} has {content.size} bytes and is not spread by BitTorrent",
                action="fetch it by HTTP",
                size_bytes=content.size,
                smallest_bytes=self._smallest_bytes,
            )
        async with self._database.transaction() as unit:
            await self._enqueue(unit, tenant_id, digest)
        if (found := await self._wait_described(tenant_id, digest)) is not None:
            return found
        raise MetainfoPending(
            f"{digest} is being described", action="ask again", retry_after_seconds=_DESCRIBED_SOON_SECONDS
        )

    async def _wait_described(self, tenant_id: str, digest: Digest) -> StoredMetainfo | None:
        clock = self._database.clock
        deadline = clock.monotonic() + self._patience_seconds
        while clock.monotonic() < deadline:
            await clock.sleep(_LOOK_SECONDS)
            async with self._database.reading() as connection:
                if (found := await metainfo_store.find(connection, tenant_id, digest)) is not None:
                    return found
        return None

    async def wanted(self, digests: Sequence[Digest]) -> set[Digest]:
        """Those that some IDC shall hold; for the garbage collection, which leaves them alone."""
        if not digests:
            return set()
        async with self._database.reading() as connection:
            return await store.wanted_digests(connection, digests)

    async def holdings(self, host_ids: Sequence[str], digests: Sequence[Digest]) -> list[HostContent]:
        """What these hosts said of these digests, for any tenant."""
        if not host_ids or not digests:
            return []
        async with self._database.reading() as connection:
            return await contents_store.held_by_hosts(connection, host_ids, digests)

    async def _orders_changed(self, unit: UnitOfWork, idc_id: str) -> None:
        await fleet_store.bump_orders(unit.connection, idc_id)
        await unit.announce(OrdersChanged(idc_id))

    async def _enqueue(self, unit: UnitOfWork, tenant_id: str, digest: Digest) -> None:
        await self._jobs.enqueue(
            unit,
            describe.JOB_KIND,
            describe.job_payload(tenant_id, digest),
            unique_key=describe.job_key(tenant_id, digest),
        )

    def _order(self, order: Order, bearer: str, idc: str) -> regional_pb2.Order:
        content = order.content
        return regional_pb2.Order(
            tenant_id=order.tenant_id,
            effort=EFFORTS[order.effort],
            content=content_pb2.Content(
                digest=str(content.digest),
                size_bytes=content.size_bytes,
                media_type=content.media_type,
                token=self._tokens.mint(bearer, idc, order.tenant_id, content.digest),
            ),
        )
