"""TFTP: many clients in lock-step, one with a window, and 1,100 at once; servers take turns within each round.

The clients are one C program (client.c), the same for every server, as Python's would be what is measured.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.boot import ground
from benchmarks.boot.servers import (
    Load,
    Result,
    build_client,
    commands,
    run,
    running,
    unpack_atftpd,
)
from benchmarks.figures import Figure

_SEED = 65_521


@dataclass(frozen=True)
class Race:
    figure: str
    load: Load
    peers: Sequence[str]
    at_least: float


RACES = (
    Race("100 clients x 8 MB, 1468 B", Load("8m", 100), ("dnsmasq", "tftpd-hpa"), 1.0),
    Race("1 client x 64 MB, windowsize 32", Load("64m", 1, window=32), ("atftpd",), 1.5),
    Race("20 clients x 8 MB, windowsize 16", Load("8m", 20, window=16), ("atftpd",), 1.0),
    Race("1 client x 64 MB, lock-step", Load("64m", 1), ("dnsmasq", "tftpd-hpa", "atftpd"), 1.0),
)
CROWD = Load("1m", 1100)


def measure(folder: Path, runs: int) -> None:
    """Prints its figures. Raises `ServerCannotRun`."""
    root = folder / "root"
    root.mkdir()
    for name, size in (("1m", 1 << 20), ("8m", 8 << 20), ("64m", 64 << 20)):
        (root / name).write_bytes(_content(size))
    program = build_client(folder)
    unpack_atftpd(folder)
    ground.enter()
    results: dict[tuple[str, str], list[Result]] = {}
    for number in range(runs):
        for server, command in commands(folder, root).items():
            print(f"# round {number + 1}: {server}", file=sys.stderr)
            with running(server, command, folder) as process:
                for race in RACES:
                    if server == "longshore" or server in race.peers:
                        results.setdefault((race.figure, server), []).append(run(program, race.load, process))
                if server == "longshore":
                    results.setdefault(("crowd", server), []).append(run(program, CROWD, process))
    for race in RACES:
        for peer in race.peers:
            _compare(race, peer, results)
    _complete(results["crowd", "longshore"])


def _compare(race: Race, peer: str, results: Mapping[tuple[str, str], Sequence[Result]]) -> None:
    ours, theirs = (results[race.figure, server] for server in ("longshore", peer))
    whole = all(result.completed == race.load.clients and not result.wrong for result in ours)
    own, other = (statistics.median(result.megabytes_per_second for result in side) for side in (ours, theirs))
    completed = min(result.completed for result in theirs)
    name = peer if completed == race.load.clients else f"{peer} ({completed} of {race.load.clients} completed)"
    goal = f"at least {race.at_least} times"
    ratio = own / other if other else None
    met = whole and (ratio is None or ratio >= race.at_least)
    Figure("tftp", race.figure, "MB/s", round(own, 1), round(other, 1), name, _rounded(ratio), goal, met).print()


def _complete(crowd: Sequence[Result]) -> None:
    completed = min(result.completed for result in crowd)
    whole = completed == CROWD.clients and not any(result.wrong for result in crowd)
    goal = "all complete"
    Figure("tftp", "1,100 clients x 1 MB: completed", "transfers", completed, None, None, None, goal, whole).print()
    slowest = max(result.slowest_seconds for result in crowd)
    goal = "the slowest within 9 s"
    Figure(
        "tftp", "1,100 clients x 1 MB: slowest", "s", round(slowest, 2), None, None, None, goal, slowest <= 9
    ).print()


def _rounded(ratio: float | None) -> float | None:
    return None if ratio is None else round(ratio, 2)


def _content(size: int) -> bytes:
    """The same in every run, and nothing that a misplaced block would leave equal."""
    return b"".join((_SEED * index & 0xFFFFFFFF).to_bytes(4, "big") for index in range(size // 4))
