"""The directories that an operator fills with boot files and package mirrors, created at start.

Invariant: nothing that exists is changed: not a file, not a mode, not a link. Blocking.
"""

from __future__ import annotations

from pathlib import Path

from common.errors import Unavailable

AREAS = ("static", "repos")
DIRECTORIES = (
    "static/kernels",
    "static/initramfs",
    "repos/ubuntu/20.04",
    "repos/ubuntu/22.04",
    "repos/centos/7",
    "repos/centos/8",
    "repos/rocky/8",
    "repos/rocky/9",
    "repos/debian/11",
    "repos/debian/12",
)

_README = """\
# Files of this data centre

The regional serves what lies here over HTTP, to anybody who reaches its API port. Put nothing secret here.

| directory | URL | for |
|---|---|---|
| `static/kernels/` | `/static/kernels/` | Linux kernels, for example `vmlinuz-ubuntu-22.04` |
| `static/initramfs/` | `/static/initramfs/` | initial RAM disks |
| `static/` | `/static/` | any other file |
| `repos/<distribution>/<version>/` | `/repos/<distribution>/<version>/` | mirrors of package repositories |

List them: `GET /api/v1/files/static` and `GET /api/v1/files/repos`; a part of them with `?path=/kernels`.

A mirror, for example:

    rsync -a --delete rsync://archive.ubuntu.com/ubuntu/dists/jammy/ repos/ubuntu/22.04/dists/jammy/
    rsync -a --delete rsync://archive.ubuntu.com/ubuntu/pool/ repos/ubuntu/22.04/pool/

A file that is still being copied is answered with 503 and "ask again". Names that begin with a dot or end in `.part`,
`.partial`, `.filepart` or `.tmp` are never served: rsync's way of copying is safe by itself. From scripts:

    longshore-regional publish vmlinuz static/kernels/vmlinuz-ubuntu-22.04

Files must be readable by the user that the regional runs as: `chmod -R a+rX static repos`.
"""


class StaticRootUnusable(Unavailable):
    code = "static_root_unusable"


def create_tree(root: Path) -> None:
    """Harmless to repeat. Raises `StaticRootUnusable`."""
    try:
        for directory in DIRECTORIES:
            (root / directory).mkdir(parents=True, exist_ok=True)
        readme = root / "README.md"
        if not readme.exists():
            readme.write_text(_README, encoding="utf-8")
    except OSError as error:
        raise StaticRootUnusable(
            f"the static root {root} cannot be prepared: {error.strerror}",
            action="name a writable directory with --static-root",
        ) from error
