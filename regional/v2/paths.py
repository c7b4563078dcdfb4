"""What a path under `/v2/` asks of an edge; pure (OCI distribution specification 1.1, "Endpoints").

Invariant: a target's repository is a valid name and its digest a valid digest; whatever else there is under `/v2/` is
`Further`, which only the centre can answer, or `PathUnknown`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from common.digest import Digest
from common.errors import NotFound
from common.reference import check_repository_name

PREFIX = "/v2/"
_NAMED = re.compile(r"(?P<name>.+)/(?P<kind>manifests|blobs|referrers)/(?P<item>[^/]+)")
_TAGS = re.compile(r"(?P<name>.+)/tags/list")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


class PathUnknown(NotFound):
    code = "path_unknown"


@dataclass(frozen=True, slots=True)
class Base:
    """`/v2/`: may I come in?"""


@dataclass(frozen=True, slots=True)
class Login:
    """`/v2/token`."""


@dataclass(frozen=True, slots=True)
class ManifestPath:
    repository: str
    reference: Digest | str


@dataclass(frozen=True, slots=True)
class BlobPath:
    repository: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class Further:
    """Lists: tags, referrers, the catalogue (no repository)."""

    repository: str


Target = Base | Login | ManifestPath | BlobPath | Further
_WHOLE: dict[str, Target] = {"": Base(), "token": Login(), "_catalog": Further("")}


def parse_path(raw_path: str) -> Target:
    """Raises `PathUnknown`, `NameInvalid`, `DigestInvalid`. Names and tags hold no colon, digests do."""
    path = unquote(raw_path)
    if not f"{path}/".startswith(PREFIX):
        raise _unknown()
    rest = path[len(PREFIX) :]
    if rest in _WHOLE:
        return _WHOLE[rest]
    if (found := _TAGS.fullmatch(rest)) is not None:
        return Further(check_repository_name(found["name"]))
    found = _NAMED.fullmatch(rest)
    if found is None:
        raise _unknown()
    name, item = check_repository_name(found["name"]), found["item"]
    if found["kind"] == "blobs":
        return BlobPath(name, Digest.parse(item))
    if found["kind"] == "referrers":
        Digest.parse(item)
        return Further(name)
    if ":" not in item and not _TAG.fullmatch(item):
        raise _unknown()
    return ManifestPath(name, Digest.parse(item) if ":" in item else item)


def _unknown() -> PathUnknown:
    return PathUnknown(
        "there is nothing at this path of /v2/", action="see the OCI distribution specification for the paths"
    )
