"""From one revision of a deployment to the next, in its rows: how a rollout begins, goes on and ends.

Invariant: a revision is never changed, and its number never used again; what slots run, what the last one was that was
well everywhere, and the twenty before, are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from control_plane.database import UnitOfWork
from control_plane.deployments import store_revisions
from control_plane.deployments.model import Deployment, Pace, Revision, Rollout, RolloutState, Slot
from control_plane.deployments.picture import Course

_KEPT = 20


async def begin(
    unit: UnitOfWork,
    deployment: Deployment,
    content: Revision,
    pace: Pace,
    *,
    cause: str,
    by: str,
    undoes: bool = False,
) -> Deployment:
    """The locked deployment, on its way to what `content` is made of, by a new number."""
    now = unit.clock.now()
    revision = replace(
        content, number=deployment.revision + 1, cause=cause, created_by=by, created_at=now, finished_at=None
    )
    await store_revisions.add(unit.connection, deployment.id, revision)
    rollout = Rollout(RolloutState.GOING, deployment.rollout.base, pace, began_at=now, undoes=undoes)
    return replace(
        deployment,
        revision=revision.number,
        reference=revision.reference,
        images=revision.images,
        spec=revision.spec,
        rollout=rollout,
        updated_at=now,
    )


async def went_on(
    unit: UnitOfWork, deployment: Deployment, course: Course, slots: Mapping[int, Slot], known: Mapping[int, Revision]
) -> Deployment:
    """What a look made of it."""
    after = replace(deployment, unplaced=course.unplaced, rollout=course.rollout)
    before = deployment.rollout
    if course.undo and before.base in known:
        cause = f"undoes {deployment.revision}, which failed: {course.rollout.reason}"[:1000]
        return await begin(unit, after, known[before.base], before.pace, cause=cause, by="longshore", undoes=True)
    if course.rollout.state is RolloutState.FINISHED and before.state is not RolloutState.FINISHED:
        await store_revisions.finish(unit.connection, deployment.id, deployment.revision, unit.clock.now())
        kept = {slot.revision for slot in slots.values()}
        await store_revisions.forget_before(unit.connection, deployment.id, deployment.revision - _KEPT, kept)
    return after
