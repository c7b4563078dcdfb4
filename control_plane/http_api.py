"""The HTTP application: every domain's routes in one place, the hot ones first, and the few pages that belong to none.

`/v2` and `/content/v1` are plain Starlette routes in front of FastAPI's (docs/decisions/0003-http-server.md).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI
from prometheus_client import generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from common.digest import Digest
from common.errors import Failure
from control_plane.agent_rollouts.routes import build_router as agent_rollouts_router
from control_plane.app import ControlPlane
from control_plane.audit.routes import build_router as audit_router
from control_plane.catalogue.routes import build_router as catalogue_router
from control_plane.channels.exporting import build_router as export_router
from control_plane.channels.routes import build_router as channels_router
from control_plane.commands.routes import build_router as commands_router
from control_plane.commands.snapshot_routes import build_router as snapshots_router
from control_plane.deployments.rollout_routes import build_router as rollouts_router
from control_plane.deployments.routes import build_router as deployments_router
from control_plane.fleet.host_looks import HostLooks
from control_plane.fleet.limits.routes import build_router as limits_router
from control_plane.fleet.limits.service import LimitService
from control_plane.fleet.placement.routes import build_router as places_router
from control_plane.fleet.routes import Advertised
from control_plane.fleet.routes import build_router as fleet_router
from control_plane.fleet.sample_routes import build_router as sample_router
from control_plane.instances.routes import build_router as instances_router
from control_plane.instances.stats import build_router as stats_router
from control_plane.machines.routes import build_router as machines_router
from control_plane.moves.routes import build_router as moves_router
from control_plane.preheats.routes import build_router as preheats_router
from control_plane.registry.access_routes import build_router as access_router
from control_plane.registry.collection.routes import build_router as collection_router
from control_plane.registry.emptying import Emptying
from control_plane.registry.emptying_routes import build_router as emptying_router
from control_plane.registry.granting import GrantService
from control_plane.registry.mirroring.routes import build_router as mirrors_router
from control_plane.registry.patterns import compile_patterns
from control_plane.registry.quota.routes import build_router as quota_router
from control_plane.registry.replication.routes import build_router as replication_router
from control_plane.registry.retention.routes import build_router as retention_router
from control_plane.registry.routes import build_application as registry_application
from control_plane.registry.signatures.routes import build_router as signatures_router
from control_plane.registry.stores.routes import build_router as stores_router
from control_plane.registry.v2 import Options
from control_plane.settings import Settings
from control_plane.swarm.certificate_routes import CertificateRoutes
from control_plane.swarm.content_routes import ContentRoutes
from control_plane.swarm.lease_routes import LeaseRoutes
from control_plane.swarm.leases import LeaseBooks
from control_plane.swarm.part_routes import PartRoutes
from control_plane.swarm.routes import build_router as swarm_router
from control_plane.swarm.spreads.routes import build_router as spreads_router
from control_plane.tenants.auditing import AuditSight, CallsNoted, Refusals
from control_plane.tenants.routes import build_router as tenants_router
from control_plane.web.access_log import AccessLog, HttpMetrics
from control_plane.web.errors import install_error_handlers
from control_plane.web.front import Front
from control_plane.web.openapi import PROBLEMS, describe_problems
from control_plane.webhooks.routes import build_router as webhooks_router

VERSION = version("longshore")
_PROBE_SECONDS = 2.0


def build_http(plane: ControlPlane, enrolment: Callable[[], str], attach: Callable[[], str]) -> ASGIApp:
    """`enrolment` and `attach` say where those listeners are, once they are."""
    api = FastAPI(
        title="Longshore",
        version=VERSION,
        docs_url=None,  # FastAPI's page loads its scripts from a public CDN; the document itself is what clients need
        redoc_url=None,
        openapi_url="/api/openapi.json",
        responses=PROBLEMS,
    )
    describe_problems(api)
    api.state.authenticator = plane.tenancy.auth
    api.state.audit_sight = AuditSight(plane.backing.database)
    refused = Refusals(plane.auditing.trail)
    install_error_handlers(api, refused)
    api.router.routes[:0] = _contents(plane)
    api.include_router(_probes(plane))
    api.include_router(audit_router(plane.auditing.reading, plane.auditing.retention))
    api.include_router(tenants_router(plane.tenancy))
    api.include_router(webhooks_router(plane.webhooks.service, plane.webhooks.dispatcher))
    advertised = Advertised(VERSION, plane.fleet.authority.ca_pem, enrolment, attach)
    fleet = plane.fleet
    looks = HostLooks(plane.backing.database, plane.backing.cache)
    api.include_router(sample_router(fleet.members, looks))
    # These too stand before the fleet's own: a host's name has a slash in it.
    api.include_router(places_router(plane.deployments.places))
    api.include_router(rollouts_router(plane.deployments.rollouts, plane.deployments.reading))
    api.include_router(deployments_router(plane.deployments.service, plane.deployments.reading))
    api.include_router(commands_router(plane.commands.service))
    api.include_router(snapshots_router(plane.commands.service, plane.commands.snapshots))
    api.include_router(fleet_router(fleet.idcs, fleet.members, fleet.join_tokens, advertised))
    api.include_router(limits_router(LimitService(plane.backing.database, plane.tenancy.directory)))
    api.include_router(catalogue_router(plane.registry))
    api.include_router(access_router(_grants(plane)))
    api.include_router(emptying_router(_emptying(plane)))
    api.include_router(collection_router(plane.collection))
    api.include_router(stores_router(plane.stores.service))
    api.include_router(quota_router(plane.quota.service))
    api.include_router(mirrors_router(plane.mirroring.service))
    retention = plane.policies.retention
    api.include_router(retention_router(retention.rules, retention.service))
    api.include_router(replication_router(plane.policies.replication))
    api.include_router(signatures_router(plane.policies.signatures))
    api.include_router(swarm_router(plane.swarm.overview, plane.swarm.bad_peers))
    _add_workloads(api, plane, looks, refused)
    metrics = HttpMetrics(plane.metrics)
    api.add_middleware(CallsNoted, trail=plane.auditing.trail)
    api.add_middleware(AccessLog, clock=plane.clock, metrics=metrics)
    return Front(api, "/v2", AccessLog(_registry(plane, refused), clock=plane.clock, metrics=metrics))


def _add_workloads(api: FastAPI, plane: ControlPlane, looks: HostLooks, refused: Refusals) -> None:
    """What runs on hosts and machines, and what is brought there."""
    instances = plane.instances
    api.include_router(stats_router(instances.reading, looks))
    api.include_router(channels_router(plane.channels.service, plane.clock, plane.settings.public.url, refused))
    api.include_router(moves_router(plane.moves.service))
    api.include_router(export_router(plane.channels.service))
    api.include_router(instances_router(instances.service, instances.reading, instances.overview))
    api.include_router(spreads_router(plane.swarm.spreads))
    api.include_router(preheats_router(plane.preheats.service, plane.preheats.reading))
    api.include_router(agent_rollouts_router(plane.agent_rollouts.service, plane.agent_rollouts.reading))
    machines, public_url = plane.machines, plane.settings.public.url
    api.include_router(
        machines_router(
            machines.service, machines.reading, machines.profiles, machines.tasks, machines.live, machines.power,
            public_url, refused,
        )
    )  # fmt: skip


def _grants(plane: ControlPlane) -> GrantService:
    return GrantService(plane.backing.database, plane.registry.rights, plane.tenancy.directory, plane.auditing.trail)


def _emptying(plane: ControlPlane) -> Emptying:
    registry = plane.registry
    return Emptying(plane.backing.database, registry.images, registry.rights, plane.auditing.trail)


def _registry(plane: ControlPlane, refused: Refusals) -> ASGIApp:
    settings = plane.settings
    options = Options(
        service=settings.registry.service,
        public_url=settings.public.url,
        accel_prefix=settings.registry.x_accel_prefix,
        redirected=_redirected(settings),
        redirect_seconds=settings.blobs.s3.redirect_seconds,
        refused=refused,
    )
    tenancy = plane.tenancy
    return registry_application(plane.registry, tenancy.auth, tenancy.auth, tenancy.registry_tokens, options)


def _redirected(settings: Settings) -> Callable[[str], bool]:
    buckets = [each for each in (settings.blobs.s3, *(s.s3 for s in settings.stores.values())) if each.bucket]
    own = compile_patterns(tuple(pattern for each in buckets for pattern in each.redirect_except))
    wanted = any(each.redirect for each in buckets)
    return lambda repository: wanted and not own.match(repository)


def _contents(plane: ControlPlane) -> list[Route]:
    swarm = plane.swarm
    prefix = plane.settings.registry.x_accel_prefix
    contents = ContentRoutes(swarm.access, plane.registry, swarm.service, swarm.statements, swarm.egress, prefix)
    parts = PartRoutes(plane.backing.database, swarm.access, plane.registry, swarm.egress)
    books = LeaseBooks(plane.backing.cache, plane.clock, random.random, swarm.gates.count)
    leases = LeaseRoutes(swarm.access, swarm.service, books)
    return [*CertificateRoutes(swarm.mint).routes(), *contents.routes(), *parts.routes(), *leases.routes()]


async def _ask_database(plane: ControlPlane) -> None:
    async with plane.backing.database.reading() as connection:
        await connection.exec_driver_sql("SELECT 1")


async def _answer(check: Coroutine[Any, Any, object]) -> str:
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            await check
    except (Failure, TimeoutError, OSError) as error:
        return str(error) or "no answer in time"
    return "ok"


def _probes(plane: ControlPlane) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> str:
        """The process is alive."""
        return "ok\n"

    @router.get("/readyz")
    async def readyz() -> Response:
        """503 names what does not answer and is needed. Redis and etcd are named too, but we work without them."""
        backing = plane.backing
        needed = {"database": _ask_database(plane), "blobs": backing.blobs.members.primary.store.stat(Digest.of(b""))}
        missed: dict[str, Coroutine[Any, Any, object]] = {}
        if plane.settings.redis.url is not None:
            missed["redis"] = backing.cache.get("readyz")
        if plane.settings.etcd.endpoints:
            missed["etcd"] = backing.directory.list("/os/readyz/")
        answers = await asyncio.gather(*map(_answer, (*needed.values(), *missed.values())))
        results = dict(zip((*needed, *missed), answers, strict=True))
        good = all(results[name] == "ok" for name in needed)
        return JSONResponse({"ready": good, "checks": results}, 200 if good else 503)

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics(_request: Request) -> Response:
        """For Prometheus."""
        return PlainTextResponse(generate_latest(plane.metrics))

    return router
