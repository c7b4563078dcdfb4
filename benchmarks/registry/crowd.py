"""Memory while 64 clients push at once: flat, whatever they push."""

from __future__ import annotations

from benchmarks.registry.plan import Plan, compare, limit, note
from benchmarks.registry.pushing import push_blobs
from benchmarks.registry.servers import docker_registry, longshore

_CLIENTS = 64
_MOST_MIB = 250.0


def measure(plan: Plan) -> None:
    peaks = {}
    for name in ("ours", "peer"):
        with longshore(plan.folder / name) if name == "ours" else docker_registry(plan.folder / name) as opened:
            target = opened[0] if isinstance(opened, tuple) else opened
            timing = push_blobs(target, _CLIENTS, plan.crowd_bytes)
            peaks[name] = target.peak_bytes() / (1 << 20)
            rate = _CLIENTS * plan.crowd_bytes / timing.seconds / 1e6
            note(f"{target.name}: {rate:.0f} MB/s, at most {peaks[name]:.0f} MiB of memory")
    what = f"resident memory while {_CLIENTS} clients push {plan.crowd_bytes >> 20} MiB each"
    limit(what, "MiB", [peaks["ours"]], most=_MOST_MIB)
    compare(what, "MiB", [peaks["ours"]], [peaks["peer"]], "docker-registry 2.8", goal=0.0, less_is_better=True)
