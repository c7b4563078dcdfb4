"""Copying an image of another registry here, through the services that any push goes through.

A blob that takes long is an upload session whose id stands in the task's row: after a crash it goes on where it was.
"""

from __future__ import annotations

import contextlib

from common.digest import Digest, DigestMismatch
from common.errors import NotFound
from control_plane.blobs import UploadUnknown
from control_plane.registry.completeness import Incomplete
from control_plane.registry.manifests import ParsedManifest, parse_manifest
from control_plane.registry.model import Descriptor
from control_plane.registry.remote.failures import RemoteMissing, RemoteRejected, RemoteUntrue
from control_plane.registry.remote.model import RemoteManifest
from control_plane.registry.replication.attached import MAX_DEPTH, companion_tags
from control_plane.registry.replication.copies import Copies
from control_plane.registry.replication.course import Course, Outcome
from control_plane.registry.replication.failures import Unwanted
from control_plane.registry.replication.local import LocalImages
from control_plane.registry.service import RegistryService

# Smaller ones are fetched again.
_RESUMED_FROM = 8 << 20


class Fetching:
    """One task's. Every method raises what the other registry fails with, and what a push here is refused with."""

    def __init__(self, course: Course, local: LocalImages, registry: RegistryService, copies: Copies) -> None:
        self._course = course
        self._copies = copies
        self._local = local
        self._registry = registry
        self._there = course.task.repository
        self._here = course.task.destination
        self._client = course.client
        self._by = course.rule.keeper(self._here)
        self._seen: set[Digest] = set()

    async def tag(self, tag: str) -> Outcome:
        wanted = await self._client.meaning(self._there, tag)
        if wanted is None:
            return Outcome("it is not there any more", changed=False)
        present = await self._local.manifest(self._here, tag)
        if present is not None and present.digest != wanted and not self._course.rule.override:
            return Outcome(f"here it stays {present.digest}: the rule moves no tags", changed=False)
        manifest = await self._client.manifest(self._there, wanted)
        if not self._course.rule.source.takes(_parsed(manifest)):
            return Outcome("the rule does not take it", changed=False)
        copied = await self._tree(manifest, 0)
        if self._course.rule.referrers:
            copied |= await self._attachments(manifest.digest, 0)
        is_here = present is not None and present.digest == wanted
        await self._copies.note(self._course, tag, wanted, made=not is_here)
        if is_here:
            return Outcome("its attachments were copied" if copied else "it is here already", changed=copied)
        await self._store(manifest, tag)
        return Outcome(str(wanted))

    async def _tree(self, manifest: RemoteManifest, depth: int) -> bool:
        if manifest.digest in self._seen:
            return False
        self._seen.add(manifest.digest)
        parsed = _parsed(manifest)
        present = await self._local.manifest(self._here, manifest.digest) is not None
        if present and not parsed.is_index:
            return False
        copied = await self._children(parsed, depth)
        if present:
            return copied
        for descriptor in parsed.required:
            await self._blob(descriptor)
        await self._store(manifest, None)
        return True

    async def _children(self, parsed: ParsedManifest, depth: int) -> bool:
        if parsed.children and depth >= MAX_DEPTH:
            raise Unwanted(f"it nests more than {MAX_DEPTH} indexes", action="copy its images by themselves")
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
            with contextlib.suppress(RemoteMissing):
                image = await self._client.manifest(self._there, child.descriptor.digest)
                copied |= await self._tree(image, depth + 1)
                if self._course.rule.referrers:
                    copied |= await self._attachments(image.digest, depth + 1)
        return copied

    async def _store(self, manifest: RemoteManifest, tag: str | None) -> None:
        await self._registry.images.push(
            self._by,
            self._here,
            manifest.payload,
            manifest.media_type or None,
            digest=manifest.digest,
            tags=[tag] if tag is not None else [],
            incomplete=Incomplete.INDEXES,
        )

    async def _blob(self, descriptor: Descriptor) -> None:
        digest = descriptor.digest
        async with self._course.whereabouts.turn("", digest):
            with contextlib.suppress(NotFound):
                await self._registry.contents.present_blob_size(self._by, self._here, digest)
                return
            if await self._registry.uploads.mount(self._by, self._here, digest, None) is not None:
                return
            if descriptor.size < _RESUMED_FROM:
                async with self._client.download(self._there, digest, verify=False) as download:
                    pieces = self._course.paced(download.pieces())
                    await self._registry.uploads.push_whole(self._by, self._here, digest, pieces, download.size)
            else:
                await self._long(descriptor)

    async def _long(self, descriptor: Descriptor) -> None:
        uploads, digest = self._registry.uploads, descriptor.digest
        upload_id, at = await self._begun(digest)
        if upload_id is None:
            upload_id = (await uploads.start(self._by, self._here)).upload_id
            await self._course.note_upload(digest, upload_id)
        if at < descriptor.size:
            async with self._client.download(self._there, digest, at, verify=False) as download:
                pieces, left = self._course.paced(download.pieces()), download.size - at
                await uploads.append(self._by, self._here, upload_id, pieces, at, digest.algorithm, left, digest)
        try:
            await uploads.finish(self._by, self._here, upload_id, digest)
        except DigestMismatch as failure:
            await self._course.note_upload(digest, None)
            raise RemoteUntrue(
                f"{self._client.host} is not to be trusted here: {failure.detail}", action="check that registry"
            ) from failure
        await self._course.note_upload(digest, None)

    async def _begun(self, digest: Digest) -> tuple[str | None, int]:
        upload_id = self._course.upload_of(digest)
        if upload_id is None:
            return None, 0
        try:
            return upload_id, await self._registry.uploads.size(self._by, self._here, upload_id)
        except UploadUnknown:
            return None, 0

    async def _attachments(self, subject: Digest, depth: int) -> bool:
        copied = False
        for tag in companion_tags(subject):
            wanted = await self._client.meaning(self._there, tag)
            present = await self._local.manifest(self._here, tag)
            if wanted is not None and (present is None or present.digest != wanted):
                manifest = await self._client.manifest(self._there, wanted)
                await self._tree(manifest, 0)
                await self._store(manifest, tag)
                copied = True
        if depth >= MAX_DEPTH:
            return copied
        for descriptor in await self._referrers(subject):
            with contextlib.suppress(RemoteMissing):
                copied |= await self._tree(await self._client.manifest(self._there, descriptor.digest), depth)
                copied |= await self._attachments(descriptor.digest, depth + 1)
        return copied

    async def _referrers(self, subject: Digest) -> list[Descriptor]:
        try:
            return await self._client.referrers(self._there, subject)
        except RemoteRejected:
            return []


def _parsed(manifest: RemoteManifest) -> ParsedManifest:
    return parse_manifest(manifest.payload, manifest.media_type or None)
