"""Names of objects, and how large the parts of an upload are.

S3 takes at most 10,000 parts of 5 MiB to 5 GiB, and 5 TiB in all ("Amazon S3 multipart upload limits"). So a part is
`base` bytes long while there are few, and one 1,250th of what lies before it later: 5 TiB are reached with 9,700 parts
of at most 4.1 GiB. Where all parts must be equal (Cloudflare R2) they stay at `base`, and 10,000 of them are the limit.
"""

from __future__ import annotations

from common.digest import Digest, DigestInvalid

SMALLEST_PART = 5 << 20
LARGEST_PART = 5 << 30
MOST_PARTS = 10_000
LARGEST_OBJECT = 5 << 40
_GROWTH = 1250
_MIB = 1 << 20

CONTENTS = "contents/"
BLOBS = "blobs/"
UPLOADS = "uploads/"
TRASH = "trash/"
DAMAGED = "damaged/"


def part_bytes(offset: int, base: int, *, equal: bool = False) -> int:
    """The length of the part that begins at `offset`, which depends on nothing else."""
    if equal:
        return base
    return max(base, -(-offset // _GROWTH // _MIB) * _MIB)


def content_key(upload_id: str) -> str:
    return CONTENTS + upload_id


def upload_key(upload_id: str) -> str:
    return UPLOADS + upload_id


def trash_key(content: str) -> str:
    return TRASH + content.removeprefix(CONTENTS)


def blob_key(digest: Digest) -> str:
    return f"{BLOBS}{digest.algorithm}/{digest.hex[:2]}/{digest.hex}"


def digest_of(key: str) -> Digest | None:
    """The digest that a name under `blobs/` stands for; None for strangers."""
    algorithm, _, rest = key.removeprefix(BLOBS).partition("/")
    try:
        return Digest.parse(f"{algorithm}:{rest[3:]}")
    except DigestInvalid:
        return None
