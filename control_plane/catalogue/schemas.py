"""The wire form of images."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel

from control_plane.registry.grants import Visibility
from control_plane.registry.model import RepositoryContents


class TagView(BaseModel):
    """`size_bytes` is what a pull of the tag moves: config and layers, for an index those of all its images."""

    name: str
    digest: str
    size_bytes: int
    media_type: str
    updated_at: datetime


class ImageView(BaseModel):
    """One repository. `size_bytes` counts a blob once, however many tags hold it."""

    repository: str
    tags: list[TagView]
    size_bytes: int
    visibility: Visibility
    created_at: datetime

    @classmethod
    def of(cls, contents: RepositoryContents) -> ImageView:
        return cls(
            repository=contents.repository,
            tags=[
                TagView(
                    name=tag.name,
                    digest=str(tag.digest),
                    size_bytes=tag.size_bytes,
                    media_type=tag.media_type,
                    updated_at=tag.updated_at,
                )
                for tag in contents.tags
            ],
            size_bytes=contents.size_bytes,
            visibility=Visibility(contents.visibility),
            created_at=contents.created_at,
        )
