"""Figures of reading: large blobs, manifests, whole small images."""

from __future__ import annotations

from benchmarks.registry.contents import store
from benchmarks.registry.load import Load, read
from benchmarks.registry.plan import Plan, alternate, compare, note
from benchmarks.registry.servers import Target, docker_registry, free_port, longshore, nginx

# Our CPU per GB may be 2.5 times that of nginx without any check, and 1.2 times behind nginx with X-Accel-Redirect.
_PLAIN, _FRONTED = 2.5, 1.2


def measure(plan: Plan) -> None:
    """Raises `LoadFailed` if a server answers with errors."""
    with (
        longshore(plan.folder / "ours") as (ours, fleet),
        docker_registry(plan.folder / "peer") as peer,
    ):
        contents = store(ours, plan.blob_bytes)
        assert store(peer, plan.blob_bytes) == contents
        blobs = fleet.control_plane.data / "registry" / "blobs"
        with nginx(plan.folder / "nginx", ours.port, blobs) as plain:
            for clients in (1, 8, 32):
                _blobs(plan, clients, contents.blob_request, contents.plain_request, (ours, peer, plain))
        for figure, requests, goal in (
            ("manifest GET by tag, token", [contents.tag_request], 1.5),
            ("manifest GET by digest, token", [contents.digest_request], 1.5),
            ("small-image pull, 7 requests", contents.pull_requests, 1.5),
        ):
            _requests(plan, figure, requests, goal, ours, peer)
    _fronted(plan)


def _blobs(plan: Plan, clients: int, request: str, plain_request: str, targets: tuple[Target, Target, Target]) -> None:
    ours, peer, plain = targets

    def load(target: Target) -> Load:
        asked = plain_request if target is plain else request
        found = read(target, [asked], clients=clients, seconds=plan.seconds)
        note(f"{target.name} c={clients}: {found.megabytes_a_second:.0f} MB/s, {found.cpu_seconds_a_gigabyte:.3f} s/GB")
        return found

    found = alternate(plan.runs, targets, load)
    what = f"blob GET {plan.blob_bytes >> 20} MiB, {clients} clients"
    rates = {name: [each.megabytes_a_second for each in loads] for name, loads in found.items()}
    costs = {name: [each.cpu_seconds_a_gigabyte for each in loads] for name, loads in found.items()}
    compare(what, "MB/s", rates[ours.name], rates[peer.name], peer.name, goal=1.0)
    cost = f"{what}, CPU"
    compare(cost, "s/GB", costs[ours.name], costs[peer.name], peer.name, goal=1.0, less_is_better=True)
    compare(cost, "s/GB", costs[ours.name], costs[plain.name], "nginx, no checks", goal=1 / _PLAIN, less_is_better=True)


def _requests(plan: Plan, figure: str, requests: list[str], goal: float, ours: Target, peer: Target) -> None:
    def load(target: Target) -> Load:
        found = read(target, requests, clients=32, seconds=plan.seconds)
        note(f"{target.name} {figure}: {found.requests_a_second:.0f}/s, {found.cpu_microseconds_a_request:.0f} us CPU")
        return found

    found = alternate(plan.runs, (ours, peer), load)
    rates = {name: [each.requests_a_second / len(requests) for each in loads] for name, loads in found.items()}
    unit = "requests/s" if len(requests) == 1 else "pulls/s"
    compare(f"{figure}, 32 clients", unit, rates[ours.name], rates[peer.name], peer.name, goal=goal)


def _fronted(plan: Plan) -> None:
    """Ours behind nginx, which sends the bytes; CPU of both, against nginx alone."""
    front = free_port()
    environment = {
        "LONGSHORE_REGISTRY__X_ACCEL_PREFIX": "/internal/",
        "LONGSHORE_PUBLIC__URL": f"http://127.0.0.1:{front}",
    }
    with longshore(plan.folder / "fronted", environment) as (ours, fleet):
        contents = store(ours, plan.blob_bytes)
        blobs = fleet.control_plane.data / "registry" / "blobs"
        with nginx(plan.folder / "front", ours.port, blobs) as proxy:
            both = Target("nginx and longshore", proxy.port, [*proxy.pids, *ours.pids], ours.token)

            def load(target: Target) -> Load:
                asked = contents.blob_request if target is both else contents.plain_request
                found = read(target, [asked], clients=8, seconds=plan.seconds)
                note(f"{target.name} c=8: {found.cpu_seconds_a_gigabyte:.3f} s/GB")
                return found

            # nginx's own cost of the same bytes varied between 0.04 and 0.09 s/GB: more runs than elsewhere.
            found = alternate(2 * plan.runs + 1, (both, proxy), load)
    costs = {name: [each.cpu_seconds_a_gigabyte for each in loads] for name, loads in found.items()}
    compare(
        f"blob GET {plan.blob_bytes >> 20} MiB behind nginx with X-Accel-Redirect, 8 clients, CPU of both",
        "s/GB",
        costs[both.name],
        costs[proxy.name],
        "nginx, no checks",
        goal=1 / _FRONTED,
        less_is_better=True,
    )
