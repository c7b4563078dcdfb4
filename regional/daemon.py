"""The composition root of a regional: settings in, running services out; the only file that names concrete adapters.

Order of start: what needs nobody first (files, health, tracker), then what is held (edge, journal), then the identity,
then what needs it (contents over mutual TLS, the attachment). A regional serves what it has at each of these steps.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import secrets
import shutil
import ssl
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

import aiohttp
import structlog
from aiohttp import web

from common.attachment import Attachment, attach_forever
from common.bittorrent import REGIONAL_FINGERPRINT
from common.bittorrent.libtorrent import LibtorrentSession
from common.clock import SystemClock
from common.content_statement import StatementVerifier
from common.content_token import ContentVerifier
from common.datadir import announce_ready, locked
from common.discovery.etcd import open_etcd
from common.enrolment import keep_renewed
from common.host_counters import look
from common.lifecycle import Lifecycle
from common.membership import Applicant, identity_of
from common.plane import PlaneLocator
from common.returning import Giver
from common.tls import Identity, open_server_context, server_context
from regional.cache import Cache, build_cache
from regional.content import ContentRoutes
from regional.credentials import CertificateRoutes
from regional.dhcp.assembly import start_dhcp
from regional.directory import ContentDirectory
from regional.front import open_front
from regional.holdings import Holdings
from regional.journal import Journal
from regional.leases import LeaseDesks
from regional.leases_routes import LeaseRoutes
from regional.machines.assembly import Machines
from regional.metainfos import WIRE_HASH_BYTES
from regional.metrics import Metrics
from regional.offences import OffenceRoutes
from regional.offenders import Offenders
from regional.orders import OrderBook
from regional.part_routes import PartRoutes
from regional.power.children import Children
from regional.registrar import stay_registered
from regional.serving import listening, watch
from regional.session import Session, dialect
from regional.settings import RegionalSettings
from regional.tftp.assembly import start_tftp
from regional.tracker import Endpoint, Tracker
from regional.tree import create_tree
from regional.v2.assembly import EdgeRegistry, centre_rights
from regional.web import Health, SwarmWeb

log = structlog.get_logger()


async def run(settings: RegionalSettings) -> None:
    """Until SIGTERM or SIGINT. Raises the failure of a part that the process cannot do without."""
    async with Lifecycle() as lifecycle:
        # In a task, so that a signal is heeded also while the start waits for the centre.
        lifecycle.spawn("start", _Regional(settings, lifecycle).start())
        await lifecycle.run_until_stopped()
    log.info("regional stopped", idc=settings.idc)


class _Regional:
    def __init__(self, settings: RegionalSettings, lifecycle: Lifecycle) -> None:
        self._settings = settings
        self._lifecycle = lifecycle
        self._clock = SystemClock()
        self._random = random.SystemRandom().random
        self._version = _version()
        self._metrics = Metrics()
        self._metrics.host(lambda: look(settings.data, self._clock.monotonic()))
        self._machines = Machines(settings, self._clock, Children(settings.bmc_at_once, settings.bmc_ca_file))
        self._boot: dict[str, int | None] = {}

    async def start(self) -> None:
        settings = self._settings
        log.info("regional starting", version=self._version, idc=settings.idc)
        log.info(
            "regional configured",
            api_port=settings.api_port,
            server_ip=settings.server_ip,
            interface=settings.interface,
            static_root=str(settings.static_root),
        )
        await self._lifecycle.enter(locked(settings.data, "regional"))
        await asyncio.to_thread(create_tree, settings.static_root)
        log.info("static file directories ready", root=str(settings.static_root))
        await (machines := self._machines).start(self._lifecycle, self._metrics)
        self._boot["tftp"] = await start_tftp(
            settings, self._lifecycle, self._clock, self._random, self._metrics.registry,
            (machines.boot_files,), machines.watching.tftp,
        )  # fmt: skip
        if settings.server is None:
            api = await self._listen([])
            await self._ready({"regional_id": None, "api": api, "content": None, "peer_port": None})
            return
        await self._start_member(settings.server)

    async def _start_member(self, server: str) -> None:
        settings, lifecycle = self._settings, self._lifecycle
        http = await lifecycle.enter(aiohttp.ClientSession())
        contents = await lifecycle.enter(aiohttp.ClientSession(auto_decompress=False))
        peers = await lifecycle.enter(
            LibtorrentSession(settings.server_ip, settings.peer_port, REGIONAL_FINGERPRINT, tls=settings.swarm_tls)
        )
        statements = StatementVerifier()
        cache = build_cache(
            ContentDirectory(settings.data / "cache"),
            contents,
            server,
            peers,
            self._clock,
            self._random,
            lifecycle.spawn,
            statements,
            identity_dir=settings.identity_dir,
            marks=settings.water_marks(shutil.disk_usage(settings.data).total),
        )
        cache.show(self._metrics)
        verifier, journal = ContentVerifier(self._clock), Journal(settings.data)
        lifecycle.spawn("links", cache.edge.links.run(peers, cache.seeding.torrents))
        book = OrderBook(cache.edge, cache.shelf, journal, self._random, lifecycle.spawn)
        holdings = Holdings(cache.edge, cache.shelf, cache.metainfos, book)
        session = Session(book, cache.edge, cache.centre, verifier, statements, journal, self._clock, server, holdings)
        self._machines.join(cache, book, session)
        tracker = self._tracker(cache, peers.listen_port)
        cache.credentials.tokens = book.tokens
        await cache.credentials.load()
        await cache.edge.start()
        await session.start()
        await book.start()
        await holdings.start()
        swarm = SwarmWeb(tracker, verifier, cache.metainfos, cache.edge, self._metrics)
        api = await self._listen(swarm.routes(), lambda: session.attached)
        self._metrics.counter("attachments", "Streams to the centre that began", lambda: session.rounds)
        identity = await identity_of(self._applicant(server), http, self._clock, self._random)
        tls = server_context(settings.identity_dir)
        desks = LeaseDesks(self._clock, cache.edge.links.lease_budget)
        leases = LeaseRoutes(cache.edge, cache.metainfos, verifier, desks, tracker)
        contents_routes = ContentRoutes(cache.edge, cache.metainfos, verifier).routes()
        parts = PartRoutes(cache.edge, verifier).routes()
        certificates = CertificateRoutes(cache.centre).routes()
        lifecycle.spawn("swarm certificates", cache.credentials.keeper.run(cache.seeding.members))
        offences = OffenceRoutes(tracker, Offenders(self._clock.monotonic), cache.metainfos, verifier, self._metrics)
        routes = [*contents_routes, *parts, *leases.routes(), *offences.routes(), *certificates]
        content = await self._serve(routes, settings.content_port, tls)
        log.info("content listening", address=f"{settings.server_ip}:{content}")
        locator = PlaneLocator(server, settings.identity_dir, http)
        registry, open_tls = await self._registry(cache, contents, locator)
        session.returning = Giver(
            cache.edge.open_held, settings.identity_dir, locator.attach_address, lifecycle.spawn
        ).asked
        self._attach(locator, session, book, (tls, open_tls), (api, content, peers.listen_port))
        ports = {"api": api, "content": content, "registry": registry, "peer_port": peers.listen_port}
        await self._ready({"regional_id": identity.name.id, **ports})

    async def _registry(
        self, cache: Cache, contents: aiohttp.ClientSession, locator: PlaneLocator
    ) -> tuple[int, ssl.SSLContext]:
        """`/v2/` on a listener of its own: engines have tokens, and no certificate of ours."""
        settings = self._settings
        rights = await self._lifecycle.enter(centre_rights(settings.identity_dir, locator.attach_address))
        registry = EdgeRegistry(
            settings.data / "registry",
            cache,
            contents,
            rights,
            self._clock,
            self._random,
            self._lifecycle,
            self._metrics,
            keep=timedelta(hours=settings.registry_keep_hours),
            own_logins=settings.registry_logins == "edge",
        )
        await registry.start()
        tls = open_server_context(settings.identity_dir)
        port = await self._serve(registry.routes(), settings.registry_port, tls)
        log.info("registry listening", address=f"{settings.server_ip}:{port}")
        return port, tls

    def _applicant(self, server: str) -> Applicant:
        settings = self._settings
        return Applicant(
            "regional",
            settings.name or f"regional-{settings.idc}",
            server,
            settings.identity_dir,
            settings.read_join_token,
            self._version,
            addresses=settings.certificate_names,
            idc=settings.idc,
        )

    async def _ready(self, known: Mapping[str, str | int | None]) -> None:
        settings, facts = self._settings, {**known, **self._boot}
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
            process = secrets.token_hex(8)
            told = {"version": self._version, "server_ip": settings.server_ip, "process": process, **facts}
            self._lifecycle.spawn("registration", stay_registered(directory, settings.idc, told))
        await announce_ready(settings.data, facts)
        log.info("regional ready", **facts)

    def _attach(
        self,
        locator: PlaneLocator,
        session: Session,
        book: OrderBook,
        contexts: Sequence[ssl.SSLContext],
        ports: tuple[int, int, int],
    ) -> None:
        settings, host = self._settings, self._settings.url_host
        api, content, peer = ports
        words = dialect(
            book,
            secrets.token_hex(16),
            self._version,
            content_url=f"https://{host}:{content}",
            swarm_url=f"http://{host}:{api}",
            peer_address=f"{host}:{peer}",
        )
        attachment = Attachment(
            words, session, settings.identity_dir, locator.attach_address, self._clock, self._random
        )

        def renewed(_: Identity) -> None:
            # New connections show the new certificate; the contexts stay the listeners'.
            for context in contexts:
                context.load_cert_chain(settings.identity_dir / "identity.pem")

        self._lifecycle.spawn("reports", session.report_forever())
        self._lifecycle.spawn("attachment", attach_forever(attachment, self._clock))
        self._lifecycle.spawn(
            "renewal",
            keep_renewed(
                settings.identity_dir,
                locator.attach_address,
                clock=self._clock,
                random=self._random,
                addresses=settings.certificate_names,
                renewed=renewed,
            ),
        )

    def _tracker(self, cache: Cache, peer_port: int) -> Tracker:
        own = Endpoint(ipaddress.ip_address(self._settings.server_ip), peer_port)
        tracker = Tracker((own,), self._clock.monotonic, self._random)
        cache.edge.evicted = lambda metainfo: tracker.forget(metainfo.info_hash[:WIRE_HASH_BYTES])
        self._metrics.gauge("swarm_peers", "Peers that announce", tracker.peer_count)
        self._metrics.gauge("swarms", "Swarms with peers", tracker.swarm_count)
        return tracker

    async def _listen(self, routes: list[web.RouteDef], attached: Callable[[], bool] = lambda: False) -> int:
        """The open listener: files and health always, `routes` besides."""
        settings, machines = self._settings, self._machines
        self._metrics.gauge("attached", "1 while the centre is attached", lambda: float(attached()))
        everything = [*routes, *machines.routes(), *Health(self._metrics, attached, machines.alarms.present).routes()]
        port, self._boot["https"] = await open_front(
            settings, self._lifecycle, self._clock, self._random, self._metrics, everything, machines.watching.http
        )
        machines.serve_at(f"http://{settings.url_host}:{port}")
        told, choose = machines.watching.dhcp, machines.choose
        await start_dhcp(settings, self._lifecycle, self._clock, self._metrics, port, told, choose, machines.alarms)
        return port

    async def _serve(self, routes: list[web.RouteDef], port: int, tls: ssl.SSLContext | None = None) -> int:
        app = web.Application(middlewares=[watch(self._clock, self._metrics)])
        app.add_routes(routes)
        return await self._lifecycle.enter(listening(app, self._settings.server_ip, port, tls))


def _version() -> str:
    try:
        return installed_version("longshore")
    except PackageNotFoundError:
        return "0"
