"""Where contents lie on disk. Blocking: call it in threads.

    content/sha256/ab/<hex>          held: its whole digest was verified and it is durable
    partial/sha256-<hex>             on its way; what is in it is trusted piece by piece, after verification
    metainfo/<content>.<tenant>      statement and .torrent of one tenant's swarm; empty: the centre has none for it
    blocks/<content>.map             the centre's block map, by which it is compared; empty: the centre has none
    crossed/<content>.<tenant>       payload bytes that came over the WAN with this tenant's token, in decimal
    swarm/<info hash hex>/<name>     a hard link to the same inode, where a torrent expects its file

Invariant: a name under `content/` exists only for verified bytes, so a start after kill -9 trusts it unread. Every
method opens, works and closes, so an abandoned thread can never write into somebody else's descriptor.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from common.bittorrent.metainfo import Metainfo
from common.content_statement import SignedMetainfo
from common.digest import Digest
from common.durable import sync_directory, write_file
from common.errors import Failure, Internal, Unavailable
from regional.model import ContentKey

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_READ = 1 << 20


class DiskFull(Unavailable):
    code = "disk_full"


class DiskFailed(Internal):
    code = "disk_failed"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """`used_at`: seconds since the epoch by the file's own clock; only their order means anything."""

    digest: Digest
    size: int
    used_at: float


