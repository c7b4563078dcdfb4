"""What a client knows its upload by: the id and a seal over whose it is, so that no row has to remember that.

Invariant: a name is taken only from the principal that got it, for the repository it was made for, and while that
repository's tenant is the same; to everybody else the upload does not exist. The seal is an HMAC-SHA-256 cut to 128
bits (RFC 2104, section 5) under a key that all replicas share; names made under an older key of the ring are taken.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from common.identifiers import is_id
from control_plane.registry.model import Upload

_SEAL_BYTES = 16


class UploadNames:
    """`keys`, the newest first, are for nothing else."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = tuple(keys)

    def name(self, upload: Upload) -> str:
        return f"{upload.upload_id}.{_seal(self._keys[0], upload)}"

    def upload(self, name: str, repository: str, tenant_id: str, user_id: str) -> Upload | None:
        """The upload of that name if it is this user's in this repository; the store knows whether it is there."""
        upload_id, seal = stored_id(name), name.partition(".")[2]
        if not is_id(upload_id) or not seal.isascii():
            return None
        upload = Upload(upload_id, repository, tenant_id, user_id)
        if any(hmac.compare_digest(_seal(key, upload), seal) for key in self._keys):
            return upload
        return None


def stored_id(name: str) -> str:
    """By what the store knows the upload of this name."""
    return name.partition(".")[0]


def _seal(key: bytes, upload: Upload) -> str:
    # None of them holds a NUL.
    whose = "\0".join((upload.upload_id, upload.repository, upload.tenant_id, upload.user_id))
    return hmac.digest(key, whose.encode(), hashlib.sha256)[:_SEAL_BYTES].hex()
