"""Figures of pushing: large blobs with verification, images of one megabyte."""

from __future__ import annotations

from benchmarks.registry.plan import Plan, alternate, compare, note
from benchmarks.registry.pushing import Timing, push_blobs, push_images
from benchmarks.registry.servers import Target, docker_registry, longshore

_IMAGES = 40


def measure(plan: Plan) -> None:
    """Raises `PushFailed` if a server refuses."""
    with longshore(plan.folder / "ours") as (ours, _), docker_registry(plan.folder / "peer") as peer:
        for clients in (1, 4):
            _blobs(plan, clients, ours, peer)
        _images(plan, ours, peer)


def _blobs(plan: Plan, clients: int, ours: Target, peer: Target) -> None:
    size = plan.blob_bytes // clients

    def load(target: Target) -> Timing:
        found = push_blobs(target, clients, size)
        note(f"{target.name} PUT c={clients}: {clients * size / found.seconds / 1e6:.0f} MB/s")
        return found

    found = alternate(plan.runs, (ours, peer), load)
    what = f"blob PUT {clients} x {size >> 20} MiB, verified and durable"
    rates = {name: [clients * size / each.seconds / 1e6 for each in timings] for name, timings in found.items()}
    costs = {name: [each.cpu_seconds / (clients * size / 1e9) for each in timings] for name, timings in found.items()}
    compare(what, "MB/s", rates[ours.name], rates[peer.name], peer.name, goal=1.0)
    compare(f"{what}, CPU", "s/GB", costs[ours.name], costs[peer.name], peer.name, goal=1.0, less_is_better=True)


def _images(plan: Plan, ours: Target, peer: Target) -> None:
    def load(target: Target) -> Timing:
        found = push_images(target, 2, 1 << 20, _IMAGES)
        note(f"{target.name} images: {2 * _IMAGES / found.seconds:.0f}/s")
        return found

    found = alternate(plan.runs, (ours, peer), load)
    rates = {name: [2 * _IMAGES / each.seconds for each in timings] for name, timings in found.items()}
    compare("push of 1 MB images, 2 clients", "images/s", rates[ours.name], rates[peer.name], peer.name, goal=1.0)
