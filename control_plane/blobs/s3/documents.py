"""The small objects: what we write about an upload and about a blob. Pure; a document that is not ours is `ValueError`.

An upload's document is one line of JSON and then the bytes that do not fill a part, in one object: a write changes both
or neither. Each write has a name of its own (`nonce`), by which a writer that never got the answer knows its own work.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from common.digest import Digest


class Part(NamedTuple):
    number: int
    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class UploadDocument:
    """`size` counts the parts and the tail. `holder` writes to it until `until` (Unix seconds), or died doing so.
    `publishing` is the digest as which a commit began to publish it. `complete` says that the content is whole, so that
    no part can be added.
    """

    nonce: str
    size: int = 0
    parts: tuple[Part, ...] = ()
    multipart: str | None = None
    hash: str | None = None
    holder: str = ""
    until: float = 0.0
    publishing: str | None = None
    complete: bool = False
    aborted: bool = False

    @property
    def parts_size(self) -> int:
        return sum(part.size for part in self.parts)

    def line(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":")).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Pointer:
    """Which content is a blob. Written twice, as the bytes and as the note of the same object: the note is read."""

    content: str
    size: int

    def encode(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Discarded:
    """A content that a blob no longer is."""

    content: str
    digest: str

    def encode(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":")).encode()


def parse_upload(line: bytes) -> UploadDocument:
    found = _object(line)
    try:
        found["parts"] = tuple(Part(int(number), int(size), str(etag)) for number, size, etag in found["parts"])
        return UploadDocument(**found)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not an upload's document: {error}") from error


def parse_pointer(data: str | bytes) -> Pointer:
    found = _object(data)
    try:
        return Pointer(str(found["content"]), int(found["size"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a pointer: {error}") from error


def parse_discarded(data: bytes) -> tuple[str, Digest]:
    found = _object(data)
    try:
        return str(found["content"]), Digest.parse(str(found["digest"]))
    except KeyError as error:
        raise ValueError(f"not a note of a discarded content: {error}") from error


def _object(data: str | bytes) -> dict[str, Any]:
    found = json.loads(data)
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found
