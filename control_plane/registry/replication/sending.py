"""Copying an image of ours to another registry.

Order: blobs before the manifest that needs them, images before their index, referrers after their subject, the tag
last. What the other side has is asked for first and never sent.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from common.digest import Digest
from common.errors import NotFound
from control_plane.registry.contents import ContentService
from control_plane.registry.manifests import OCI_INDEX, ParsedManifest, parse_manifest
from control_plane.registry.model import Descriptor, Manifest
from control_plane.registry.remote.failures import RemoteDenied, RemoteMissing, RemoteRejected
from control_plane.registry.replication.attached import MAX_DEPTH, companion_tags, fallback_tag, with_referrers
from control_plane.registry.replication.copies import Copies
from control_plane.registry.replication.course import Course, Outcome
from control_plane.registry.replication.failures import Unwanted
from control_plane.registry.replication.local import LocalImages


class Sending:
    """One task's. Every method raises what the other registry fails with, and of our store `BlobDamaged` and the
    like.
    """

    def __init__(self, course: Course, local: LocalImages, contents: ContentService, copies: Copies) -> None:
        self._course = course
        self._copies = copies
        self._local = local
        self._contents = contents
        self._here = course.task.repository
        self._there = course.task.destination
        self._client = course.client
        self._seen: set[Digest] = set()

    async def tag(self, tag: str) -> Outcome:
        manifest = await self._local.manifest(self._here, tag)
        if manifest is None:
            return Outcome("it is not here any more", changed=False)
        parsed = _parsed(manifest)
        if not self._course.rule.source.takes(parsed):
            return Outcome("the rule does not take it", changed=False)
        present = await self._meaning(tag)
        if present not in (None, manifest.digest) and not self._course.rule.override:
            return Outcome(f"there it stays {present}: the rule moves no tags", changed=False)
        copied = await self._tree(manifest, 0)
        if self._course.rule.referrers:
            copied |= await self._attachments(manifest.digest, 0)
        await self._copies.note(self._course, tag, manifest.digest, made=present != manifest.digest)
        if present == manifest.digest:
            return Outcome("its attachments were copied" if copied else "it is there already", changed=copied)
        await self._client.push.manifest(self._there, tag, manifest.media_type, manifest.payload)
        return Outcome(str(manifest.digest))

    async def untagged(self, digest: Digest) -> Outcome:
        """A manifest that was pushed without a tag: it matters alone if it is about an image that is there."""
        manifest = await self._local.manifest(self._here, digest)
        if manifest is None:
            return Outcome("it is not here any more", changed=False)
        subject = _parsed(manifest).subject
        if subject is None or not self._course.rule.referrers:
            return Outcome("it comes with the tag that needs it", changed=False)
        if await self._meaning(subject.digest) is None:
            return Outcome("it comes with what it is about", changed=False)
        copied = await self._tree(manifest, 0)
        await self._list([manifest], subject.digest)
        return Outcome(str(digest) if copied else "it is there already", changed=copied)

    async def _meaning(self, reference: str | Digest) -> Digest | None:
        # To who may not see a repository that is not there yet, registries differ in what they say. Whether we may
        # push is told when we do.
        try:
            return await self._client.meaning(self._there, reference)
        except RemoteDenied:
            return None

    async def _tree(self, manifest: Manifest, depth: int) -> bool:
        """The manifest by its digest, with all that it needs; whether anything was missing there."""
        if manifest.digest in self._seen:
            return False
        self._seen.add(manifest.digest)
        parsed = _parsed(manifest)
        present = await self._meaning(manifest.digest) is not None
        if present and not parsed.is_index:
            await self._copies.note(self._course, manifest.digest, manifest.digest, made=False)
            return False
        copied = await self._children(parsed, depth)
        await self._copies.note(self._course, manifest.digest, manifest.digest, made=not present)
        if present:
            return copied
        for descriptor in parsed.required:
            await self._blob(descriptor)
        await self._client.push.manifest(self._there, manifest.digest, manifest.media_type, manifest.payload)
        return True

    async def _children(self, parsed: ParsedManifest, depth: int) -> bool:
        if parsed.children and depth >= MAX_DEPTH:
            raise Unwanted(f"it nests more than {MAX_DEPTH} indexes", action="push its images by themselves")
        copied = False
        for child in parsed.children:
            platform = child.platform
            if platform is not None and not self._course.rule.source.takes_platform(
                platform.operating_system, platform.architecture, platform.variant
            ):
                continue
            if not child.is_manifest:
                await self._blob(child.descriptor)
                continue
            image = await self._local.manifest(self._here, child.descriptor.digest)
            # Indexes may name images that were never pushed; they do so there too.
            if image is not None:
                copied |= await self._tree(image, depth + 1)
                if self._course.rule.referrers:
                    copied |= await self._attachments(image.digest, depth + 1)
        return copied

    async def _blob(self, descriptor: Descriptor) -> None:
        digest, endpoint_id = descriptor.digest, self._course.task.endpoint_id
        size = await self._local.blob_size(self._here, digest)
        if size is None:
            raise Unwanted(f"{self._here} does not hold {digest}", action="push or pull the image here first")
        async with self._course.whereabouts.turn(endpoint_id, digest):
            if not await self._is_there(digest, size) and not await self._mounted(digest):
                await self._client.push.blob(
                    self._there, digest, size, lambda start, end: self._read(digest, size, start, end)
                )
            self._course.whereabouts.note(endpoint_id, digest, self._there)

    async def _is_there(self, digest: Digest, size: int) -> bool:
        try:
            return await self._client.blob_size(self._there, digest) == size
        except RemoteDenied:
            return False

    async def _mounted(self, digest: Digest) -> bool:
        source = self._course.whereabouts.repository_of(self._course.task.endpoint_id, digest)
        if source is None or source == self._there:
            return False
        with contextlib.suppress(RemoteDenied, RemoteMissing, RemoteRejected):
            return await self._client.push.mount(self._there, digest, source)
        return False

    async def _read(self, digest: Digest, size: int, start: int, end: int) -> AsyncIterator[bytes]:
        async with self._contents.open_blob(digest, size) as reader:
            async for piece in self._course.paced(reader.read(start, end)):
                yield piece

    async def _attachments(self, subject: Digest, depth: int) -> bool:
        copied = await self._companions(subject)
        if depth >= MAX_DEPTH:
            return copied
        found: list[Manifest] = []
        for digest in await self._local.referrers(self._here, subject):
            manifest = await self._local.manifest(self._here, digest)
            if manifest is not None:
                copied |= await self._tree(manifest, depth)
                copied |= await self._attachments(digest, depth + 1)
                found.append(manifest)
        await self._list(found, subject)
        return copied

    async def _companions(self, subject: Digest) -> bool:
        copied = False
        for tag in companion_tags(subject):
            manifest = await self._local.manifest(self._here, tag)
            if manifest is None or await self._meaning(tag) == manifest.digest:
                continue
            await self._tree(manifest, 0)
            await self._copies.note(self._course, tag, manifest.digest, made=True)
            await self._client.push.manifest(self._there, tag, manifest.media_type, manifest.payload)
            copied = True
        return copied

    async def _list(self, referrers: list[Manifest], subject: Digest) -> None:
        """Where there is no referrers API, who pushes keeps the list (distribution specification, "Pushing Manifests
        with Subject").
        """
        if not referrers:
            return
        try:
            listed = {each.digest for each in await self._client.referrers(self._there, subject)}
        except (RemoteRejected, RemoteDenied):
            listed = set()
        missing = [manifest for manifest in referrers if manifest.digest not in listed]
        if not missing:
            return
        tag = fallback_tag(subject)
        try:
            before = (await self._client.manifest(self._there, tag)).payload
        except NotFound:
            before = None
        await self._client.push.manifest(self._there, tag, OCI_INDEX, with_referrers(before, missing))


def _parsed(manifest: Manifest) -> ParsedManifest:
    return parse_manifest(manifest.payload, manifest.media_type)
