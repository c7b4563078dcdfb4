"""Which work a task is."""

from __future__ import annotations

from common.digest import Digest
from control_plane.registry.replication.copies import Copies
from control_plane.registry.replication.course import Course, Outcome
from control_plane.registry.replication.deleting import Deleting
from control_plane.registry.replication.fetching import Fetching
from control_plane.registry.replication.listing import Listing
from control_plane.registry.replication.local import LocalImages
from control_plane.registry.replication.model import Claimed, Direction, Work
from control_plane.registry.replication.sending import Sending
from control_plane.registry.service import RegistryService


class Working:
    def __init__(self, registry: RegistryService, local: LocalImages, listing: Listing, copies: Copies) -> None:
        self._registry = registry
        self._local = local
        self._listing = listing
        self._copies = copies

    async def do(self, claimed: Claimed, course: Course) -> Outcome:
        task = claimed.task
        if task.work is Work.PLAN:
            return await self._listing.run(claimed, course.client)
        deleting = Deleting(course, self._local, self._registry.images, self._copies)
        if claimed.rule.direction is Direction.PULL:
            if task.work is Work.DELETE:
                return await deleting.here(task.reference)
            return await Fetching(course, self._local, self._registry, self._copies).tag(task.reference)
        # A tag has no colon.
        reference = Digest.parse(task.reference) if ":" in task.reference else task.reference
        if task.work is Work.DELETE:
            return await deleting.there(reference)
        sending = Sending(course, self._local, self._registry.contents, self._copies)
        return await (sending.untagged(reference) if isinstance(reference, Digest) else sending.tag(reference))
