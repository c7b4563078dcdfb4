"""Whether a repository holds everything that a manifest refers to, and what is taken though it does not.

"A registry MAY reject a manifest" that refers to what is not there (distribution specification, "Push"). We take an
index without all of its images (a sparse index: somebody copied one platform of many), for whoever wants a missing one
is told so; we refuse an image without all of its layers, for nobody could run it (docs/decisions/0011). What is here
must have the size that the manifest states. Layers with `urls` of their own and the subject of a referrer may be
elsewhere.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncConnection

from common.digest import Digest
from control_plane.registry import manifest_store, repository_store
from control_plane.registry.failures import ContentMissing, SizeInvalid
from control_plane.registry.manifests import ParsedManifest
from control_plane.registry.model import Descriptor


class Incomplete(StrEnum):
    """Which manifests are taken that refer to contents the repository does not hold."""

    NONE = "none"
    INDEXES = "indexes"
    ALL = "all"

    def permits(self, parsed: ParsedManifest) -> bool:
        return self is Incomplete.ALL or (self is Incomplete.INDEXES and parsed.is_index)


async def check_complete(
    connection: AsyncConnection, repository_id: str, parsed: ParsedManifest, incomplete: Incomplete
) -> int:
    """How many bytes a pull moves besides manifests: what the manifest states of its own contents, and what the images
    that are here sum up to. Raises `ContentMissing`, `SizeInvalid`.
    """
    children = [child.descriptor for child in parsed.children]
    held = await manifest_store.held_manifests(connection, repository_id, [each.digest for each in children])
    # An index may list what is no manifest to us; then it has to be there as a blob.
    others = [
        each.descriptor for each in parsed.children if not each.is_manifest and each.descriptor.digest not in held
    ]
    wanted = [*parsed.required, *others]
    linked = await repository_store.linked_sizes(connection, repository_id, [each.digest for each in wanted])
    if not incomplete.permits(parsed):
        _check_missing(
            [each.digest for each in wanted if each.digest not in linked],
            [
                each.descriptor.digest
                for each in parsed.children
                if each.is_manifest and each.descriptor.digest not in held
            ],
        )
    sizes = linked | {digest: size for digest, (size, _) in held.items()}
    for descriptor in (*wanted, *children):
        _check_size(descriptor, sizes.get(descriptor.digest, descriptor.size))
    own = {descriptor.digest: descriptor.size for descriptor in (*parsed.blobs, *others)}
    return sum(own.values()) + sum(total for _, total in held.values())


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
