"""Names of bytes: `algorithm:hex` digests as the OCI image specification defines them (descriptor.md, "Digests").

Invariant: a `Digest` that exists is well formed, so it is safe to build a path or a URL from it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass

from common.errors import Invalid

# The registered algorithms and the length of their hex part. sha512 is optional in the specification; we keep it.
_HEX_LENGTH = {"sha256": 64, "sha512": 128}
_HEX = re.compile(r"[0-9a-f]+")


class DigestInvalid(Invalid):
    code = "digest_invalid"


class DigestMismatch(Invalid):
    """The bytes are not the ones that the digest names; nothing was published."""

    code = "digest_mismatch"


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A well-formed digest; `str()` gives the wire form."""

    algorithm: str
    hex: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Raises `DigestInvalid` for unknown algorithms, wrong lengths, upper case and anything path-like."""
        algorithm, separator, hexadecimal = text.partition(":")
        length = _HEX_LENGTH.get(algorithm)
        if not separator or length is None or len(hexadecimal) != length or not _HEX.fullmatch(hexadecimal):
            raise DigestInvalid(
                f"{text[:160]!r} is not a digest",
                action="use sha256: or sha512: followed by lower-case hexadecimal digits",
            )
        return cls(algorithm, hexadecimal)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        return cls(algorithm, hashlib.new(algorithm, data).hexdigest())

    def hasher(self) -> Hasher:
        return Hasher(self.algorithm)

    def verify(self, actual: Digest) -> None:
        """Raises `DigestMismatch` unless `actual` equals this digest."""
        if not hmac.compare_digest(str(self), str(actual)):
            raise DigestMismatch(
                f"the content is {actual}, not {self}",
                action="send or fetch it again; it was damaged or is not the content it claims to be",
                expected=str(self),
                actual=str(actual),
            )


class Hasher:
    """Incremental hashing; `update` with 2 KiB or more releases the interpreter lock (hashlib)."""

    def __init__(self, algorithm: str = "sha256") -> None:
        self._algorithm = algorithm
        self._state = hashlib.new(algorithm)
        self.size = 0

    def update(self, data: bytes | memoryview) -> None:
        self._state.update(data)
        self.size += len(data)

    def digest(self) -> Digest:
        return Digest(self._algorithm, self._state.hexdigest())
