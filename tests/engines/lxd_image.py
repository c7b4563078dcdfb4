"""LXD images out of Debian's busybox-static, made on the spot: unified, and split with a tarball or a squashfs.

Process 1 is a shell that ends when LXD asks it to (SIGPWR): busybox's own init would be waited for until the deadline.
"""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import tarfile
from pathlib import Path

from tests.engines.busybox import root_file_system
from tests.engines.processes import find_program

_INIT = """#!/bin/sh
trap 'exit 0' PWR TERM INT
echo "init of $(hostname) began"
while :; do sleep 3600 & wait $!; done
"""
_METADATA = """architecture: {architecture}
creation_date: 1700000000
properties: {{os: busybox, release: "1.35", variant: {variant}, description: busybox for tests}}
templates:
  /etc/hostname: {{when: [create, copy], template: hostname.tpl}}
"""


def unified_image(variant: str = "default") -> bytes:
    """A tar.gz; another `variant` is another image."""
    return _packed({**_metadata(variant), **_root("rootfs/")})


def metadata_tarball(variant: str = "default") -> bytes:
    return _packed(_metadata(variant))


def root_tarball() -> bytes:
    return _packed(_root(""))


def root_squashfs(directory: Path) -> bytes:
    """`directory` is empty and scratch."""
    tree, image = directory / "tree", directory / "rootfs.squashfs"
    tree.mkdir()
    with tarfile.open(fileobj=io.BytesIO(root_tarball())) as archive:
        archive.extractall(tree, filter="fully_trusted")
    subprocess.run(
        [find_program("mksquashfs", "lxd"), str(tree), str(image), "-noappend", "-quiet", "-no-progress"], check=True
    )
    return image.read_bytes()


Entries = dict[str, tuple[tarfile.TarInfo, bytes]]


def _metadata(variant: str) -> Entries:
    text = _METADATA.format(architecture=os.uname().machine, variant=variant)
    files = {"metadata.yaml": text, "templates/hostname.tpl": "{{ container.name }}\n"}
    return {name: _file(name, data.encode(), 0o644) for name, data in files.items()}


def _root(prefix: str) -> Entries:
    entries: Entries = {prefix: (_folder(prefix or "./"), b"")}
    with tarfile.open(fileobj=io.BytesIO(root_file_system())) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            data = content.read() if content is not None else b""
            member.name = f"{prefix}{member.name}"
            entries[member.name] = (member, data)
    entries[f"{prefix}sbin/init"] = _file(f"{prefix}sbin/init", _INIT.encode(), 0o755)
    return entries


def _folder(name: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    return entry


def _file(name: str, data: bytes, mode: int) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    return entry, data


def _packed(entries: Entries) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for entry, data in entries.values():
            archive.addfile(entry, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), 1, mtime=0)
