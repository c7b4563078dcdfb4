"""1,000 agents (BENCH_AGENTS) on one control plane with SQLite: what they cost while nothing happens, how they all come
back at once, and how soon all of them hear of something new.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from benchmarks.fleet.driving import CrowdProcess, Crowds
from benchmarks.fleet.plan import Plan, limit, note, quantile, raise_file_limit
from benchmarks.fleet.population import IDC, populate
from benchmarks.fleet.watching import CommitWatch, usage
from benchmarks.registry.contents import store
from benchmarks.registry.servers import REPOSITORY, Target, longshore
from control_plane.cli.client import Client
from control_plane.settings import Settings
from deploy.demo.fleet import Fleet

_MEGABYTE = 1e6
_SETTLE_SECONDS = 15.0
_MOST_CORE, _MOST_MEGABYTES, _MOST_STORM_SECONDS, _MOST_FANOUT_SECONDS = 0.20, 250.0, 10.0, 1.0
_STORMS = 3
_ROUNDS = 5
_IMAGE_LAYERS = 20
_PATIENCE_SECONDS = 120.0


def steady(plan: Plan) -> None:
    with _attached(plan) as (fleet, crowds, _):
        _steady(plan, fleet, crowds)


def fan_out(plan: Plan) -> None:
    with _attached(plan) as (fleet, crowds, target):
        _fan_out(plan, fleet, crowds, target)


def storm(plan: Plan) -> None:
    with _attached(plan) as (fleet, crowds, _):
        _cut(plan, fleet, crowds)
        _killed(plan, fleet, crowds)


@contextmanager
def _attached(plan: Plan) -> Iterator[tuple[Fleet, Crowds, Target]]:
    raise_file_limit(plan.agents)
    root, identities = plan.folder / "one", plan.folder / "identities"
    identities.mkdir()
    asyncio.run(populate(Settings(data=root / "control-plane"), identities, plan.agents))
    with longshore(root) as (target, fleet), CrowdProcess(identities, 0, plan.agents) as crowd:
        store(target, 1 << 20)
        crowds = Crowds([crowd])
        busy, began = usage(fleet.control_plane.pid).cpu_seconds, crowds.attach([fleet.control_plane.facts["attach"]])
        seconds = crowds.wait_attached(_PATIENCE_SECONDS) - began
        busy = usage(fleet.control_plane.pid).cpu_seconds - busy
        note(f"{plan.agents} agents attached for the first time in {seconds:.1f} s, {busy:.1f} s of CPU")
        yield fleet, crowds, target


def _steady(plan: Plan, fleet: Fleet, crowds: Crowds) -> None:
    time.sleep(_SETTLE_SECONDS)
    pid, database = fleet.control_plane.pid, fleet.control_plane.data / "longshore.db"
    before, said_before = usage(pid), crowds.total()
    began = time.monotonic()
    with CommitWatch(database) as commits:
        time.sleep(plan.steady_seconds)
    after, said = usage(pid), crowds.total()
    seconds = time.monotonic() - began
    beats = said["heartbeats"] - said_before["heartbeats"]
    share = (after.cpu_seconds - before.cpu_seconds) / seconds
    agents = f"{plan.agents} agents, {seconds:.0f} s"
    limit(f"steady: share of one core, {agents}", "cores", share, most=_MOST_CORE)
    limit(f"steady: resident memory, {agents}", "MB", after.rss_bytes / _MEGABYTE, most=_MOST_MEGABYTES)
    # Who was seen is written twice a minute for all together; what else commits is there without agents too.
    note(
        f"{beats} heartbeats, {len(commits.times)} commits; generator {_share(said_before, said, seconds):.2f} cores, "
        f"{share * seconds / max(beats, 1) * 1e3:.2f} ms of CPU a heartbeat, peak {after.peak_bytes / _MEGABYTE:.0f} MB"
    )
    limit("steady: commits a 1,000 heartbeats", "commits", len(commits.times) / max(beats, 1) * 1e3, most=5.0)


def _share(before: dict[str, float], after: dict[str, float], seconds: float) -> float:
    return (after["cpu_seconds"] - before["cpu_seconds"]) / seconds


def _fan_out(plan: Plan, fleet: Fleet, crowds: Crowds, target: Target) -> None:
    """From the request's first byte to the last agent's receipt, the control plane's own work included. Each round is
    of a new image of `_IMAGE_LAYERS` layers first, for which nobody signed a token before, and then of the same again.
    """
    new: list[float] = []
    known: list[float] = []
    for number in range(_ROUNDS):
        store(target, 1 << 20, f"v{number}", _IMAGE_LAYERS)
        new += _round(plan, fleet, crowds, f"v{number}", f"bench-{number}")
        known += _round(plan, fleet, crowds, f"v{number}", f"again-{number}")
    for what, times in (("a new image", new), ("a known image", known)):
        figure = f"fan-out of {what} to {plan.agents}"
        limit(f"{figure}: p50", "s", quantile(times, 0.5), most=_MOST_FANOUT_SECONDS)
        limit(f"{figure}: p99", "s", quantile(times, 0.99), most=_MOST_FANOUT_SECONDS)


def _round(plan: Plan, fleet: Fleet, crowds: Crowds, tag: str, name: str) -> list[float]:
    crowds.ask("forget")
    busy = usage(fleet.control_plane.pid).cpu_seconds
    began = time.monotonic()
    fleet.client.post("/api/v1/instances", {"tenant": "acme", "name": name, "image": f"{REPOSITORY}:{tag}", "idc": IDC})
    answered = time.monotonic() - began
    times = _wait_receipts(crowds, plan.agents, began)
    time.sleep(_SETTLE_SECONDS / 3)  # until everybody has reported
    busy = usage(fleet.control_plane.pid).cpu_seconds - busy
    note(
        f"{name}: answered after {answered:.2f} s; p50 {quantile(times, 0.5):.2f} s, "
        f"p99 {quantile(times, 0.99):.2f} s, {len(times)} agents; {busy:.1f} s of CPU with all reports; "
        f"generator's lag {crowds.total()['lag']:.3f} s"
    )
    return times


def _wait_receipts(crowds: Crowds, wanted: int, began: float) -> list[float]:
    deadline = began + _PATIENCE_SECONDS
    while len(times := crowds.receipts()) < wanted and time.monotonic() < deadline:
        time.sleep(0.2)
    return [at - began for at in times]


def _cut(plan: Plan, fleet: Fleet, crowds: Crowds) -> None:
    """All connections break at the same moment; the control plane lives."""
    found = []
    for number in range(_STORMS):
        crowds.ask("grow old")
        with _down(fleet.client) as down:
            busy, began = usage(fleet.control_plane.pid).cpu_seconds, crowds.cut()
            found.append(crowds.wait_attached(_PATIENCE_SECONDS) - began)
            busy = usage(fleet.control_plane.pid).cpu_seconds - busy
        note(f"storm {number}: {found[-1]:.2f} s, {busy:.1f} s of CPU, at most {max(down, default=0)} shown as offline")
    limit(f"storm of {plan.agents} after a cut", "s", statistics.median(found), most=_MOST_STORM_SECONDS)


def _killed(plan: Plan, fleet: Fleet, crowds: Crowds) -> None:
    """SIGKILL, and a new start at once, as a supervisor would."""
    found, worst = [], 0
    for number in range(_STORMS):
        crowds.ask("grow old")
        fleet.control_plane.kill()
        began = time.monotonic()
        fleet.start_control_plane()
        ready = time.monotonic()
        fleet.log_in()
        with _down(fleet.client) as down:
            back = crowds.wait_attached(_PATIENCE_SECONDS)
        worst = max(worst, *down, 0)
        found.append(back - ready)
        note(f"killed {number}: {back - began:.2f} s from the kill, {back - ready:.2f} s from the start's end")
    limit(f"storm of {plan.agents} after SIGKILL", "s", statistics.median(found), most=_MOST_STORM_SECONDS)
    limit("storm: hosts marked down", "hosts", worst, most=0)


@contextmanager
def _down(client: Client) -> Iterator[list[int]]:
    """How many hosts were shown as offline, as often as it was asked."""
    found: list[int] = []
    stopping = Event()

    def look() -> None:
        while not stopping.wait(0.25):
            found.append(client.get("/api/v1/hosts", state="offline", page_size=1)["pagination"]["total_count"])

    thread = Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        stopping.set()
        thread.join()
