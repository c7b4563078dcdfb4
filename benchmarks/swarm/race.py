"""One side, once: from the request until the last host has the whole blob. The digests of all copies decide whether
it counts.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.spread import digest_of
from benchmarks.swarm.contender import Arena, Contender
from benchmarks.swarm.machine import Load, Meter
from benchmarks.swarm.network import Network, Shape, shaped_network
from common.digest import Hasher
from control_plane.cli.image_source import BlobSource

_POLL_SECONDS = 0.02
# After the last copy; what is still on its way is in the counters then.
_SETTLE_SECONDS = 0.3
_GIB = 1 << 30

# Called at every look, with the seconds since the request.
Tick = Callable[[float], None]


@dataclass(frozen=True)
class Outcome:
    """Seconds since the request; `copies` are bytes by size of the blob, with headers. `seconds`: by host.

    late: hosts that were not done at the limit, which then counts as their time.
    """

    side: str
    seconds: dict[int, float]
    late: tuple[int, ...]
    limit_seconds: float
    bound_seconds: float
    source_copies: float
    wan_copies: float
    host_copies: tuple[float, ...]
    load: Load
    size: int

    @property
    def makespan(self) -> float:
        return self.limit_seconds if self.late else max(self.seconds.values())

    @property
    def efficiency(self) -> float:
        return self.bound_seconds / self.makespan

    @property
    def cpu_per_gib(self) -> float:
        """Seconds of all our processes for each GiB that arrived."""
        return self.load.own_seconds / (self.size * max(len(self.seconds), 1) / _GIB)

    def __str__(self) -> str:
        times = sorted((*self.seconds.values(), *(self.limit_seconds for _ in self.late)))
        wan = f", {self.wan_copies:.3f} over the WAN" if self.wan_copies else ""
        sent = "/".join(f"{copies:.2f}" for copies in self.host_copies)
        late = f", NOT DONE: hosts {self.late}" if self.late else ""
        void = "  SATURATED: this run says nothing" if self.load.saturated else ""
        return (
            f"{self.side}: {self.makespan:.2f} s (first {times[0]:.2f}, median {times[len(times) // 2]:.2f}),"
            f" efficiency {self.efficiency:.3f}, source sent {self.source_copies:.3f}{wan}, hosts sent {sent},"
            f" {self.cpu_per_gib:.1f} CPU s/GiB, machine {self.load.busy:.0%} busy{late}{void}"
        )


@contextlib.contextmanager
def arena(shape: Shape, folder: Path, blob: BlobSource, blob_path: Path) -> Iterator[Arena]:
    """A fresh network and an empty folder for one side."""
    place = folder / "side"
    place.mkdir()
    try:
        with shaped_network(shape) as network:
            yield Arena(network, place, blob_path, blob)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def race(
    contender: Contender, *, limit_seconds: float = 400.0, tick: Tick | None = None, spared: Collection[int] = ()
) -> Outcome:
    """`spared`: hosts that need not finish. Raises `DigestMismatch` when a copy has other bytes.

    The contender is prepared and closed here.
    """
    network, size = contender.arena.network, contender.arena.blob.size
    awaited = [number for number in network.numbers() if number not in spared]
    try:
        contender.prepare()
        before = _Counters.read(network)
        meter = Meter(contender.sessions())
        seconds = _run(contender, awaited, limit_seconds, tick)
        load = meter.read(contender.sessions())
        time.sleep(_SETTLE_SECONDS)
        sent = _Counters.read(network)
        _check(contender, list(seconds))
    finally:
        contender.close()
    return Outcome(
        contender.name,
        seconds,
        tuple(number for number in awaited if number not in seconds),
        limit_seconds,
        network.shape.bound_seconds(size),
        (sent.source - before.source) / size,
        max([0.0, *((now - then) / size for now, then in zip(sent.wan, before.wan, strict=True))]),
        tuple((now - then) / size for now, then in zip(sent.hosts, before.hosts, strict=True)),
        load,
        size,
    )


def _run(contender: Contender, awaited: list[int], limit_seconds: float, tick: Tick | None) -> dict[int, float]:
    seconds: dict[int, float] = {}
    started = time.monotonic()
    contender.go()
    while len(seconds) < len(awaited):
        now = time.monotonic() - started
        for number in awaited:
            if number not in seconds and contender.holds(number):
                seconds[number] = now
        if tick is not None:
            tick(now)
        if now > limit_seconds:
            break
        time.sleep(_POLL_SECONDS)
    return seconds


def _check(contender: Contender, numbers: list[int]) -> None:
    expected = contender.arena.blob.digest
    for number in numbers:
        expected.verify(digest_of(contender.copy(number)))


@dataclass(frozen=True)
class _Counters:
    source: int
    wan: tuple[int, ...]
    hosts: tuple[int, ...]

    @classmethod
    def read(cls, network: Network) -> _Counters:
        far = range(1, len(network.shape.sites))
        return cls(
            network.source_bytes(),
            tuple(network.wan_bytes(site) for site in far),
            tuple(network.host_bytes(number) for number in network.numbers()),
        )


def make_blob(path: Path, size: int) -> BlobSource:
    """Random bytes: nothing can be compressed or found twice."""
    hasher = Hasher()
    with path.open("wb") as file:
        while hasher.size < size:
            chunk = os.urandom(min(1 << 20, size - hasher.size))
            hasher.update(chunk)
            file.write(chunk)
    return BlobSource(hasher.digest(), hasher.size, lambda: path.open("rb"))


def gathered(files: Iterable[Path]) -> list[tuple[int, int]]:
    """(start, end) of what several gathering, sparse files of one blob hold together, by their allocated extents."""
    extents: list[tuple[int, int]] = []
    for path in files:
        with contextlib.suppress(OSError), path.open("rb") as file:
            extents += _extents(file.fileno(), path.stat().st_size)
    joined: list[tuple[int, int]] = []
    for start, end in sorted(extents):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


def _extents(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    start = 0
    # SEEK_DATA raises ENXIO behind the last byte that was written.
    with contextlib.suppress(OSError):
        while start < size:
            start = os.lseek(descriptor, start, os.SEEK_DATA)
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
            yield start, end
            start = end
