"""What the registry announces, in the unit of work that changed it. Digests are in their wire form; `by` is the name of
who did it, "" for periodic work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from control_plane.database.messages import Message


@dataclass(frozen=True, slots=True)
class ImagePushed(Message):
    """A manifest is in a repository, with its blobs (unless incomplete images are allowed); an index may name images
    that are not there. `tag` is None for a push by digest.
    """

    topic: ClassVar[str] = "registry.image_pushed"
    tenant_id: str
    repository: str
    digest: str
    media_type: str
    tag: str | None
    by: str = ""


@dataclass(frozen=True, slots=True)
class TagMoved(Message):
    """A tag that existed means another manifest now, or (`digest` None) is gone."""

    topic: ClassVar[str] = "registry.tag_moved"
    tenant_id: str
    repository: str
    tag: str
    previous: str
    digest: str | None
    by: str = ""


@dataclass(frozen=True, slots=True)
class ManifestDeleted(Message):
    """The manifest is no longer in the repository; tags that named it are gone, each with its own `TagMoved`."""

    topic: ClassVar[str] = "registry.manifest_deleted"
    tenant_id: str
    repository: str
    digest: str
    by: str = ""
