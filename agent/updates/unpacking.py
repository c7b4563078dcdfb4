"""A version's layers become a directory (OCI image layer: tar, or tar with gzip; image-spec, layer.md).

Invariant: nothing is written outside the directory, nothing but files, directories and links inside it is made, none is
setuid or a device, and no more than the bounds are unpacked whatever the archive claims. What is not whole is never
published.
"""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from pathlib import Path

from agent.updates.layout import ENTRY, Layout
from common.errors import Invalid

_MOST_BYTES = 2 << 30
_MOST_FILES = 100_000


class VersionUnusable(Invalid):
    code = "agent_version_unusable"


def install(layout: Layout, digest: str, layers: Sequence[Path]) -> None:
    """Harmless to repeat. Blocking. Raises `VersionUnusable`, `OSError`."""
    if layout.installed(digest):
        return
    target = layout.partial(digest)
    room = [_MOST_BYTES, _MOST_FILES]
    for layer in layers:
        try:
            with tarfile.open(layer, "r:*") as archive:
                _unpack(archive, target, room)
        except (tarfile.TarError, EOFError, ValueError) as error:
            raise VersionUnusable(
                f"a layer of the agent's version cannot be unpacked: {error}", action="build and push the version again"
            ) from error
    entry = target / ENTRY
    if not entry.is_file() or not entry.stat().st_mode & 0o100:
        raise VersionUnusable(
            f"the version has no program {ENTRY} in its root", action="see docs/operations/agent-updates.md"
        )
    layout.publish(digest)


def _unpack(archive: tarfile.TarFile, target: Path, room: list[int]) -> None:
    for member in archive:
        room[0] -= member.size
        room[1] -= 1
        if min(room) < 0:
            raise VersionUnusable(
                f"the version has more than {_MOST_FILES} files or {_MOST_BYTES >> 30} GiB",
                action="build it without what it does not need",
            )
        # The data filter (PEP 706) refuses what leaves the directory, devices, and setuid bits.
        archive.extract(member, target, filter="data")
