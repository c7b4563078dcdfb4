"""Deleting at the destination what a rule copied and its source has no more.

Invariants: only what this rule put there itself (`copies.py`) and what still means what it put there; never what
another rule wants there, nor a manifest that somebody else's tag names. The source is asked when the task begins, and
one that does not answer, or hides a repository, keeps everything.
"""

from __future__ import annotations

from common.digest import Digest
from control_plane.registry.images import ImageService
from control_plane.registry.remote.failures import RemoteMissing, RemoteRejected
from control_plane.registry.replication.attached import is_companion
from control_plane.registry.replication.copies import Copies
from control_plane.registry.replication.course import Course, Outcome
from control_plane.registry.replication.local import LocalImages
from control_plane.registry.replication.model import Copied

# Each costs a request.
_MOST_FOREIGN_TAGS = 200


class Deleting:
    """One task's. Every method raises what the other registry fails with, and what a deletion here is refused with."""

    def __init__(self, course: Course, local: LocalImages, images: ImageService, copies: Copies) -> None:
        self._course = course
        self._local = local
        self._images = images
        self._copies = copies
        self._source = course.task.repository
        self._destination = course.task.destination
        self._client = course.client

    async def there(self, reference: str | Digest) -> Outcome:
        """Of a rule that pushes."""
        if await self._local.manifest(self._source, reference) is not None:
            return _kept("it is here again")
        copied = await self._ours(reference, await self._client.meaning(self._destination, reference))
        if not isinstance(copied, Copied):
            return copied
        if isinstance(reference, Digest) and (tag := await self._foreign_tag(reference)) is not None:
            return _kept(f"{tag} there names it too" if tag else "there are too many tags to know whether it is named")
        try:
            await self._client.delete(self._destination, "manifests", reference)
        except RemoteRejected as failure:
            if isinstance(reference, Digest):
                raise
            # Distribution 2 knows no deletion of tags: it goes with its manifest.
            return _kept(f"it goes when its manifest does: {failure.detail}")
        await self._copies.forget(copied)
        return Outcome("deleted there")

    async def here(self, tag: str) -> Outcome:
        """Of a rule that pulls. What it meant stays, without a tag, for retention to remove."""
        if await self._client.meaning(self._source, tag) is not None:
            return _kept("it is there again")
        try:
            async for _ in self._client.tags(self._source, page=1):
                break
        except RemoteMissing:
            return _kept(f"the other registry does not show {self._source} at all")
        present = await self._local.manifest(self._destination, tag)
        copied = await self._ours(tag, None if present is None else present.digest)
        if not isinstance(copied, Copied):
            return copied
        await self._images.delete_tag(self._course.rule.keeper(self._destination), self._destination, tag)
        await self._copies.forget(copied)
        return Outcome("deleted here")

    async def _ours(self, reference: str | Digest, present: Digest | None) -> Copied | Outcome:
        """The copy to delete, or why there is none."""
        copied = await self._copies.find(self._course, reference)
        if copied is None:
            return _kept("this rule has not copied it")
        if present is None:
            why = "it is gone already"
        elif str(present) != copied.digest:
            why = f"it is {present} by now, which this rule has not copied"
        elif not copied.made:
            why = "it was there before this rule copied anything"
        else:
            return _kept("another rule wants it") if await self._copies.hand_over(copied) else copied
        await self._copies.forget(copied)
        return _kept(why)

    async def _foreign_tag(self, digest: Digest) -> str | None:
        """A tag there that names the manifest and that no rule of ours put there; "" if there are too many."""
        ours, seen = await self._copies.references_at(self._course), 0
        async for tag in self._client.tags(self._destination):
            if tag in ours or is_companion(tag):
                continue
            seen += 1
            if seen > _MOST_FOREIGN_TAGS:
                return ""
            if await self._client.meaning(self._destination, tag) == digest:
                return tag
        return None


def _kept(why: str) -> Outcome:
    return Outcome(why, changed=False)
