"""The open listener of a regional: HTTP for machines that boot and install, and HTTPS where there is a certificate.

Both have the same routes, the same admission and the same log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog
from aiohttp import web

from common.clock import Clock
from common.lifecycle import Lifecycle
from regional.admission import Admission, networks_of
from regional.files import Files
from regional.metrics import Metrics
from regional.mirrors.assembly import start_mirrors
from regional.own_certificate import OwnCertificate
from regional.serving import Served, listening, nobody_asks, watch
from regional.settings import RegionalSettings

log = structlog.get_logger()


async def open_front(
    settings: RegionalSettings,
    lifecycle: Lifecycle,
    clock: Clock,
    random: Callable[[], float],
    metrics: Metrics,
    routes: Sequence[web.RouteDef],
    served: Served = nobody_asks,
) -> tuple[int, int | None]:
    """Files and `routes`; gives the HTTP port and the HTTPS port, None without a certificate. `served` is told each
    answer. Raises `ListenFailed`, `CertificateUnusable`, `MirrorInvalid`, `NetworksInvalid`.
    """
    networks = networks_of(settings.allow_clients)
    admission = Admission(clock, networks, settings.client_requests, settings.client_bytes_per_second)
    mirrors = await start_mirrors(settings, lifecycle, clock, random, metrics)
    files = Files(settings.static_root, clock, mirrors, settings.settle_seconds)
    everything = [*routes, *files.routes()]

    def application() -> web.Application:
        app = web.Application(middlewares=[watch(clock, metrics, served), admission.middleware()])
        app.add_routes(everything)
        return app

    port = await lifecycle.enter(listening(application(), settings.server_ip, settings.api_port))
    log.info("regional api listening", address=f"{settings.server_ip}:{port}")
    if settings.tls_cert_file is None:
        return port, None
    own = await asyncio.to_thread(OwnCertificate, settings.tls_cert_file, settings.tls_key_file)
    secure = await lifecycle.enter(listening(application(), settings.server_ip, settings.tls_port, own.context))
    lifecycle.spawn("own certificate", own.watch(clock))
    log.info("regional https listening", address=f"{settings.server_ip}:{secure}")
    return port, secure
