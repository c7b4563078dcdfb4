"""A root file system out of Debian's busybox-static, as a tar archive: an image made on the spot."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

from tests.engines.processes import find_program

_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
}
_FOLDERS = ("bin", "sbin", "etc", "proc", "sys", "dev", "root", "run", "var", "var/log", "www")


def root_file_system() -> bytes:
    """The tar archive; every applet is a symbolic link to /bin/busybox. Reproducible: no times, no owners."""
    busybox = Path(find_program("busybox", "docker"))
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for folder in _FOLDERS:
            archive.addfile(_entry(folder, tarfile.DIRTYPE, 0o755))
        archive.addfile(_entry("tmp", tarfile.DIRTYPE, 0o1777))
        program = _entry("bin/busybox", tarfile.REGTYPE, 0o755)
        program.size = busybox.stat().st_size
        with busybox.open("rb") as content:
            archive.addfile(program, content)
        for applet in sorted(set(applets) - {"busybox"}):
            link = _entry(f"bin/{applet}", tarfile.SYMTYPE, 0o777)
            link.linkname = "busybox"
            archive.addfile(link)
        for name, text in _FILES.items():
            entry = _entry(name, tarfile.REGTYPE, 0o644)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = kind, mode
    return entry
