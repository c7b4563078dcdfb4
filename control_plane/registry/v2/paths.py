"""What a path under `/v2/` names; pure.

Read from the right, because `acme/blobs/uploads` and `acme/manifests` are names of repositories too.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from common.reference import check_repository_name
from control_plane.registry.failures import Unsupported

PREFIX = "/v2/"


class Kind(StrEnum):
    BASE = "base"
    TOKEN = "token"  # noqa: S105  a path
    CATALOG = "catalog"
    TAGS = "tags"
    MANIFEST = "manifest"
    BLOB = "blob"
    UPLOADS = "uploads"
    UPLOAD = "upload"
    REFERRERS = "referrers"


@dataclass(frozen=True, slots=True)
class Target:
    """`item` is the tag, digest or upload id, unchecked; `repository` is a valid name."""

    kind: Kind
    repository: str = ""
    item: str = ""


_WHOLE = {"": Kind.BASE, "token": Kind.TOKEN, "_catalog": Kind.CATALOG}


def parse_path(path: str) -> Target:
    """`path` is decoded and starts with `/v2`. Raises `NameInvalid`, `Unsupported`."""
    rest = path.removeprefix(PREFIX) if path.startswith(PREFIX) else ""
    if rest in _WHOLE:
        return Target(_WHOLE[rest])
    kind, name, item = _split(rest.split("/"))
    return Target(kind, check_repository_name(name), item)


def _split(parts: list[str]) -> tuple[Kind, str, str]:
    # No name and no tag holds a colon: from the first one on it is meant as a digest, slashes and all.
    colon = next((place for place, part in enumerate(parts) if ":" in part), len(parts))
    parts = [*parts[:colon], "/".join(parts[colon:])] if colon < len(parts) else parts
    match parts:
        case [*name, "tags", "list"]:
            kind, item = Kind.TAGS, ""
        case [*name, "blobs", "uploads", ""] | [*name, "blobs", "uploads"]:
            kind, item = Kind.UPLOADS, ""
        case [*name, "blobs", "uploads", item] if item != "list":
            kind = Kind.UPLOAD
        case [*name, "manifests", item]:
            kind = Kind.MANIFEST
        case [*name, "blobs", item]:
            kind = Kind.BLOB
        case [*name, "referrers", item]:
            kind = Kind.REFERRERS
        case _:
            raise Unsupported(
                "there is nothing at this path of /v2/", action="see the OCI distribution specification for the paths"
            )
    return kind, "/".join(name), item


def blob_path(repository: str, digest: object) -> str:
    return f"{PREFIX}{repository}/blobs/{digest}"


def manifest_path(repository: str, reference: object) -> str:
    return f"{PREFIX}{repository}/manifests/{reference}"


def referrers_path(repository: str, subject: object) -> str:
    return f"{PREFIX}{repository}/referrers/{subject}"


def upload_path(repository: str, upload_id: str) -> str:
    return f"{PREFIX}{repository}/blobs/uploads/{upload_id}"
