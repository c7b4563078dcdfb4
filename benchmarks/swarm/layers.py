"""200 layers of 1 MiB: what a layer costs beyond its bytes.

An image of small layers is spread to one host, so that the IDC's cache is warm; then a second host gets it.

mirror: with the image in that host's cache, each layer is read through the agent's mirror as dockerd does, and by
plain HTTP (nginx) from the very same files, both over loopback, one connection each, in turn. The difference of the
medians is what a layer costs.

host: from the request until all layers are on the second host, against curl with as many connections from nginx
serving the regional's cache files, over the same link. The difference by layer is what a cold host adds.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.swarm import plan as figures
from benchmarks.swarm.contender import Arena, Processes
from benchmarks.swarm.images import image_of
from benchmarks.swarm.longshore import Longshore
from benchmarks.swarm.network import Shape
from benchmarks.swarm.plan import Plan, note
from benchmarks.swarm.race import arena, make_blob
from common.digest import Digest
from common.errors import Failure
from common.reference import Reference
from control_plane.cli.image_source import BlobSource
from control_plane.cli.push import push

_LAYERS = 200
_SHAPE = Shape((2,), 1000, 1000, 1000)
_GOAL_MILLISECONDS = 20.0
# As many as the agent fetches of small contents at once.
_AT_ONCE = 8
_PORT = 8080
_PATIENCE_SECONDS = 120.0


def measure(plan: Plan) -> bool:
    mirror: list[float] = []
    plain: list[float] = []
    cold: list[float] = []
    for number in range(1, plan.runs + 1):
        path = plan.folder / "blob"
        with arena(_SHAPE, plan.folder, make_blob(path, 0), path) as place:
            one = _Run(place, plan.logs / f"layers-{number}" if plan.logs else None)
            try:
                one.prepare()
                cold.append(one.cold_host())
                through, beside = one.warm_host()
            finally:
                one.close()
        mirror.append(through)
        plain.append(beside)
        note(
            f"layers {number}: mirror {through:.2f} ms, nginx {beside:.2f} ms;"
            f" a cold host adds {cold[-1]:.2f} ms a layer"
        )
    return _report(mirror, plain, cold)


def _report(mirror: list[float], plain: list[float], cold: list[float]) -> bool:
    what = f"{_LAYERS} layers of 1 MiB"
    added = [ours - peer for ours, peer in zip(mirror, plain, strict=True)]
    met = figures.most(
        f"p50 added latency of a layer through the mirror, host warm, against nginx on the same files; {what}",
        "ms",
        added,
        _GOAL_MILLISECONDS,
        [],
        None,
    )
    figures.told(f"p50 of a layer, host warm; {what}", "ms", mirror, plain, "nginx on the same files")
    return met & figures.most(
        f"added latency of a layer, IDC warm and host cold, request to all held, against curl from nginx; {what}",
        "ms",
        cold,
        _GOAL_MILLISECONDS,
        [],
        None,
    )


class _Run:
    def __init__(self, place: Arena, logs: Path | None) -> None:
        self._place = place
        self._side = Longshore(place, logs=logs)
        self._processes = Processes(place.folder)
        self._layers: list[BlobSource] = []

    def prepare(self) -> None:
        """The image at the centre, in the regional's cache, and on host 1."""
        fleet, folder = self._side.fleet, self._place.folder
        fleet.start()
        self._layers = [make_blob(folder / f"layer{number}", 1 << 20) for number in range(_LAYERS)]
        push(fleet.client, Reference.parse("acme/layers:1"), image_of(self._layers), lambda _digest, _held: None)
        self._side.request_on("acme/layers:1", [1], "layers-1")
        self._wait(1)
        time.sleep(1.0)

    def cold_host(self) -> float:
        """Milliseconds by layer that host 2 needs more than curl."""
        regional = self._side.fleet.root / "regional-east" / "cache" / "content"
        self._nginx("nginx-source", self._place.network.source.prefix, self._place.network.source.address, regional)
        peer = self._curl()
        started = time.monotonic()
        self._side.request_on("acme/layers:1", [2], "layers-2")
        self._wait(2)
        ours = time.monotonic() - started
        note(f"layers: {_LAYERS} to a cold host {ours:.2f} s, curl {peer:.2f} s")
        return (ours - peer) / _LAYERS * 1e3

    def warm_host(self) -> tuple[float, float]:
        """p50 in milliseconds, through the mirror and through nginx."""
        host = self._place.network.host(2)
        self._nginx("nginx-host", host.prefix, "127.0.0.1", self._side.fleet.root / host.name / "content")
        port = self._side.fleet.services[host.name].facts["mirror"]
        mirror = [f"http://127.0.0.1:{port}/v2/acme/layers/blobs/{layer.digest}" for layer in self._layers]
        plain = [f"http://127.0.0.1:{_PORT}/{_path(layer.digest)}" for layer in self._layers]
        command = [*host.prefix, sys.executable, "-m", "benchmarks.swarm.pulling"]
        asked = json.dumps([mirror, plain]).encode()
        answer = subprocess.run(command, input=asked, check=True, capture_output=True, timeout=_PATIENCE_SECONDS)
        first, second = json.loads(answer.stdout)
        return statistics.median(first) * 1e3, statistics.median(second) * 1e3

    def close(self) -> None:
        self._processes.close()
        self._side.close()

    def _wait(self, number: int) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        missing: Sequence[Digest] = [layer.digest for layer in self._layers]
        while missing := [digest for digest in missing if not self._side.content(number, digest).exists()]:
            if time.monotonic() > deadline:
                raise Failure(f"host {number} lacks {len(missing)} of {_LAYERS} layers")
            time.sleep(0.005)

    def _curl(self) -> float:
        """Seconds for all layers, from nginx at the source."""
        target = self._place.folder / "curled"
        target.mkdir()
        lines = []
        for layer in self._layers:
            url = f"http://{self._place.network.source.address}:{_PORT}/{_path(layer.digest)}"
            lines += [f'url = "{url}"', f'output = "{target / layer.digest.hex}"']
        configuration = self._place.folder / "curl.conf"
        configuration.write_text("\n".join(lines))
        prefix = self._place.network.host(2).prefix
        parallel = ["--parallel", "--parallel-immediate", "--parallel-max", str(_AT_ONCE)]
        started = time.monotonic()
        subprocess.run([*prefix, "curl", "-sf", *parallel, "-K", str(configuration)], check=True, capture_output=True)
        return time.monotonic() - started

    def _nginx(self, name: str, prefix: Sequence[str], address: str, root: Path) -> None:
        folder = self._place.folder
        configuration = folder / f"{name}.conf"
        configuration.write_text(
            f"user root; worker_processes 1; daemon off; error_log {folder}/{name}.err; pid {folder}/{name}.pid;"
            "events { worker_connections 256; }"
            f"http {{ sendfile on; access_log off; server {{ listen {address}:{_PORT}; root {root}; }} }}"
        )
        self._processes.spawn(prefix, name, ["nginx", "-c", str(configuration)])
        time.sleep(1.0)


def _path(digest: Digest) -> str:
    return f"{digest.algorithm}/{digest.hex[:2]}/{digest.hex}"
