"""The composition root of an agent: settings in, a host that does what it is asked; the only file that names concrete
adapters.

Order of start: what the last process knew (journal, cache), the identity, then everything that works from these two.
The control plane may be away all the time except for the very first start.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncIterator

import aiohttp
import structlog

from agent.adoptions import Adoptions
from agent.allowance import allowance_of
from agent.cache import ContentCache
from agent.channels.desk import ChannelDesk
from agent.content_http import ContentHttp
from agent.credentials import open_credentials
from agent.desired import DesiredBook
from agent.engines import engines_of
from agent.fetch import Fetcher
from agent.installation import installed_version
from agent.inventory import Inventory
from agent.journal import Journal, failed_write_is_logged
from agent.ledger import Ledger
from agent.links import HostLinks
from agent.mirror import Mirror
from agent.model import Assignments
from agent.moves.assembly import open_moves
from agent.obeying import obey
from agent.observing import Observing
from agent.offences import Offences
from agent.ports import last_ports, remember_ports
from agent.reconciler import Reconciler
from agent.registrar import stay_registered
from agent.reporter import Reporter
from agent.reuse import Reuse
from agent.runtimes.choice import RuntimeChoice
from agent.seeding import Seeding
from agent.session import Session, dialect
from agent.settings import AgentSettings
from agent.streaming import Streams
from agent.swarms import Obtain, Swarms
from agent.trust import IdentityTrust
from common.attachment import Attachment, attach_forever
from common.bittorrent import AGENT_FINGERPRINT, PeerSession
from common.bittorrent.failures import ListenFailed
from common.bittorrent.libtorrent import LibtorrentSession
from common.clock import SystemClock
from common.datadir import announce_ready, locked
from common.discovery.etcd import open_etcd
from common.enrolment import keep_renewed
from common.lifecycle import Lifecycle
from common.membership import Applicant, identity_of
from common.plane import PlaneLocator
from common.returning import Giver
from common.tls import Name

log = structlog.get_logger()


async def run(settings: AgentSettings) -> None:
    """Until SIGTERM or SIGINT; containers go on running. Raises the failure of a part that the agent cannot do
    without.
    """
    async with Lifecycle() as lifecycle:
        # In a task, so that a signal is heeded also while the first start waits for the control plane.
        lifecycle.spawn("start", _Agent(settings, lifecycle).start())
        await lifecycle.run_until_stopped()
    log.info("agent stopped", name=settings.name)


class _Agent:
    def __init__(self, settings: AgentSettings, lifecycle: Lifecycle) -> None:
        self._settings = settings
        self._lifecycle = lifecycle
        self._clock = SystemClock()
        self._random = random.SystemRandom().random
        self._version = installed_version()
        self._observing = Observing(settings, lifecycle, self._clock)
        self._journal = Journal(settings.data / "journal", self._observing.disk())
        self._book = DesiredBook(self._journal, settings.server)
        self._ledger = Ledger(self._journal, self._clock)
        self._reporter = Reporter(self._journal, self._clock)
        self._trust = IdentityTrust(settings.identity_dir)
        self._cache = ContentCache(
            settings.data / "content",
            limit_bytes=settings.cache_limit_bytes,
            limit_percent=settings.cache_limit_percent,
            high_percent=settings.cache_high_percent,
            low_percent=settings.cache_low_percent,
            reserve_bytes=settings.disk_reserve_bytes,
        )

    async def start(self) -> None:
        settings, lifecycle = self._settings, self._lifecycle
        log.info("agent starting", version=self._version, name=settings.name)
        await lifecycle.enter(locked(settings.data, "agent"))
        last = await asyncio.to_thread(last_ports, settings.data)
        for part in (self._book, self._ledger, self._reporter):
            await part.load()
        await self._cache.open()
        http = await lifecycle.enter(aiohttp.ClientSession())
        identity = await identity_of(self._applicant(), http, self._clock, self._random)
        host_id = identity.name.id
        structlog.contextvars.bind_contextvars(host=host_id, idc=identity.name.idc)

        await lifecycle.enter(self._records())
        peers = await self._peers(last.get("peer_port", 0))
        fetcher = await self._contents(peers)
        mirror = await self._mirror(last.get("mirror", 0), fetcher)
        driver = engines_of(
            settings,
            host_id,
            lambda: mirror.address,
            self._cache,
            self._assignments,
            self._clock,
            lifecycle.spawn,
        )
        runtime = RuntimeChoice(driver, required=settings.runtime != "auto")
        await lifecycle.enter(runtime)
        session = Session(self._book, self._reporter, self._clock)
        fetcher.token_rejected = session.want_full_set
        observing = self._observing
        inventory = await observing.inventory(runtime, session)
        observing.contents(self._cache, fetcher.eviction, self._ledger)
        observing.sample(runtime, self._cache, session, self._random)
        observing.updates(self._book, self._cache, session, self._reporter)
        metrics = await observing.listen(session, last.get("metrics", 0))
        reconciler = await self._reconcile(runtime, fetcher, session, inventory)
        await obey(
            self._journal,
            self._reporter,
            self._clock,
            self._book,
            runtime.driver,
            self._cache,
            fetcher.eviction,
            reconciler,
            inventory.facts,
            session,
            lifecycle.spawn,
        )
        self._attach(session, inventory, http, runtime)
        await self._register(identity.name, peers.listen_port)
        ports = {"mirror": mirror.port, "peer_port": peers.listen_port, "metrics": metrics}
        await asyncio.to_thread(remember_ports, settings.data, **ports)
        await announce_ready(settings.data, {"host_id": host_id, **ports})
        log.info("agent ready", **ports)

    def _applicant(self) -> Applicant:
        settings = self._settings
        return Applicant(
            "host", settings.name, settings.server, settings.identity_dir, settings.read_join_token, self._version
        )

    async def _register(self, host: Name, peer_port: int) -> None:
        """In the directory, where there is one."""
        settings = self._settings
        if settings.etcd_endpoints:
            directory = await self._lifecycle.enter(
                open_etcd(
                    settings.etcd_endpoints,
                    self._clock,
                    username=settings.etcd_username,
                    password=settings.etcd_password,
                    ca_file=settings.etcd_ca_file,
                )
            )
            facts: dict[str, str | int] = {"name": settings.name, "version": self._version, "peer_port": peer_port}
            self._lifecycle.spawn("registrar", stay_registered(directory, host, facts))

    @contextlib.asynccontextmanager
    async def _records(self) -> AsyncIterator[None]:
        """Written now and then while we run, and once more at the end."""
        self._lifecycle.spawn("ledger", self._ledger.flush_forever())
        self._lifecycle.spawn("reports journal", self._reporter.flush_forever())
        yield
        with failed_write_is_logged("the last records"):
            await self._ledger.flush()
            await self._reporter.flush()

    async def _peers(self, last_port: int) -> PeerSession:
        host, wished, tls = self._settings.listen_host, self._settings.peer_port, self._settings.swarm_tls
        if not wished and last_port:
            with contextlib.suppress(ListenFailed):
                return await self._lifecycle.enter(LibtorrentSession(host, last_port, AGENT_FINGERPRINT, tls=tls))
        return await self._lifecycle.enter(LibtorrentSession(host, wished, AGENT_FINGERPRINT, tls=tls))

    async def _mirror(self, last_port: int, fetcher: Fetcher) -> Mirror:
        wished, streams = self._settings.mirror_port, Streams(fetcher, self._cache, self._clock)
        if not wished and last_port:
            with contextlib.suppress(OSError):
                return await self._lifecycle.enter(
                    Mirror(self._assignments, self._cache, port=last_port, streams=streams)
                )
        return await self._lifecycle.enter(Mirror(self._assignments, self._cache, port=wished, streams=streams))

    def _assignments(self) -> Assignments:
        return self._book.current

    async def _contents(self, peers: PeerSession) -> Fetcher:
        # Bodies are content named by digest: a proxy's compression must not be undone on the way.
        contents = await self._lifecycle.enter(aiohttp.ClientSession(auto_decompress=False))
        swarms = Swarms(peers, self._settings.data / "swarm")
        await swarms.load()
        swarms.obtain = await self._certificates(swarms, contents)
        http, links = ContentHttp(contents, self._trust), HostLinks(peers, swarms, self._book, self._clock)
        self._lifecycle.spawn("links", links.run())
        fetcher = Fetcher(
            self._cache,
            swarms,
            http,
            self._book,
            self._ledger,
            self._clock,
            self._random,
            self._lifecycle.spawn,
            links=links,
            peer=self._settings.peer_address(peers.listen_port),
        )
        await self._reuse(http, links, swarms, fetcher)
        offences = Offences(swarms.key_of, self._book, http, self._reporter, self._clock, self._lifecycle.spawn)
        peers.banned, fetcher.metainfo_refused = offences.banned, offences.metainfo_refused
        seeding = Seeding(self._book, self._cache, swarms, fetcher, self._clock, self._random)
        self._lifecycle.spawn("seeding", seeding.run())
        self._lifecycle.spawn("eviction", fetcher.eviction.run(self._clock, self._random))
        return fetcher

    async def _reuse(self, http: ContentHttp, links: HostLinks, swarms: Swarms, fetcher: Fetcher) -> None:
        reuse = Reuse(
            self._cache,
            lambda key: links.paced(http, key),
            self._ledger,
            self._journal,
            self._clock,
            self._random,
            fetcher.sources,
            self._book,
        )
        await reuse.load()
        swarms.fill, fetcher.filling = reuse.fill, reuse.held_bytes

    async def _certificates(self, swarms: Swarms, http: aiohttp.ClientSession) -> Obtain:
        settings = self._settings
        keeper = await open_credentials(
            settings.data / "credentials",
            self._book,
            settings.identity_dir,
            http,
            self._trust,
            self._clock,
            self._random,
        )
        self._lifecycle.spawn("swarm certificates", keeper.run(swarms.members))
        return keeper.obtain

    async def _reconcile(
        self, runtime: RuntimeChoice, fetcher: Fetcher, session: Session, inventory: Inventory
    ) -> Reconciler:
        settings, spawn = self._settings, self._lifecycle.spawn
        moves = open_moves(settings, self._book, runtime.driver, self._reporter, self._clock, inventory.facts, spawn)
        reconciler = Reconciler(
            self._book,
            runtime.driver,
            fetcher,
            lambda: self._cache.held,
            self._ledger,
            self._reporter,
            self._clock,
            self._random,
            metered=self._observing.metrics.step,
            adoptions=await Adoptions.opened(self._journal, runtime.driver),
            allowance=allowance_of(settings),
            archives=moves.open,
            cut_off=session.cut_off,
        )
        self._book.changed = reconciler.wake
        spawn("reconciler", reconciler.run())
        return reconciler

    def _attach(
        self, session: Session, inventory: Inventory, http: aiohttp.ClientSession, runtime: RuntimeChoice
    ) -> None:
        directory = self._settings.identity_dir
        locator = PlaneLocator(self._settings.server, directory, http)
        session.returning = Giver(self._cache.open_held, directory, locator.attach_address, self._lifecycle.spawn).asked
        channels = ChannelDesk(runtime.driver, directory, locator.attach_address, self._lifecycle.spawn)
        session.opening = channels.asked
        self._lifecycle.spawn("leftover commands", channels.clear())
        # Random and never stored: it tells a reconnection from a copied identity.
        words = dialect(secrets.token_hex(16), self._version, inventory.presented, self._book)
        attachment = Attachment(words, session, directory, locator.attach_address, self._clock, self._random)
        self._lifecycle.spawn("reports", session.report_forever())
        self._lifecycle.spawn("attachment", attach_forever(attachment, self._clock))
        renewal = keep_renewed(
            directory,
            locator.attach_address,
            clock=self._clock,
            random=self._random,
            renewed=lambda _: self._trust.renewed(),
        )
        self._lifecycle.spawn("renewal", renewal)
