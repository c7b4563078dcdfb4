"""Pushing, pulling and deleting manifests and tags over HTTP (distribution specification, "Pulling manifests" ff.)."""

from __future__ import annotations

from common.byte_ranges import Validators
from common.digest import Digest
from control_plane.registry.failures import ManifestUnknown, TooManyTags
from control_plane.registry.images import ImageService
from control_plane.registry.manifests import IMAGE_TYPES, INDEX_TYPES, MAX_BYTES, parse_manifest
from control_plane.registry.model import Manifest
from control_plane.registry.serving import FOREVER
from control_plane.registry.v2.exchange import Exchange
from control_plane.registry.v2.paths import manifest_path
from control_plane.tenants.access import Principal

MAX_TAGS = 50


class ManifestEndpoints:
    def __init__(self, images: ImageService) -> None:
        self._images = images

    async def get(self, exchange: Exchange, principal: Principal) -> None:
        """GET and HEAD."""
        repository, reference = exchange.target.repository, _reference(exchange.target.item)
        manifest = await self._images.find(principal, repository, reference)
        if not isinstance(reference, Digest):
            manifest = await self._acceptable(exchange, repository, manifest)
        validators = Validators(str(manifest.digest))
        headers = {
            "Content-Type": manifest.media_type,
            "Docker-Content-Digest": str(manifest.digest),
            # A tag may move at any time: a cache in between must ask again, which costs it no body.
            "Cache-Control": FOREVER if isinstance(reference, Digest) else "private, no-cache",
            **validators.headers(),
        }
        if validators.not_modified(exchange.headers.get("if-none-match"), None):
            await exchange.answer(304, headers)
        else:
            await exchange.answer(200, headers, manifest.payload)
            if exchange.method == "GET":
                self._images.note_pull(principal, repository, manifest)

    async def _acceptable(self, exchange: Exchange, repository: str, manifest: Manifest) -> Manifest:
        """A client that asks a tag for images only gets the one for linux/amd64 out of an index, as distribution
        gives it to clients older than manifest lists. Everybody else gets what is stored: the specification leaves
        refusing to us, and a stored manifest under its true type is the more useful answer.
        """
        accepted = _accepted(exchange)
        if manifest.media_type not in INDEX_TYPES or accepted & INDEX_TYPES or not accepted & IMAGE_TYPES:
            return manifest
        child = parse_manifest(manifest.payload, manifest.media_type).child_for("amd64", "linux")
        if child is None:
            return manifest
        try:
            return await self._images.get(repository, child.digest)
        except ManifestUnknown:
            return manifest  # a sparse index

    async def put(self, exchange: Exchange, principal: Principal) -> None:
        repository, reference = exchange.target.repository, _reference(exchange.target.item)
        digest = reference if isinstance(reference, Digest) else None
        asked = exchange.query.getlist("tag") if digest is not None else []
        if len(asked) > MAX_TAGS:
            raise TooManyTags(f"one push names {len(asked)} tags", action=f"name at most {MAX_TAGS}", limit=MAX_TAGS)
        payload = await exchange.body(MAX_BYTES)
        pushed = await self._images.push(
            principal,
            repository,
            payload,
            exchange.headers.get("content-type"),
            digest=digest,
            tags=asked if isinstance(reference, Digest) else (reference,),
        )
        headers = {
            "Location": manifest_path(repository, pushed.manifest.digest),
            "Docker-Content-Digest": str(pushed.manifest.digest),
        }
        if pushed.subject is not None:
            headers["OCI-Subject"] = str(pushed.subject)
        # `?tag=` of the specification's version 1.2: several tags with one push by digest.
        await exchange.answer(201, headers, more=tuple(("OCI-Tag", tag) for tag in pushed.tags if asked))

    async def delete(self, exchange: Exchange, principal: Principal) -> None:
        repository, reference = exchange.target.repository, _reference(exchange.target.item)
        if isinstance(reference, Digest):
            await self._images.delete_manifest(principal, repository, reference)
        else:
            await self._images.delete_tag(principal, repository, reference)
        await exchange.answer(202)


def _reference(item: str) -> str | Digest:
    """Raises `DigestInvalid` for what tries to be a digest and is none."""
    return Digest.parse(item) if ":" in item else item


def _accepted(exchange: Exchange) -> frozenset[str]:
    """The media types of all `Accept` headers; clients send one or many, with or without quality values."""
    values = ",".join(exchange.headers.getlist("accept")).split(",")
    return frozenset(value.partition(";")[0].strip() for value in values)
