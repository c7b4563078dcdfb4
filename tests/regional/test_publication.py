"""Files appear whole: copies under way are told from finished ones, and `publish` puts a file in place at once."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from regional.publication import NotPublished, PublicationRefused, StillBeingWritten, check_path, check_whole, publish
from regional.tftp.boot_files import Directory
from regional.tree import create_tree


@pytest.fixture
def root(tmp_path: Path) -> Path:
    create_tree(tmp_path / "root")
    return tmp_path / "root"


@pytest.fixture
def no_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on NFS, and for files of somebody else."""

    def refused(*_: Any) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(fcntl, "fcntl", refused)


def look(path: Path, later: float = 0.0) -> None:
    """`later`: seconds since the file was touched last."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        check_whole(file.fileno(), status, status.st_ctime + later, 2.0)


def test_a_file_that_somebody_writes_is_not_whole_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "initrd"
    with path.open("wb") as writer:
        writer.write(b"half")
        writer.flush()
        with pytest.raises(StillBeingWritten, match="publish"):
            look(path, later=300.0)  # the copy stalls: however long, it is not whole
    look(path)


def test_a_path_is_looked_at_without_harm(tmp_path: Path) -> None:
    path = tmp_path / "initrd"
    with path.open("wb"), pytest.raises(StillBeingWritten):
        check_path(path, path.stat().st_ctime, 2.0)
    for harmless in (path, tmp_path, tmp_path / "nothing"):
        check_path(harmless, path.stat().st_ctime, 2.0)


def test_a_reader_hinders_nobody(tmp_path: Path) -> None:
    path = tmp_path / "initrd"
    path.write_bytes(b"x")
    with path.open("rb"):
        look(path)


@pytest.mark.usefixtures("no_leases")
def test_where_the_kernel_does_not_tell_a_fresh_file_has_to_settle(tmp_path: Path) -> None:
    path = tmp_path / "initrd"
    path.write_bytes(b"x")
    with pytest.raises(StillBeingWritten) as refused:
        look(path, later=1.9)
    assert refused.value.retry_after_seconds == 2.0
    look(path, later=2.1)


@pytest.mark.usefixtures("no_leases")
def test_who_sets_the_time_of_a_file_has_written_it(tmp_path: Path) -> None:
    path = tmp_path / "initrd"
    path.write_bytes(b"x")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    look(path)
    os.utime(path, (4_000_000_000, 4_000_000_000))  # a clock far ahead must not hide a file for years
    look(path)


def test_what_is_published_is_there_whole_and_as_old_as_its_source(tmp_path: Path, root: Path) -> None:
    source = tmp_path / "vmlinuz"
    source.write_bytes(b"kernel")
    os.utime(source, (1_700_000_000, 1_700_000_000))
    path = publish(source, root, "static/kernels/deep/vmlinuz-12")
    assert path == root / "static/kernels/deep/vmlinuz-12"
    assert path.read_bytes() == b"kernel"
    assert path.stat().st_mtime == 1_700_000_000
    assert path.stat().st_mode & 0o777 == 0o644
    source.write_bytes(b"newer")
    publish(source, root, "/static/kernels/deep/vmlinuz-12")
    assert path.read_bytes() == b"newer"
    assert [child.name for child in path.parent.iterdir()] == ["vmlinuz-12"]


@pytest.mark.parametrize(
    "target", ["", "static", "vmlinuz", "etc/passwd", "static/../secret", "static/.hidden", "static/x.part"]
)
def test_what_would_not_be_served_is_not_published(tmp_path: Path, root: Path, target: str) -> None:
    (tmp_path / "x").write_bytes(b"x")
    before = sorted(root.rglob("*"))
    with pytest.raises(PublicationRefused):
        publish(tmp_path / "x", root, target)
    assert sorted(root.rglob("*")) == before


def test_a_link_out_of_the_area_is_not_followed(tmp_path: Path, root: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    (tmp_path / "outside").mkdir()
    (root / "static/out").symlink_to(tmp_path / "outside")
    with pytest.raises(PublicationRefused):
        publish(tmp_path / "x", root, "static/out/deep/x")
    assert not list((tmp_path / "outside").iterdir())


def test_a_disk_that_is_full_leaves_the_former_file(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").write_bytes(b"new")
    (root / "static/x").write_bytes(b"old")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(NotPublished, match="No space left"):
        publish(tmp_path / "x", root, "static/x")
    assert (root / "static/x").read_bytes() == b"old"
    assert [child.name for child in (root / "static").iterdir() if child.is_file()] == ["x"]


def test_a_source_or_a_root_that_is_not_there_is_named(tmp_path: Path, root: Path) -> None:
    with pytest.raises(NotPublished, match="nothing"):
        publish(tmp_path / "nothing", root, "static/x")
    (tmp_path / "x").write_bytes(b"x")
    with pytest.raises(NotPublished, match="--static-root"):
        publish(tmp_path / "x", tmp_path / "nowhere", "static/x")


async def test_tftp_finds_neither_half_files_nor_hidden_ones(root: Path) -> None:
    path = root / "static/ipxe.efi"
    files = Directory(root, lambda found: check_path(found, found.stat().st_ctime, 2.0))
    with path.open("wb"), pytest.raises(StillBeingWritten):
        await files.find("static/ipxe.efi", "192.0.2.1")
    assert await files.find("static/ipxe.efi", "192.0.2.1") == path
    path.rename(root / "static/.ipxe.efi.Xy12Ab")
    assert await files.find("static/.ipxe.efi.Xy12Ab", "192.0.2.1") is None