class ContentDirectory:
    """`root` belongs to this process alone."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def prepare(self) -> None:
        with _disk("prepare the content directory"):
            for name in ("content", "partial", "metainfo", "blocks", "crossed", "swarm"):
                (self.root / name).mkdir(parents=True, exist_ok=True, mode=0o700)

    def held(self) -> list[StoredFile]:
        return list(_stored((self.root / "content").glob("*/*/*"), lambda path: f"{path.parts[-3]}:{path.name}"))

    def partials(self) -> list[StoredFile]:
        return list(_stored((self.root / "partial").glob("*"), lambda path: path.name.replace("-", ":", 1)))

    def content_path(self, digest: Digest) -> Path:
        return self.root / "content" / digest.algorithm / digest.hex[:2] / digest.hex

    def partial_path(self, digest: Digest) -> Path:
        return self.root / "partial" / f"{digest.algorithm}-{digest.hex}"

    def swarm_path(self, info_hash: bytes) -> Path:
        return self.root / "swarm" / info_hash.hex()

    def open(self, digest: Digest) -> BinaryIO | None:
        """The content or what is there of it; None if there is nothing. The descriptor outlives renames and removal."""
        held = self.content_path(digest)
        # Looked for twice: between the first two looks it may be published, which takes the partial name away.
        for path in (held, self.partial_path(digest), held):
            with contextlib.suppress(FileNotFoundError):
                return path.open("rb", buffering=0)
        return None

    def touch(self, digest: Digest, used_at: float) -> None:
        """The moment is given, because the kernel's own is that of its last tick, 4 or 10 ms ago."""
        with contextlib.suppress(OSError):
            os.utime(self.content_path(digest), (used_at, used_at))

    def reserve(self, digest: Digest, size: int) -> bool:
        """Make room for the whole content, keeping what is there; whether something was there.

        Space is taken before a byte crosses the WAN, so a disk that is too small costs nothing but this call. Raises
        `DiskFull`, and then leaves nothing new behind.
        """
        path = self.partial_path(digest)
        existed = path.exists() and path.stat().st_size == size
        try:
            with _disk(f"reserve {size} bytes"), path.open("ab") as file:
                file.truncate(size)
                if size:
                    os.posix_fallocate(file.fileno(), 0, size)
        except Failure:
            if not existed:
                path.unlink(missing_ok=True)
            raise
        return existed

    def write(self, digest: Digest, offset: int, data: bytes | memoryview) -> None:
        """Into the reserved file; raises `DiskFull` or `DiskFailed`, also when the reservation is gone."""
        with _disk("write a piece"):
            descriptor = os.open(self.partial_path(digest), os.O_WRONLY | os.O_CLOEXEC)
            try:
                view = memoryview(data)
                while view:
                    written = os.pwrite(descriptor, view, offset)
                    offset, view = offset + written, view[written:]
            finally:
                os.close(descriptor)

    def hash_partial(self, digest: Digest) -> Digest:
        """The digest of what is in the partial file."""
        hasher = digest.hasher()
        with _disk("read the content back"), self.partial_path(digest).open("rb", buffering=0) as file:
            while chunk := file.read(_READ):
                hasher.update(chunk)
        return hasher.digest()

    def publish(self, digest: Digest) -> None:
        """The partial file, verified by the caller, becomes held content; durable when this returns."""
        source, target = self.partial_path(digest), self.content_path(digest)
        with _disk("publish the content"):
            descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.replace(source, target)
            sync_directory(target.parent)
            # The two levels above may be new as well.
            sync_directory(target.parent.parent)
            sync_directory(target.parent.parent.parent)

    def discard_partial(self, digest: Digest) -> None:
        self.partial_path(digest).unlink(missing_ok=True)

    def remove(self, digest: Digest) -> None:
        """Everything there is of it, for every tenant."""
        with _disk("evict the content"):
            self.content_path(digest).unlink(missing_ok=True)
            self.discard_partial(digest)
            for area in ("metainfo", "blocks", "crossed"):
                for path in (self.root / area).glob(f"{digest.algorithm}-{digest.hex}.*"):
                    path.unlink(missing_ok=True)

    def blocks(self, digest: Digest) -> bytes | None:
        """None: it was never asked for."""
        try:
            return self._blocks_path(digest).read_bytes()
        except OSError:
            return None

    def save_blocks(self, digest: Digest, encoded: bytes) -> None:
        with _disk("keep a block map"):
            write_file(self._blocks_path(digest), encoded)

    def _blocks_path(self, digest: Digest) -> Path:
        return self.root / "blocks" / f"{digest.algorithm}-{digest.hex}.map"

    def link(self, digest: Digest, metainfo: Metainfo) -> Path:
        """The directory that holds the content under the torrent's name: the same inode, not a copy."""
        directory = self.swarm_path(metainfo.info_hash)
        target = directory / metainfo.name
        with _disk("link the content into its swarm"):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            source = self.content_path(digest)
            if not source.exists():
                source = self.partial_path(digest)
            if target.exists() and target.samefile(source):
                return directory
            target.unlink(missing_ok=True)
            os.link(source, target)
        return directory

    def unlink(self, info_hash: bytes) -> None:
        shutil.rmtree(self.swarm_path(info_hash), ignore_errors=True)

    def clear_swarms(self) -> None:
        """Links of an earlier process; those still wanted are made again."""
        for path in (self.root / "swarm").glob("*"):
            shutil.rmtree(path, ignore_errors=True)

    def save_metainfo(self, key: ContentKey, signed: SignedMetainfo | None) -> None:
        with _disk("keep the metainfo"):
            write_file(self.root / "metainfo" / key.file_name(), signed.pack() if signed is not None else b"")

    def metainfos(self) -> dict[ContentKey, SignedMetainfo | None]:
        """All that are kept; None: the content has no swarm. The unreadable is removed: the centre has it again."""
        found: dict[ContentKey, SignedMetainfo | None] = {}
        for path in (self.root / "metainfo").glob("*"):
            try:
                packed = path.read_bytes()
                found[ContentKey.parse_file_name(path.name)] = SignedMetainfo.unpack(packed) if packed else None
            except (Failure, OSError):
                path.unlink(missing_ok=True)
        return found

    def crossed(self, key: ContentKey) -> int:
        try:
            return int((self.root / "crossed" / key.file_name()).read_text("ascii"))
        except (OSError, ValueError):
            return 0

    def save_crossed(self, key: ContentKey, count: int) -> None:
        """Survives the process, not a power cut: one fsync a piece would cost more than the number tells.

        Fixed width and one write call, so a reader after kill -9 sees the old number or the new one.
        """
        with _disk("keep the byte count"):
            path = self.root / "crossed" / key.file_name()
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(descriptor, b"%020d" % count, 0)
            finally:
                os.close(descriptor)


def _stored(paths: Iterator[Path], name: Callable[[Path], str]) -> Iterator[StoredFile]:
    for path in paths:
        try:
            status = path.stat()
            yield StoredFile(Digest.parse(name(path)), status.st_size, status.st_mtime)
        except (Failure, OSError):
            continue


@contextlib.contextmanager
def _disk(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(
                f"the disk is full: could not {doing}",
                action="free space in the data directory or lower the cache limit; the fetch goes on by itself",
                retry_after_seconds=10,
            ) from error
        raise DiskFailed(
            f"could not {doing}: {error.strerror}", action="check the disk of the data directory"
        ) from error
