"""A directory that is full, read-only or not ours any more, under a server in use: each request gets a right answer or
a clear refusal in time, and all goes on by itself once the disk does.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engines import SKIPPED
from tests.engines.processes import wait_until
from tests.faults.asking import Scene
from tests.faults.lives import NO_DRIFT, Installation, installation

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

PATIENCE = 15.0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, 96 MiB large: the store keeps a reserve of 64."""
    path = tmp_path / "disk"
    path.mkdir()
    if _mount("-t", "tmpfs", "-o", "size=96m,mode=0777", "none", str(path)):
        pytest.skip(f"{SKIPPED}a disk of its own: needs to mount")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def _mount(*arguments: str) -> int:
    return subprocess.run(["mount", *arguments], check=False, capture_output=True).returncode


@contextlib.contextmanager
def _filled(disk: Path) -> Iterator[None]:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    yield
    filler.unlink()


@contextlib.contextmanager
def _read_only(disk: Path) -> Iterator[None]:
    # Busy as long as a file is open for writing.
    assert wait_until(lambda: _mount("-o", "remount,ro", str(disk)) == 0, 5)
    yield
    assert _mount("-o", "remount,rw", str(disk)) == 0


@contextlib.contextmanager
def _gone(disk: Path) -> Iterator[None]:
    """What a mount that was lost leaves: an empty directory that nobody may write."""
    blobs = disk / "blobs"
    away = blobs.rename(disk / "away")
    blobs.mkdir(mode=0)
    assert subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=4k", "none", str(blobs)], check=False).returncode == 0
    yield
    subprocess.run(["umount", "--lazy", str(blobs)], check=True)
    blobs.rmdir()
    away.rename(blobs)


def _server(root: Path, blobs: Path) -> contextlib.AbstractContextManager[Installation]:
    return installation(root, {"LONGSHORE_BLOBS__DIRECTORY": str(blobs)})


@pytest.mark.parametrize("trouble", [_filled, _read_only, _gone], ids=["full", "read-only", "gone"])
def test_a_blob_directory_in_trouble_refuses_what_it_cannot_do(
    disk: Path, tmp_path: Path, trouble: Callable[[Path], contextlib.AbstractContextManager[None]]
) -> None:
    with _server(tmp_path / "plane", disk / "blobs") as server, server.user(timeout=PATIENCE) as user:
        scene = Scene.set(user)
        with trouble(disk):
            statuses = scene.ask_all(scene.reads() | scene.writes(), PATIENCE)
            assert statuses["push whole"] in (503, 507)
            assert statuses["pull by tag"] == 200
            if trouble is not _gone:
                assert (statuses["blob"], statuses["head blob"]) == (200, 200)
        scene.finish()
        assert server.recount() == NO_DRIFT
        assert "Traceback" not in server.log


def test_a_full_disk_under_the_database_too_loses_nothing(disk: Path) -> None:
    """The database beside the blobs, as a small installation has it."""
    with installation(disk / "plane") as server, server.user(timeout=PATIENCE) as user:
        scene = Scene.set(user)
        with _filled(disk):
            scene.ask_all(scene.reads() | scene.writes(), PATIENCE)
        scene.finish()
        assert server.recount() == NO_DRIFT
