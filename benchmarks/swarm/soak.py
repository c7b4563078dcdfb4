"""`make soak-swarm`: spread after spread in one standing fleet, and in each one process is killed at a random moment.

Whichever agent, regional or control plane it is, it is started again a moment later; the spread must complete, with the
right digests, and when nothing is wanted any more, what lies on the disks is what is held and nothing else.

Environment: SOAK_SPREADS (50), SOAK_SEED (of the moments and victims), SOAK_MIB (24).
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from benchmarks.figures import Figure
from benchmarks.spread import digest_of, wrap
from benchmarks.swarm import leftovers
from benchmarks.swarm.contender import Arena
from benchmarks.swarm.longshore import Longshore
from benchmarks.swarm.network import Shape
from benchmarks.swarm.plan import note
from benchmarks.swarm.race import arena, make_blob
from benchmarks.swarm.remains import remains
from common.digest import Digest
from common.errors import Failure
from common.reference import Reference
from control_plane.cli.push import push

# 24 MiB take 2.5 s over this WAN, and no longer over the links behind it.
SHAPE = Shape((0, 3), source_up=1000, host_up=400, down=1000, wan=80)
# Somewhat longer than an undisturbed spread, so that some faults hit the verification and some come right after it.
_KILL_WITHIN = 1.3
_AWAY_SECONDS = 1.0
_PATIENCE_SECONDS = 120.0
# What nobody wants stays in the caches up to this many blobs, so that eviction is part of the soak.
_HELD_BLOBS = 4


@dataclass(frozen=True)
class Fault:
    """`seconds`: after the request."""

    victim: str
    seconds: float
    away_seconds: float

    def __str__(self) -> str:
        return f"{self.victim} killed at {self.seconds:.2f} s, started again {self.away_seconds:.2f} s later"


class Soak:
    """A fleet at `place`, an IDC behind a narrow WAN. `chance`: of victims and moments; the same seed, the same ones.

    Every wait ends: `Failure` says what did not come about.
    """

    def __init__(self, place: Arena, mebibytes: int, chance: random.Random, logs: Path | None = None) -> None:
        self._place = place
        self._size = mebibytes << 20
        self._chance = chance
        self._usual_seconds = _KILL_WITHIN * SHAPE.bound_seconds(self._size)
        # A quarter more, for the manifests and a blob on its way.
        limit = f"--cache-limit-bytes={_HELD_BLOBS * self._size + (self._size >> 2)}"
        self._side = Longshore(place, edge_arguments=(limit,), logs=logs)
        self._fleet = self._side.fleet

    def start(self) -> None:
        self._fleet.start()

    def close(self) -> None:
        self._side.close()

    def spread(self, number: int) -> tuple[Fault, float]:
        """One blob to every host with one fault in between; the seconds until all had it."""
        blob = make_blob(self._place.folder / "blob", self._size)
        reference = f"acme/blob:{number}"
        push(self._fleet.client, Reference.parse(reference), wrap(blob), lambda _digest, _held: None)
        fault = self._choose()
        started = time.monotonic()
        self._side.request(reference, f"blob-{number}")
        self._strike(fault, started)
        self._wait(
            lambda: not self._lacking(blob.digest), lambda: f"{fault}: {self._lacking(blob.digest)} lack the blob"
        )
        seconds = time.monotonic() - started
        for host in self._place.network.numbers():
            blob.digest.verify(digest_of(self._side.content(host, blob.digest)))
        self._give_up()
        return fault, seconds

    def settle(self) -> None:
        """Nothing is wanted any more: raises `Failure` while there is something on the disks that is not held, or a
        process that nobody answers for.
        """
        self._wait(lambda: not self.strays(), lambda: f"left on disk: {self.strays()}", 60)
        self._wait(lambda: not self.strangers(), lambda: f"processes left: {sorted(self.strangers())}", 10)

    def strays(self) -> list[str]:
        return [f"{name}/{path}" for name in self._fleet.services for path in remains(self._fleet.root / name).strays]

    def strangers(self) -> set[int]:
        """Processes in our namespaces that no running service began."""
        known = {service.pid for service in self._fleet.services.values() if service.running}
        return {pid for pid in self._place.network.pids() if not known & set(_line(pid))}

    def disk(self) -> dict[str, tuple[int, int]]:
        """(bytes of held contents, all other bytes) by service."""
        found = {name: remains(self._fleet.root / name) for name in self._fleet.services}
        return {name: (one.held_bytes, one.other_bytes) for name, one in found.items()}

    def _choose(self) -> Fault:
        victim = self._chance.choice(sorted(self._fleet.services))
        within, away = self._chance.uniform(0, self._usual_seconds), self._chance.uniform(0, _AWAY_SECONDS)
        return Fault(victim, within, away)

    def _strike(self, fault: Fault, started: float) -> None:
        service = self._fleet.services[fault.victim]
        time.sleep(max(0.0, started + fault.seconds - time.monotonic()))
        service.kill()
        time.sleep(fault.away_seconds)
        service.start()

    def _lacking(self, digest: Digest) -> list[str]:
        network = self._place.network
        return [network.host(n).name for n in network.numbers() if not self._side.content(n, digest).exists()]

    def _give_up(self) -> None:
        """The instances are removed, and every host has said so."""
        for row in self._fleet.instances():
            self._fleet.client.delete(f"/api/v1/instances/{row['id']}")
        self._wait(lambda: not self._fleet.instances(), lambda: f"not removed: {self._fleet.instances()}")

    def _wait(self, done: Callable[[], bool], otherwise: Callable[[], str], seconds: float = _PATIENCE_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                raise Failure(f"after {seconds:.0f} s: {otherwise()}")
            time.sleep(0.05)


def _line(pid: int) -> list[int]:
    """That process and those it descends from."""
    line: list[int] = []
    while pid > 1:
        line.append(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            break
    return line


class SoakSettings(BaseSettings):
    model_config = SettingsConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    spreads: int = Field(default=50, validation_alias="SOAK_SPREADS", ge=1)
    seed: int = Field(default=1, validation_alias="SOAK_SEED")
    mebibytes: int = Field(default=24, validation_alias="SOAK_MIB", ge=2)
    folder: Path = Field(default=Path("/dev/shm"), validation_alias="BENCH_FOLDER")
    logs: Path | None = Field(default=None, validation_alias="BENCH_LOGS")


def main() -> int:
    settings = SoakSettings()
    if os.geteuid() != 0:
        note("needs root, for network namespaces")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    leftovers.sweep()
    with leftovers.recorded(settings.folder / f"ls-soak-{os.getpid()}") as folder:
        blob = make_blob(folder / "none", 0)
        with arena(SHAPE, folder, blob, folder / "none") as place:
            soak = Soak(place, settings.mebibytes, random.Random(settings.seed), settings.logs)
            try:
                completed = _run(soak, settings)
            finally:
                soak.close()
    goal = f"all of {settings.spreads}, digests right, nothing left over (seed {settings.seed})"
    met = completed == settings.spreads
    Figure(
        "swarm", "spreads with a killed process that completed", "spreads", completed, None, None, None, goal, met
    ).print()
    return 0 if met else 1


def _run(soak: Soak, settings: SoakSettings) -> int:
    """How many spreads completed; fewer than asked for when something failed."""
    taken: list[float] = []
    try:
        soak.start()
        for number in range(1, settings.spreads + 1):
            fault, seconds = soak.spread(number)
            taken.append(seconds)
            note(f"spread {number}: {fault}; complete after {seconds:.2f} s")
        soak.settle()
    except Failure as failure:
        note(f"FAILED in spread {len(taken) + 1}: {failure}")
        return min(len(taken), settings.spreads - 1)
    for name, (held, other) in soak.disk().items():
        note(f"{name}: {held / (1 << 20):.1f} MiB held, {other / (1 << 20):.1f} MiB of everything else")
    note(f"seconds until complete: median {statistics.median(taken):.2f}, worst {max(taken):.2f}")
    return len(taken)


if __name__ == "__main__":
    sys.exit(main())
