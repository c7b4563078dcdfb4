"""flat8, flat16, two-idcs: one blob to all hosts at once. How near to the bound, how many copies left the source, and
against the others in the same run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from benchmarks.swarm import plan as figures
from benchmarks.swarm.contender import Arena, Contender
from benchmarks.swarm.longshore import Longshore
from benchmarks.swarm.network import Shape
from benchmarks.swarm.outside import Aria2, Http, Transmission
from benchmarks.swarm.plan import Plan, note
from benchmarks.swarm.race import Outcome, arena, make_blob, race

SIDES: Mapping[str, type[Contender]] = {"aria2": Aria2, "transmission": Transmission, "http": Http}
OURS = Longshore.name


@dataclass(frozen=True)
class Spread:
    """`copies`: the most that may leave the source, or cross the WAN where there is one."""

    name: str
    shape: Shape
    mebibytes: int
    efficiency: float
    copies: float


FLAT8 = Spread("flat8", Shape((8,), 100, 100, 1000), 256, 0.85, 1.05)
FLAT16 = Spread("flat16", Shape((16,), 50, 50, 1000), 128, 0.80, 1.05)
TWO_IDCS = Spread("two-idcs", Shape((4, 4), 100, 100, 1000, wan=50), 128, 0.85, 1.02)


def measure(spread: Spread, plan: Plan) -> bool:
    """Whether everything that is promised was kept, on a machine that had time."""
    size = plan.size(spread.mebibytes) << 20
    found: dict[str, list[Outcome]] = {}
    for number in range(1, plan.runs + 1):
        for name, make in _sides(plan, number, f"{spread.name}-{number}"):
            path = plan.folder / "blob"
            blob = make_blob(path, size)
            with arena(spread.shape, plan.folder, blob, path) as place:
                outcome = race(make(place))
            note(f"{spread.name} {number}: {outcome}")
            found.setdefault(name, []).append(outcome)
    return report(spread, size, found)


def _sides(plan: Plan, number: int, name: str) -> list[tuple[str, Callable[[Arena], Contender]]]:
    """The others and we, in turn. HTTP needs what its bound says, every time: once is enough."""
    others: list[tuple[str, Callable[[Arena], Contender]]] = [
        (side, SIDES[side]) for side in plan.sides if side != "http" or number == 1
    ]
    logs = plan.logs / name if plan.logs else None
    ours: tuple[str, Callable[[Arena], Contender]] = (OURS, partial(Longshore, logs=logs))
    return [ours, *others] if number % 2 else [*others, ours]


def report(spread: Spread, size: int, found: Mapping[str, list[Outcome]]) -> bool:
    ours = found[OURS]
    what = f"{spread.name}: {size >> 20} MiB, {spread.shape}"
    others = {name: outcomes for name, outcomes in found.items() if name != OURS}
    best = min(others, key=lambda name: min(one.makespan for one in others[name]), default=None)
    peer = others[best] if best else []
    met = [
        figures.least(
            f"efficiency, D_min / makespan; {what}",
            "of the bound",
            [one.efficiency for one in ours],
            spread.efficiency,
            [one.efficiency for one in peer],
            best,
        ),
        figures.most(
            f"copies {'over the WAN' if spread.shape.sites[1:] else 'from the source'}, with headers; {what}",
            "copies",
            [_copies(spread, one) for one in ours],
            spread.copies,
            [_copies(spread, one) for one in peer],
            best,
        ),
    ]
    for name, outcomes in others.items():
        mine, theirs = [one.makespan for one in ours], [one.makespan for one in outcomes]
        met.append(figures.faster(f"makespan; {what}", "seconds", mine, theirs, name))
    for name, outcomes in others.items():
        mine, theirs = [one.cpu_per_gib for one in ours], [one.cpu_per_gib for one in outcomes]
        figures.told(f"processor time of all processes; {what}", "CPU s per GiB delivered", mine, theirs, name)
    met.append(not any(one.late for one in ours))
    return all(met) & believable(what, [one for outcomes in found.values() for one in outcomes])


def believable(what: str, outcomes: list[Outcome]) -> bool:
    """Prints how busy the machine was at worst; on a saturated one no figure of the scenario counts."""
    busiest = max(one.load.busy for one in outcomes)
    void = sum(one.load.saturated for one in outcomes)
    if void:
        note(f"VOID: in {void} of {len(outcomes)} runs the machine had no time to spare ({busiest:.0%} busy at worst);")
        note("      the emulated links were slower than their rate. Run it again with nothing beside it.")
    return figures.most(
        f"share of the machine in use, worst run; {what}", "of all processors", [busiest], 0.90, [], None
    )


def _copies(spread: Spread, outcome: Outcome) -> float:
    return outcome.wan_copies if spread.shape.sites[1:] else outcome.source_copies
