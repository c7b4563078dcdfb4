"""The parts of quota, wired to each other; `app` calls `build_quota` once and hands them on."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from common.clock import Clock
from control_plane.blobs import BlobStore
from control_plane.database import Database
from control_plane.registry.quota.book import QuotaBook
from control_plane.registry.quota.ledger import Ledger
from control_plane.registry.quota.meter import QuotaMeter
from control_plane.registry.quota.metrics import QuotaMetrics
from control_plane.registry.quota.model import Defaults
from control_plane.registry.quota.recount import Recount
from control_plane.registry.quota.service import QuotaService, Tenants, Users


@dataclass(frozen=True, slots=True)
class Quota:
    """`book` and `meter` are hooks of the registry, `recount` is for the jobs, `service` for the API."""

    book: QuotaBook
    meter: QuotaMeter
    recount: Recount
    service: QuotaService


def build_quota(
    database: Database,
    blobs: BlobStore,
    tenants: Tenants,
    users: Users,
    clock: Clock,
    defaults: Defaults,
    metrics: CollectorRegistry,
) -> Quota:
    counters = QuotaMetrics(metrics)
    ledger = Ledger(defaults, counters)
    meter = QuotaMeter(database, ledger, clock)
    recount = Recount(database, blobs, ledger, meter, counters, clock)
    return Quota(QuotaBook(ledger), meter, recount, QuotaService(database, ledger, meter, recount, tenants, users))
