"""5,000 agents (five times BENCH_AGENTS) on one control plane, and 10,000 on two that share PostgreSQL and Redis: held
for BENCH_HOLD seconds without losing one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from benchmarks.fleet.driving import CrowdProcess, Crowds
from benchmarks.fleet.plan import Plan, limit, note, raise_file_limit
from benchmarks.fleet.population import populate
from benchmarks.fleet.watching import usage
from benchmarks.registry.servers import longshore
from control_plane.settings import DatabaseSettings, Settings
from deploy.demo.fleet import Fleet
from deploy.demo.services import Service
from tests.engines.postgresql import postgres_engine
from tests.engines.redis import redis_engine

_MEGABYTE = 1e6
_PATIENCE_SECONDS = 170.0
_LOOK_SECONDS = 5.0
# A crowd's process has a third of a core left over for itself then.
_AGENTS_A_PROCESS = 5_000
# They come over some seconds: what a process does with all at one moment is the storm's question, and two processes
# and two crowds on two cores would each have half of one.
_COMING_A_SECOND = 250


@dataclass(frozen=True)
class Ground:
    fleet: Fleet
    planes: Sequence[Service]


def five(plan: Plan) -> None:
    count = 5 * plan.agents
    raise_file_limit(count)
    root, identities = plan.folder / "one", plan.folder / "identities"
    identities.mkdir()
    asyncio.run(populate(Settings(data=root / "control-plane"), identities, count))
    with longshore(root) as (_, fleet):
        _hold(plan, Ground(fleet, [fleet.control_plane]), identities, count)


def ten(plan: Plan) -> None:
    count = 10 * plan.agents
    raise_file_limit(count)
    root, identities = plan.folder / "two", plan.folder / "identities"
    identities.mkdir()
    with postgres_engine() as postgres, redis_engine() as redis:
        url = postgres.create_database("bench")
        data = root / "control-plane"
        settings = Settings(data=data, database=DatabaseSettings(url=SecretStr(url)))
        asyncio.run(populate(settings, identities, count))
        shared = {
            "LONGSHORE_DATABASE__URL": url,
            "LONGSHORE_REDIS__URL": redis.url,
            "LONGSHORE_SECRETS_DIRECTORY": str(settings.key_directory),
            "LONGSHORE_BLOBS__DIRECTORY": str(settings.blob_directory),
        }
        with longshore(root, shared) as (_, fleet), _second(root, shared) as second:
            _hold(plan, Ground(fleet, [fleet.control_plane, second]), identities, count)


@contextlib.contextmanager
def _second(root: Path, environment: Mapping[str, str]) -> Iterator[Service]:
    data = root / "control-plane-2"
    listeners = [f"--{name}=127.0.0.1:0" for name in ("http", "enrolment", "attach")]
    service = Service("control-plane-2", "control_plane", ["serve", *listeners, f"--data={data}"], data)
    service.environment = environment
    service.start()
    try:
        yield service
    finally:
        service.stop()


def _hold(plan: Plan, ground: Ground, identities: Path, count: int) -> None:
    with contextlib.ExitStack() as stack:
        parts = [
            stack.enter_context(CrowdProcess(identities, first, min(_AGENTS_A_PROCESS, count - first)))
            for first in range(0, count, _AGENTS_A_PROCESS)
        ]
        crowds = Crowds(parts)
        seconds = count / _COMING_A_SECOND
        began = crowds.attach([plane.facts["attach"] for plane in ground.planes], seconds)
        note(f"{count} agents attached in {crowds.wait_attached(_PATIENCE_SECONDS) - began:.1f} s")
        _watch(plan, ground, crowds)


def _watch(plan: Plan, ground: Ground, crowds: Crowds) -> None:
    name = f"{crowds.count} agents on {len(ground.planes)}"
    before = [usage(plane.pid) for plane in ground.planes]
    said_before, began = crowds.total(), time.monotonic()
    fewest, most_down = crowds.count, 0
    while time.monotonic() - began < plan.hold_seconds:
        time.sleep(min(_LOOK_SECONDS, plan.hold_seconds))
        fewest = min(fewest, crowds.total()["attached"])
        down = ground.fleet.client.get("/api/v1/hosts", state="offline", page_size=1)["pagination"]["total_count"]
        most_down = max(most_down, down)
    seconds, said = time.monotonic() - began, crowds.total()
    after = [usage(plane.pid) for plane in ground.planes]
    for number, (earlier, later) in enumerate(zip(before, after, strict=True), 1):
        share = (later.cpu_seconds - earlier.cpu_seconds) / seconds
        note(
            f"{name}: process {number} {share:.2f} cores, {later.rss_bytes / _MEGABYTE:.0f} MB resident, "
            f"{later.peak_bytes / _MEGABYTE:.0f} MB at its peak"
        )
    generators = (said["cpu_seconds"] - said_before["cpu_seconds"]) / seconds
    note(
        f"generators {generators:.2f} cores; {said['heartbeats'] - said_before['heartbeats']} heartbeats; "
        f"ended {said['reasons']}"
    )
    limit(f"{name}, {seconds:.0f} s: lost", "agents", crowds.count - fewest, most=0)
    limit(
        f"{name}, {seconds:.0f} s: rounds ended", "rounds", said["rounds_ended"] - said_before["rounds_ended"], most=0
    )
    limit(f"{name}, {seconds:.0f} s: marked down", "hosts", most_down, most=0)
