"""The things of the registry, as its services hand them out; pure."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from common.digest import Digest
from control_plane.blobs import FilePiece

OCTETS = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a manifest says of one content (image specification, descriptor.md)."""

    media_type: str
    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class Repository:
    """`name` is the full name, `tenant/path`."""

    repository_id: str
    name: str
    tenant_id: str

    @property
    def tenant(self) -> str:
        return self.name.partition("/")[0]


@dataclass(frozen=True, slots=True)
class ListedRepository:
    repository: Repository
    visibility: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as it was pushed: its digest is the digest of `payload`, byte for byte."""

    digest: Digest
    media_type: str
    payload: bytes

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, self.digest, len(self.payload))


@dataclass(frozen=True, slots=True)
class Tag:
    """`size_bytes` is what a pull of the tag moves: config and layers, for an index those of all its images."""

    name: str
    digest: Digest
    media_type: str
    size_bytes: int
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class RepositoryContents:
    """One row of the listing of images. `size_bytes` counts a blob once, however many tags hold it."""

    repository: str
    tags: tuple[Tag, ...]
    size_bytes: int
    visibility: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Upload:
    """A push session: who pushes what where. `digest` and `size` are known once it is finished."""

    upload_id: str
    repository: str
    tenant_id: str
    user_id: str
    digest: Digest | None = None
    size: int = 0


@dataclass(frozen=True, slots=True)
class Pushed:
    """A blob that was taken into a repository."""

    repository: str
    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class ResolvedImage:
    """What a reference means on one platform. `contents` is the config first, then the layers from the base up."""

    repository: str
    tenant_id: str
    tag: str | None
    manifest: Descriptor
    contents: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes that may be read: a blob or a manifest. `path` is a local file that holds exactly them, if there is one;
    `pieces` is like `read` for a server that lets the kernel send parts of files, and need not be there.
    """

    digest: Digest
    size: int
    media_type: str
    read: Callable[[int, int], AsyncGenerator[bytes, None]]
    path: Path | None = None
    pieces: Callable[[int, int], AsyncGenerator[bytes | FilePiece, None]] | None = None
