"""Composition root of the control plane: settings and engines (backing.py) in, wired services out.

Nothing runs when `build` returns; `process.py` starts listeners and background work, `worker` starts only the latter.
Tests call the same functions with other settings; there is no other wiring.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from prometheus_client import CollectorRegistry

from common.clock import Clock
from control_plane.agent_rollouts import jobs as agent_rollout_jobs
from control_plane.agent_rollouts.assembly import AgentRollouts, build_agent_rollouts
from control_plane.audit import jobs as audit_jobs
from control_plane.audit.auditing import Auditing, build_auditing
from control_plane.audit.service import TrailOptions
from control_plane.backing import Backing
from control_plane.channels.assembly import Channels, build_channels
from control_plane.channels.model import ChannelLimits
from control_plane.commands import jobs as command_jobs
from control_plane.commands.assembly import Commands, build_commands
from control_plane.database import Database, UnitOfWork
from control_plane.deployments.assembly import Deployments, build_deployments
from control_plane.fleet.conversation import Tempo
from control_plane.fleet.service import Fleet, FleetOptions, open_fleet
from control_plane.instances import jobs as instance_jobs
from control_plane.instances.assembly import Instances, build_instances
from control_plane.jobs import housekeeping
from control_plane.jobs.periodic import Periodic
from control_plane.jobs.running import Handler
from control_plane.jobs.service import JobService
from control_plane.jobs.worker import Worker
from control_plane.machines import jobs as machine_jobs
from control_plane.machines.assembly import Machines, build_machines, tenant_in_use
from control_plane.moves import jobs as move_jobs
from control_plane.moves.assembly import Moves, build_moves
from control_plane.preheats import jobs as preheat_jobs
from control_plane.preheats.assembly import Preheats, build_preheats
from control_plane.registry import jobs as registry_jobs
from control_plane.registry.auditing import RegistryAuditing
from control_plane.registry.collection import jobs as collection_jobs
from control_plane.registry.collection.model import Pace
from control_plane.registry.collection.service import Collection, hooked, open_collection
from control_plane.registry.completeness import Incomplete
from control_plane.registry.mirroring.assembly import Mirroring, open_mirroring
from control_plane.registry.participants import Hooks
from control_plane.registry.policies import Policies, build_policies
from control_plane.registry.quota import jobs as quota_jobs
from control_plane.registry.quota.building import Quota, build_quota
from control_plane.registry.quota.model import Defaults, Limits
from control_plane.registry.replication import jobs as replication_jobs
from control_plane.registry.replication.assembly import build_replication
from control_plane.registry.retention import jobs as retention_jobs
from control_plane.registry.retention.immutability import Immutability
from control_plane.registry.retention.pulls import PullTimes
from control_plane.registry.service import RegistryService
from control_plane.registry.signatures.gate import SignatureGate
from control_plane.registry.stores import jobs as store_jobs
from control_plane.registry.stores.assembly import Stores, build_stores, options_of
from control_plane.registry.upload_names import UploadNames
from control_plane.sealing import SealedBox
from control_plane.sealing.keyring import KeyRing
from control_plane.settings import Settings
from control_plane.swarm import jobs as swarm_jobs
from control_plane.swarm.assembly import Swarm, SwarmOptions, build_swarm
from control_plane.swarm.edge_desk import EdgeDesk, build_edge_desk
from control_plane.swarm.spreads import jobs as spread_jobs
from control_plane.tenants import jobs as tenant_jobs
from control_plane.tenants.model import TenantSettings
from control_plane.tenants.tenancy import Tenancy, build_tenancy
from control_plane.webhooks import jobs as webhook_jobs
from control_plane.webhooks.dispatcher import DispatchLimits
from control_plane.webhooks.hooking import WebhookOptions, Webhooks, build_webhooks


@dataclass(frozen=True)
class Workloads:
    """What runs on hosts, what is brought there, and what they are asked."""

    instances: Instances
    preheats: Preheats
    deployments: Deployments
    moves: Moves
    commands: Commands
    channels: Channels
    agent_rollouts: AgentRollouts
    machines: Machines


@dataclass(frozen=True)
class ControlPlane(Workloads):
    """Everything, wired. `metrics` is what /metrics shows."""

    settings: Settings
    clock: Clock
    backing: Backing
    auditing: Auditing
    tenancy: Tenancy
    webhooks: Webhooks
    registry: RegistryService
    quota: Quota
    mirroring: Mirroring
    collection: Collection
    stores: Stores
    policies: Policies
    fleet: Fleet
    swarm: Swarm
    edge_desk: EdgeDesk
    worker: Worker
    periodic: Periodic
    metrics: CollectorRegistry


def _identity(settings: Settings) -> TenantSettings:
    return TenantSettings(
        registry_service=settings.registry.service,
        registry_login_lifetime=timedelta(days=settings.registry.login_days),
    )


async def build(settings: Settings, clock: Clock, backing: Backing) -> ControlPlane:
    """The database must be migrated. Makes what the first start makes: master key, CA, signing keys."""
    database, blobs = backing.database, backing.blobs
    ring = KeyRing.load_or_create(settings.key_directory)
    box = SealedBox(ring)
    auditing = _auditing(settings, clock, database, box)

    async def registry_holds(unit: UnitOfWork, tenant_id: str) -> str | None:
        await mirroring.service.tenant_goes(unit, tenant_id)
        return await policies.tenant_going(unit, tenant_id) or await registry.tenant_in_use(unit, tenant_id)

    ask = (registry_holds, tenant_in_use)
    tenancy = build_tenancy(database, clock, backing.cache, box, _identity(settings), in_use=ask, trail=auditing.trail)
    tenants, webhooks = tenancy.directory, _webhooks(settings, clock, backing, box, tenancy, auditing)
    metrics, pace, jobs = CollectorRegistry(), _pace(settings), JobService(database, backing.queue, clock)
    quota = _quota(settings, clock, backing, tenancy, metrics)
    spool, outbound = settings.data / "spool", backing.outbound
    mirroring = open_mirroring(database, tenants, box, outbound, clock, backing.cache, spool, metrics=metrics)
    gate = SignatureGate(database, backing.blobs, tenants, clock, mirroring.pull_through)
    pulls = PullTimes(database, clock)
    participants = (Immutability(), quota.book, RegistryAuditing(auditing.trail), gate, pulls)
    takers = Hooks(participants=participants, meter=quota.meter, gate=gate, upstreams=mirroring.pull_through)
    hooks = hooked(takers, database, pace)
    registry = _registry(settings, clock, backing, tenancy, hooks, UploadNames(ring.derived("registry/uploads")))
    fleet = await _fleet(settings, clock, backing, box, metrics)
    trail, options = auditing.trail, SwarmOptions.of(settings.swarm)
    swarm = await build_swarm(database, clock, box, registry, jobs, fleet, tenants, options, trail, metrics)
    workloads = _workloads(settings, clock, backing, auditing, tenancy, registry, swarm, fleet, metrics, box)
    instances = workloads.instances
    replication = build_replication(database, tenants, box, backing.outbound, registry, metrics, settings.replication)
    policies = build_policies(database, tenants, registry, jobs, instances.reading, gate, pulls, replication)
    collection = open_collection(database, blobs, registry, hooks, jobs, pace, wishes=swarm.service, metrics=metrics)
    desk = _edge_desk(clock, backing, registry, tenancy, swarm, fleet)
    kept, healers = options_of(settings.placement), (mirroring.healer, desk.healer)
    stores = build_stores(database, blobs, jobs, trail, metrics, clock, kept, healers)
    handlers = dict(_handlers(settings, clock, jobs, auditing, tenancy, registry, swarm, instances))
    handlers |= _further_handlers(settings, collection, stores, quota, policies, webhooks, workloads)
    schedules = (*_SCHEDULES, *collection_jobs.schedules(timedelta(days=settings.collection.sweep_days)))
    return ControlPlane(
        settings=settings,
        clock=clock,
        backing=backing,
        auditing=auditing,
        tenancy=tenancy,
        webhooks=webhooks,
        registry=registry,
        quota=quota,
        mirroring=mirroring.attached(registry),
        collection=collection,
        stores=stores,
        policies=policies,
        fleet=fleet,
        swarm=swarm,
        edge_desk=desk,
        **vars(workloads),
        worker=Worker(database, backing.queue, handlers, clock),
        periodic=Periodic(database, jobs, schedules, clock),
        metrics=metrics,
    )


_SCHEDULES = (
    *housekeeping.SCHEDULES,
    *audit_jobs.SCHEDULES,
    *tenant_jobs.SCHEDULES,
    *webhook_jobs.SCHEDULES,
    *registry_jobs.SCHEDULES,
    *quota_jobs.SCHEDULES,
    *replication_jobs.SCHEDULES,
    *retention_jobs.SCHEDULES,
    *store_jobs.SCHEDULES,
    *swarm_jobs.SCHEDULES,
    *spread_jobs.SCHEDULES,
    *instance_jobs.SCHEDULES,
    *preheat_jobs.SCHEDULES,
    *agent_rollout_jobs.SCHEDULES,
    *command_jobs.SCHEDULES,
    *machine_jobs.SCHEDULES,
    *move_jobs.SCHEDULES,
)


def _handlers(
    settings: Settings,
    clock: Clock,
    jobs: JobService,
    auditing: Auditing,
    tenancy: Tenancy,
    registry: RegistryService,
    swarm: Swarm,
    instances: Instances,
) -> Mapping[str, Handler]:
    expiry = timedelta(hours=settings.registry.upload_expiry_hours)
    return {
        **housekeeping.build_handlers(jobs, clock),
        **audit_jobs.build_handlers(auditing.retention),
        **tenant_jobs.build_handlers(tenancy.sessions, tenancy.signing_keys, tenancy.robots, tenancy.registry_logins),
        **registry_jobs.build_handlers(registry, expiry),
        **swarm_jobs.build_handlers(swarm.describer, swarm.keys, swarm.bad_peers, swarm.forgetting),
        **spread_jobs.build_handlers(swarm.spreads),
        **instance_jobs.build_handlers(instances.service),
    }


def _further_handlers(
    settings: Settings,
    collection: Collection,
    stores: Stores,
    quota: Quota,
    policies: Policies,
    webhooks: Webhooks,
    workloads: Workloads,
) -> Mapping[str, Handler]:
    return {
        **workloads.preheats.handlers,
        **workloads.agent_rollouts.handlers,
        **workloads.commands.handlers,
        **workloads.machines.handlers,
        **workloads.moves.handlers,
        **collection_jobs.build_handlers(collection.service),
        **stores.handlers,
        **quota_jobs.build_handlers(quota.recount),
        **policies.handlers,
        **webhook_jobs.build_handlers(webhooks.service, timedelta(days=settings.webhooks.keep_days)),
    }


def _channels(
    settings: Settings,
    clock: Clock,
    backing: Backing,
    auditing: Auditing,
    fleet: Fleet,
    instances: Instances,
    metrics: CollectorRegistry,
) -> Channels:
    chosen, (database, events) = settings.channels, (backing.database, backing.events)
    limits = ChannelLimits(
        chosen.per_host,
        chosen.per_tenant,
        chosen.per_user,
        open_seconds=chosen.open_seconds,
        idle_seconds=chosen.idle_seconds,
        longest_seconds=chosen.longest_seconds,
    )
    alone = settings.redis.url is None  # without Redis there are no replicas
    return build_channels(
        database, events, fleet, instances.reading, auditing.trail, clock, random.random, limits, metrics, alone=alone
    )


def _pace(settings: Settings) -> Pace:
    chosen = settings.collection
    return Pace(
        grace=timedelta(hours=chosen.grace_hours),
        settle=timedelta(hours=chosen.settle_hours),
        records=timedelta(days=chosen.records_days),
    )


def _quota(settings: Settings, clock: Clock, backing: Backing, tenancy: Tenancy, metrics: CollectorRegistry) -> Quota:
    chosen = settings.quota
    defaults = Defaults(
        tenant=Limits(
            chosen.tenant_max_storage_bytes, chosen.tenant_max_image_count, chosen.tenant_max_image_size_bytes
        ),
        user=Limits(chosen.user_max_storage_bytes, chosen.user_max_image_count, chosen.user_max_image_size_bytes),
    )
    return build_quota(backing.database, backing.blobs, tenancy.tenants, tenancy.accounts, clock, defaults, metrics)


def _auditing(settings: Settings, clock: Clock, database: Database, box: SealedBox) -> Auditing:
    chosen = settings.audit
    options = TrailOptions(chosen.buffer_entries, flush_seconds=chosen.flush_seconds, strict=chosen.strict)
    return build_auditing(database, clock, box, options, keep=timedelta(days=chosen.keep_days))


def _webhooks(
    settings: Settings, clock: Clock, backing: Backing, box: SealedBox, tenancy: Tenancy, auditing: Auditing
) -> Webhooks:
    chosen = settings.webhooks
    limits = DispatchLimits(
        chosen.at_once,
        chosen.at_once_per_webhook,
        timeout_seconds=chosen.timeout_seconds,
        patience=timedelta(days=chosen.disable_days),
    )
    source = chosen.source or settings.public.url or "urn:longshore"
    options = WebhookOptions(source, timedelta(hours=chosen.retry_hours), limits)
    outbound, trail = backing.outbound, auditing.trail
    return build_webhooks(backing.database, clock, box, tenancy.directory, outbound, trail, random.random, options)


async def _fleet(
    settings: Settings, clock: Clock, backing: Backing, box: SealedBox, metrics: CollectorRegistry
) -> Fleet:
    options = FleetOptions(
        tempo=Tempo(heartbeat_seconds=settings.fleet.heartbeat_seconds),
        certificate_life=timedelta(hours=settings.fleet.certificate_hours),
    )
    return await open_fleet(backing.database, backing.events, box, clock, random.random, options, metrics)


def _registry(
    settings: Settings, clock: Clock, backing: Backing, tenancy: Tenancy, hooks: Hooks, names: UploadNames
) -> RegistryService:
    incomplete = Incomplete(settings.registry.incomplete_manifests)
    alone = settings.redis.url is None  # without Redis there are no replicas
    database, directory = backing.database, tenancy.directory
    return RegistryService(database, backing.blobs, directory, clock, hooks, incomplete, alone=alone, names=names)


def _edge_desk(
    clock: Clock, backing: Backing, registry: RegistryService, tenancy: Tenancy, swarm: Swarm, fleet: Fleet
) -> EdgeDesk:
    database, members, tokens = backing.database, backing.blobs.members, tenancy.registry_tokens
    return build_edge_desk(
        database, backing.events, members, registry, tokens, swarm.tokens, fleet, clock, random.random
    )


def _workloads(
    settings: Settings,
    clock: Clock,
    backing: Backing,
    auditing: Auditing,
    tenancy: Tenancy,
    registry: RegistryService,
    swarm: Swarm,
    fleet: Fleet,
    metrics: CollectorRegistry,
    box: SealedBox,
) -> Workloads:
    database, tenants, trail, chance = backing.database, tenancy.directory, auditing.trail, random.random
    instances = build_instances(database, clock, registry, tenants, swarm, fleet)
    moves = build_moves(database, clock, swarm, fleet, instances.reading, instances.assignments, trail, chance)
    preheats = build_preheats(database, clock, registry, tenants, swarm, moves.assignments)
    return Workloads(
        instances=instances,
        moves=moves,
        preheats=preheats,
        deployments=build_deployments(database, clock, registry, tenants, swarm.service, fleet, trail, chance),
        commands=build_commands(database, backing.events, fleet, instances.reading, trail, clock, chance),
        channels=_channels(settings, clock, backing, auditing, fleet, instances, metrics),
        agent_rollouts=build_agent_rollouts(
            database, clock, registry, tenants, swarm, fleet.look, preheats.assignments
        ),
        machines=build_machines(
            database, clock, box, backing.events, registry, tenants, swarm.service, swarm.tokens, trail, chance
        ),
    )
