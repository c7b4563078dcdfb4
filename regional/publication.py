"""Files that are complete: telling a copy that is still under way from one that is done, and putting files in place.

Invariant: a file that somebody has open for writing is not served, where the kernel can say so: a read lease is refused
while a writer has the file (fcntl(2), F_SETLEASE); it is given back at once. It needs the file's owner or CAP_LEASE,
and a local file system. Elsewhere (NFS, foreign files) a file counts as being written for `settle_seconds` after its
last byte. `publish` needs neither: what it does appears whole, by a rename.

Blocking.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import signal
import stat
from pathlib import Path

from common.errors import Invalid, Unavailable
from regional import paths
from regional.tree import AREAS

DEFAULT_SETTLE_SECONDS = 2.0
# Nobody writes to one file for longer, and old files, which are nearly all, cost no system call.
_LONGEST_COPY_SECONDS = 86_400.0
# Writing sets both times alike; whoever sets the time of a file (rsync, cp -p) does it when all is written.
_SAME_MOMENT_SECONDS = 2.0


class StillBeingWritten(Unavailable):
    code = "file_still_written"


class PublicationRefused(Invalid):
    code = "publication_refused"


class NotPublished(Unavailable):
    code = "not_published"


def check_whole(descriptor: int, status: os.stat_result, wall_seconds: float, settle_seconds: float) -> None:
    """`wall_seconds` since the epoch. Raises `StillBeingWritten`."""
    age = wall_seconds - status.st_ctime
    if age > _LONGEST_COPY_SECONDS:
        return
    writer = _has_writer(descriptor)
    if writer is None:
        set_apart = abs(status.st_mtime - status.st_ctime) >= _SAME_MOMENT_SECONDS
        writer = age < settle_seconds and not set_apart
    if writer:
        raise StillBeingWritten(
            "this file is still being written",
            action="ask again; whoever copies files here can use `longshore-regional publish`",
            retry_after_seconds=settle_seconds,
        )


def check_path(path: Path, wall_seconds: float, settle_seconds: float) -> None:
    """Of a file that somebody else will open; what cannot be opened is left to them. Raises `StillBeingWritten`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            check_whole(descriptor, status, wall_seconds, settle_seconds)
    finally:
        os.close(descriptor)


def _has_writer(descriptor: int) -> bool | None:
    """None: the kernel does not tell."""
    try:
        # A writer that comes while we hold the lease, for microseconds, waits for it and we are sent a signal: this
        # one is ignored by default, the usual SIGIO would end the process.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:
        return None
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def publish(source: Path, root: Path, target: str) -> Path:
    """Copy `source` to `target` below `root` (`static/...` or `repos/...`), so that readers see the former file or
    all of the new one; on disk when it returns. Missing directories are made. Gives the path.

    Raises `PublicationRefused` and `NotPublished`; then the target is as it was.
    """
    names = _target_names(target)
    directory = _directory(root, names[:-1])
    path, temporary = directory / names[-1], directory / f".{names[-1][:200]}.{secrets.token_hex(4)}"
    try:
        with source.open("rb") as reading, temporary.open("xb") as writing:
            shutil.copyfileobj(reading, writing, 1 << 20)
            writing.flush()
            status = os.fstat(reading.fileno())
            os.utime(writing.fileno(), ns=(status.st_mtime_ns, status.st_mtime_ns))
            os.fchmod(writing.fileno(), 0o644)
            os.fsync(writing.fileno())
        temporary.rename(path)
        _sync(directory)
    except OSError as error:
        raise NotPublished(
            f"{source} was not copied to {path}: {error.strerror or error}",
            action="check that the one can be read, the other written, and that there is room",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _target_names(target: str) -> tuple[str, ...]:
    names = tuple(name for name in target.split("/") if name)
    wrong = any(name in (".", "..") or "\0" in name or paths.hidden(name) for name in names)
    if len(names) < 2 or names[0] not in AREAS or wrong:
        raise PublicationRefused(
            f"{target[:200]!r} is no place that is served",
            action="name one like static/kernels/vmlinuz or repos/debian/12/dists/stable/InRelease",
        )
    return names


def _directory(root: Path, names: tuple[str, ...]) -> Path:
    """Made where missing, and inside its area also after links were followed."""
    directory = root.joinpath(*names)
    try:
        area = (root / names[0]).resolve(strict=True)
        inside = directory.resolve().is_relative_to(area)
        if inside:
            directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotPublished(
            f"{directory} cannot be made: {error.strerror or error}",
            action="start the regional once, or name its --static-root",
        ) from error
    if not inside:
        raise PublicationRefused(f"{directory} leads outside {area}", action="publish into the area itself")
    return directory


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
