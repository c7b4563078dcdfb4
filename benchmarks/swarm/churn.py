"""Churn: some die in the middle of a spread and do not come back.

gate: of 4 + 4 hosts one at each IDC is killed, and with them the regional through which the far IDC gets everything, at
half of the least possible time. The others must be done in at most 1.3 times what the same spread takes undisturbed.

orphans: the source is four times as strong as a host. As soon as the hosts hold every byte among them, the control
plane and the regional (tracker and first seed) are killed: the hosts must finish from each other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.swarm import plan as figures
from benchmarks.swarm.contender import Arena, Contender
from benchmarks.swarm.longshore import Longshore
from benchmarks.swarm.network import Shape
from benchmarks.swarm.outside import Aria2
from benchmarks.swarm.plan import Plan, note
from benchmarks.swarm.race import Outcome, Tick, arena, gathered, make_blob, race
from benchmarks.swarm.spreads import believable
from common.errors import Failure

_MEBIBYTES = 128
_GATED = Shape((4, 4), 100, 100, 1000, wan=50)
# One of each IDC: a quarter of the hosts.
_VICTIMS = (2, 7)
_FAR_REGIONAL = "regional-west"
_SLOWER = 1.3
_STRONG = Shape((8,), 200, 50, 1000)
_LOOK_SECONDS = 0.25
# Bounds that a spread may take before it counts as not done.
_PATIENCE = 4


def measure(plan: Plan) -> bool:
    size = plan.size(_MEBIBYTES) << 20
    sides: dict[str, Callable[[Arena], Contender]] = {}
    if "aria2" in plan.sides:
        sides[Aria2.name] = Aria2
    sides[Longshore.name] = partial(Longshore, logs=plan.logs / "churn" if plan.logs else None)
    calm: dict[str, list[Outcome]] = {name: [] for name in sides}
    struck: dict[str, list[Outcome]] = {name: [] for name in sides}
    orphaned: list[Outcome] = []
    for number in range(1, plan.runs + 1):
        for name, make in sides.items():
            calm[name].append(_spread(plan, size, _GATED, make, None))
            note(f"churn {number}, undisturbed: {calm[name][-1]}")
            struck[name].append(_spread(plan, size, _GATED, make, _strike, _VICTIMS))
            note(f"churn {number}, two hosts and the far gate killed: {struck[name][-1]}")
        orphaned.append(_spread(plan, size, _STRONG, sides[Longshore.name], _orphan))
        note(f"churn {number}, tracker and centre killed: {orphaned[-1]}")
    return _report(size, calm, struck, orphaned)


def _report(
    size: int, calm: dict[str, list[Outcome]], struck: dict[str, list[Outcome]], orphaned: list[Outcome]
) -> bool:
    what = f"churn: {size >> 20} MiB, {_GATED}"
    slower = {name: [b.makespan / a.makespan for a, b in zip(calm[name], struck[name], strict=True)] for name in calm}
    met = figures.most(
        f"survivors' time / undisturbed, 25 % of the hosts and the far IDC's regional killed mid-way; {what}",
        "times",
        slower[Longshore.name],
        _SLOWER,
        slower.get(Aria2.name, []),
        f"{Aria2.name} (hosts killed, its seed not)",
    )
    met &= figures.least(
        f"hosts that finish after tracker and control plane were killed; {size >> 20} MiB, {_STRONG}",
        "hosts",
        [len(one.seconds) for one in orphaned],
        _STRONG.hosts,
        [],
        None,
    )
    everything = [one for outcomes in (*calm.values(), *struck.values(), orphaned) for one in outcomes]
    return met & believable(what, everything)


def _spread(
    plan: Plan,
    size: int,
    shape: Shape,
    make: Callable[[Arena], Contender],
    disturb: Callable[[Contender], Tick] | None,
    victims: tuple[int, ...] = (),
) -> Outcome:
    path = plan.folder / "blob"
    blob = make_blob(path, size)
    with arena(shape, plan.folder, blob, path) as place:
        contender = make(place)
        limit = _PATIENCE * shape.bound_seconds(size) + 30
        return race(contender, limit_seconds=limit, tick=disturb(contender) if disturb else None, spared=victims)


def _strike(contender: Contender) -> Tick:
    moment = contender.arena.network.shape.bound_seconds(contender.arena.blob.size) / 2
    struck = False

    def tick(seconds: float) -> None:
        nonlocal struck
        if struck or seconds < moment:
            return
        struck = True
        if done := [victim for victim in _VICTIMS if contender.holds(victim)]:
            raise Failure(f"{contender.name}: hosts {done} were done before they could be killed")
        for victim in _VICTIMS:
            contender.kill(victim)
        if isinstance(contender, Longshore):
            contender.fleet.services[_FAR_REGIONAL].kill()

    return tick


def _orphan(contender: Contender) -> Tick:
    size = contender.arena.blob.size
    orphaned, looked = False, 0.0

    def tick(seconds: float) -> None:
        nonlocal orphaned, looked
        if orphaned or seconds - looked < _LOOK_SECONDS or not isinstance(contender, Longshore):
            return
        looked = seconds
        if gathered(contender.gathering(size)) == [(0, size)]:
            orphaned = True
            note(f"churn: the hosts hold everything among them after {seconds:.2f} s: tracker and centre are killed")
            contender.fleet.control_plane.kill()
            contender.fleet.services["regional-east"].kill()

    return tick
