"""Whether a repository holds everything that a manifest refers to.

A manifest is taken only when it can be pulled in full: every blob and every child is in this repository, with the size
that the manifest states. Layers with `urls` of their own and the subject of a referrer may be elsewhere.
"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from common.digest import Digest
from control_plane.registry import manifest_store, repository_store
from control_plane.registry.failures import ContentMissing, SizeInvalid
from control_plane.registry.manifests import MANIFEST_TYPES, ParsedManifest
from control_plane.registry.model import Descriptor


async def check_complete(connection: AsyncConnection, repository_id: str, parsed: ParsedManifest) -> int:
    """How many bytes a pull moves besides manifests. Raises `ContentMissing`, `SizeInvalid`."""
    children = [child.descriptor for child in parsed.children]
    held = await manifest_store.held_manifests(connection, repository_id, [each.digest for each in children])
    # An index may list what is no manifest to us; then it has to be there as a blob.
    others = [each for each in children if each.digest not in held and not _is_manifest(each)]
    wanted = [*parsed.required, *others]
    linked = await repository_store.linked_sizes(connection, repository_id, [each.digest for each in wanted])
    _check_missing(
        [each.digest for each in wanted if each.digest not in linked],
        [each.digest for each in children if each.digest not in held and _is_manifest(each)],
    )
    sizes = linked | {digest: size for digest, (size, _) in held.items()}
    for descriptor in (*wanted, *children):
        _check_size(descriptor, sizes[descriptor.digest])
    own = {descriptor.digest: descriptor.size for descriptor in (*parsed.blobs, *others)}
    return sum(own.values()) + sum(total for _, total in held.values())


def _is_manifest(descriptor: Descriptor) -> bool:
    return descriptor.media_type in MANIFEST_TYPES


def _check_missing(blobs: list[Digest], manifests: list[Digest]) -> None:
    if blobs or manifests:
        raise ContentMissing(list(dict.fromkeys(blobs)), list(dict.fromkeys(manifests)))


def _check_size(descriptor: Descriptor, actual: int) -> None:
    if descriptor.size != actual:
        raise SizeInvalid(
            f"the manifest says that {descriptor.digest} has {descriptor.size} bytes, it has {actual}",
            action="state the content's real size",
            digest=str(descriptor.digest),
            stated=descriptor.size,
            actual=actual,
        )
