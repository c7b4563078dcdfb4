"""Walking the published blobs in the order of their digests, a page at a time. Blocking; called in a thread.

One page reads the directories that it needs (256 an algorithm) and asks for the size only of what it returns: the cost
of a page does not grow with what lies before it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from common.digest import Digest, DigestInvalid
from control_plane.blobs import StoredBlob


def stored_after(blobs: Path, after: str, limit: int) -> Sequence[StoredBlob]:
    """`blobs` holds `<algorithm>/<two digits>/<hex>`; strangers among them are passed over."""
    return list(islice(_walk(blobs, after), limit))


def _walk(blobs: Path, after: str) -> Iterator[StoredBlob]:
    for algorithm in _names(blobs):
        for start in _names(blobs / algorithm):
            # What `after` begins with may lie in this directory, so only those that end before it are left out.
            if f"{algorithm}:{start}" < after[: len(algorithm) + 1 + len(start)]:
                continue
            for name in _names(blobs / algorithm / start):
                if f"{algorithm}:{name}" > after:
                    with contextlib.suppress(DigestInvalid, FileNotFoundError):
                        digest = Digest.parse(f"{algorithm}:{name}")
                        yield StoredBlob(digest, os.stat(blobs / algorithm / start / name).st_size)


def _names(directory: Path) -> Sequence[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
