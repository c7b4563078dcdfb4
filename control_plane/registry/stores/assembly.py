"""Placement and scrubbing, wired to each other; `app` calls `build_stores` once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from prometheus_client import CollectorRegistry

from common.clock import Clock
from control_plane.audit.service import AuditTrail
from control_plane.blobs.store_set.store import StoreSet
from control_plane.database import Database
from control_plane.jobs.running import Handler
from control_plane.jobs.service import JobService
from control_plane.registry.stores.copies.notes import CopyNotes
from control_plane.registry.stores.copies.pace import ByteBudget
from control_plane.registry.stores.jobs import build_handlers
from control_plane.registry.stores.placement.planner import PlacementPolicy
from control_plane.registry.stores.placement.service import PlacementService
from control_plane.registry.stores.scrubbing.healing import Healer, Healing
from control_plane.registry.stores.scrubbing.scrubber import Scrubber, ScrubMetrics
from control_plane.registry.stores.service import StoreService
from control_plane.storage_settings import PlacementSettings


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """Rates are bytes a second of one process. `scrub_every`: so often each copy is read."""

    policy: PlacementPolicy = field(default_factory=PlacementPolicy)
    scrub_every: timedelta = timedelta(days=7)
    scrub_rate: int = 50 << 20
    copy_rate: int = 100 << 20


def options_of(placement: PlacementSettings) -> StoreOptions:
    policy = PlacementPolicy(
        copies=placement.copies,
        public_copies=placement.public_copies,
        warm_after=timedelta(days=placement.warm_days),
        cold_after=timedelta(days=placement.cold_days),
        settle=timedelta(hours=placement.settle_hours),
        reserve_bytes=placement.reserve_mebibytes << 20,
    )
    return StoreOptions(
        policy,
        timedelta(days=placement.scrub_days),
        scrub_rate=placement.scrub_mebibytes_per_second << 20,
        copy_rate=placement.mebibytes_per_second << 20,
    )


@dataclass(frozen=True, slots=True)
class Stores:
    """`notes` runs in the background and is flushed at the end."""

    service: StoreService
    placement: PlacementService
    scrubber: Scrubber
    notes: CopyNotes
    handlers: Mapping[str, Handler]


def build_stores(
    database: Database,
    stores: StoreSet,
    jobs: JobService,
    trail: AuditTrail,
    metrics: CollectorRegistry,
    clock: Clock,
    options: StoreOptions,
    healers: Sequence[Healer] = (),
) -> Stores:
    """Makes the notes the watcher of the stores."""
    copying = ByteBudget(options.copy_rate, clock)
    placement = PlacementService(database, stores, options.policy, copying, clock)
    scrubber = Scrubber(
        database,
        stores.members,
        Healing(database, stores.members, healers, copying),
        trail,
        ScrubMetrics(metrics),
        ByteBudget(options.scrub_rate, clock),
        options.scrub_every,
        clock,
    )
    stores.watcher = notes = CopyNotes(database, clock)
    service = StoreService(database, stores.members, placement, options.policy, jobs, options.scrub_every, clock)
    return Stores(service, placement, scrubber, notes, build_handlers(database, notes, placement, scrubber))
