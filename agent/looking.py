"""One look at the container engine of this host, for the reconciler.

Invariant: an engine that fails in the middle of a look was not seen at all; half a picture would have containers made
twice.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from agent.adoption import name_asked_for
from agent.adoptions import Adoptions
from agent.model import Assignments, Container, DesiredState
from agent.runtimes import RuntimeDriver, Stranger
from common.digest import Digest
from common.errors import Failure

_RUNS = (DesiredState.RUNNING, DesiredState.PAUSED)


@dataclass(frozen=True, slots=True)
class Look:
    """As in `Observation`; containers None: the engine does not answer, `detail` says why."""

    containers: tuple[Container, ...] | None = ()
    images: frozenset[Digest] = frozenset()
    strangers: tuple[Stranger, ...] = ()
    detail: str = ""


async def look(driver: RuntimeDriver | None, assignments: Assignments, adoptions: Adoptions | None) -> Look:
    """`driver` None: a host without an engine has no containers. adoptions None: nothing is ever adopted."""
    if driver is None:
        return Look()
    wanted = {one.image.manifest.digest for one in assignments.items.values()}
    try:
        containers = await _containers(driver, assignments, adoptions)
        images = await driver.images(wanted) if wanted else frozenset[Digest]()
        strangers = () if adoptions is None else await _strangers(driver, assignments, containers)
    except Failure as failure:
        return Look(None, detail=str(failure))
    return Look(containers, images, strangers)


async def _containers(
    driver: RuntimeDriver, assignments: Assignments, adoptions: Adoptions | None
) -> tuple[Container, ...]:
    if adoptions is None:
        return tuple(await driver.containers())
    claimed = adoptions.claim()
    found = tuple(await driver.containers())
    if assignments.known:
        await adoptions.tidy(claimed, found, assignments.items.keys() | assignments.unreadable.keys())
    return found


async def _strangers(
    driver: RuntimeDriver, assignments: Assignments, containers: Collection[Container]
) -> tuple[Stranger, ...]:
    """Only while an instance has nothing here yet: afterwards nobody asks for them."""
    there = {one.instance_id for one in containers}
    wanting = [one for key, one in assignments.items.items() if key not in there and one.desired_state in _RUNS]
    if not wanting or not driver.capabilities.adoption:
        return ()
    names = {name for one in wanting if (name := name_asked_for(one))}
    return tuple(await driver.strangers(sorted(names)))
