"""The parts of immutability and retention, wired to each other; `app` calls `build_retention` once.

`Immutability` and `PullTimes` take part in the registry and so are made before it; the rest works on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from common.clock import Clock
from control_plane.database import Database
from control_plane.jobs.running import Handler
from control_plane.jobs.service import JobService
from control_plane.registry.collaborators import TenantDirectory
from control_plane.registry.images import ImageService
from control_plane.registry.retention.immutability import ImmutabilityRules
from control_plane.registry.retention.jobs import build_handlers
from control_plane.registry.retention.pictures import RunningImages
from control_plane.registry.retention.pulls import PullTimes
from control_plane.registry.retention.runner import RetentionRunner
from control_plane.registry.retention.service import RetentionService


@dataclass(frozen=True, slots=True)
class Retention:
    rules: ImmutabilityRules
    service: RetentionService
    pulls: PullTimes
    handlers: Mapping[str, Handler]


def build_retention(
    database: Database,
    tenants: TenantDirectory,
    jobs: JobService,
    images: ImageService,
    running: RunningImages,
    pulls: PullTimes,
    clock: Clock,
) -> Retention:
    service = RetentionService(database, tenants, jobs, running, pulls, clock)
    runner = RetentionRunner(database, images, running, pulls, clock)
    rules = ImmutabilityRules(database, tenants, clock)
    return Retention(rules, service, pulls, build_handlers(service, runner))
