"""A new version of a disk image: how much of it crosses the WAN, and reaches each host, when the old one is held there.

Real processes (control plane, a regional, two agents) on loopback; bytes are counted by the centre, the block map with
them, and by the hosts. A tenth of the image is new, in runs at places that chance chose (on borders of 4 KiB, as a
guest's file system writes); then two ext4 images of directory trees of which a tenth of the files differ, and a tar to
whose front a file was added. The peer is the whole image, which is what every system moves that knows layers by their
digest alone.

Environment: `BENCH_MIB` (1024). Takes 8 times that on the disk of the temporary directory.
"""

from __future__ import annotations

import functools
import io
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from benchmarks.figures import Figure
from benchmarks.spread import wait_verified, wrap
from common.digest import Hasher
from common.errors import Failure
from common.reference import Reference
from control_plane.cli.image_source import BlobSource
from control_plane.cli.push import push
from deploy.demo.fleet import Fleet, Idc, Node

_GOAL = 0.15
_NEW = 0.1
_MEBIBYTE = 1 << 20
_UUID = "01234567-89ab-4cde-8f01-23456789abcd"
_MAP_SHARE = 8 / 4096
_RUN_KIBIBYTES = (4, 64, 1024)


class DeltaSettings(BaseSettings):
    model_config = SettingsConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    mebibytes: int = Field(default=1024, validation_alias="BENCH_MIB", ge=16)


@dataclass(frozen=True)
class Pair:
    """`new`: makes the new image from the old one's file, in place."""

    name: str
    old: Callable[[Path, int], None]
    new: Callable[[Path, int], None]


def main() -> int:
    settings = DeltaSettings()
    met = True
    for pair in pairs():
        with tempfile.TemporaryDirectory(prefix="ls-delta-") as folder:
            found = measure(pair, Path(folder), settings.mebibytes)
        met = report(pair, found, settings) and met
    return 0 if met else 1


def pairs() -> Iterator[Pair]:
    for kibibytes in _RUN_KIBIBYTES:
        changed = functools.partial(write_runs, kibibytes=kibibytes)
        yield Pair(f"raw disk, runs of {kibibytes} KiB", random_image, changed)
    if shutil.which("mke2fs") is not None:
        made = [functools.partial(ext4_image, version=version) for version in (1, 2)]
        yield Pair("ext4 image made anew", *made)
    yield Pair("tar with another file in front", tar_of_files, functools.partial(tar_of_files, front=5000))


def measure(pair: Pair, folder: Path, mebibytes: int) -> dict[str, float]:
    image = folder / "image"
    node = Idc("east", Node("regional-east"), (Node("east-1"), Node("east-2")))
    with Fleet(folder / "fleet", Node("centre"), [node], runtime="none") as fleet:
        fleet.start()
        pair.old(image, mebibytes)
        hold(fleet, image, "1")
        pair.new(image, mebibytes)
        crossed = egress(fleet)
        started = time.monotonic()
        blob, rows = hold(fleet, image, "2")
        seconds = time.monotonic() - started
        # What hosts count is payload of the content; the block map comes on top of it.
        moved = [arrived(row["contents"]) / blob.size + _MAP_SHARE for row in rows]
        return {
            "wan": (egress(fleet) - crossed) / blob.size,
            "host": max(moved),
            "summed": min((arrived(row["contents"]) + row["contents"]["reused_bytes"]) / blob.size for row in rows),
            "seconds": round(seconds, 1),
        }


def report(pair: Pair, found: dict[str, float], settings: DeltaSettings) -> bool:
    what = f"{pair.name}, {settings.mebibytes} MiB of which a tenth is new"
    for figure, value in (("WAN", found["wan"]), ("each host, worst", found["host"])):
        Figure(
            "delta",
            f"bytes over size to {figure}; {what}",
            "copies",
            round(value, 4),
            1.0,
            "the whole content",
            round(1 / value, 2),
            f"<= {_GOAL}",
            value <= _GOAL,
        ).print()
    note(f"{pair.name}: {found}")
    return max(found["wan"], found["host"]) <= _GOAL


def hold(fleet: Fleet, image: Path, version: str) -> tuple[BlobSource, list[Any]]:
    """Push it, have both hosts hold it and nothing else, and wait until they do."""
    hasher = Hasher()
    with image.open("rb") as file:
        while chunk := file.read(_MEBIBYTE):
            hasher.update(chunk)
    blob = BlobSource(hasher.digest(), hasher.size, lambda: image.open("rb"))
    for row in fleet.instances():
        fleet.client.delete(f"/api/v1/instances/{row['id']}")
    push(fleet.client, Reference.parse(f"acme/disk:{version}"), wrap(blob), lambda _digest, _held: None)
    body = {"tenant": "acme", "name": f"disk-{version}", "image": f"acme/disk:{version}", "all_hosts": True}
    fleet.client.post("/api/v1/instances", body | {"desired_state": "held"})
    return blob, [row for row in wait_verified(fleet, time.monotonic()) if row["name"] == f"disk-{version}"]


def egress(fleet: Fleet) -> int:
    """Everything that left the centre, as it counts it once a second."""
    time.sleep(2.0)
    return sum(fleet.egress().values())


def arrived(contents: dict[str, int]) -> int:
    return contents["from_centre_bytes"] + contents["from_regional_bytes"] + contents["from_peers_bytes"]


def random_image(path: Path, mebibytes: int) -> None:
    chance = random.Random(0)
    with path.open("wb") as file:
        for _ in range(mebibytes):
            file.write(chance.randbytes(_MEBIBYTE))


def write_runs(path: Path, mebibytes: int, kibibytes: int) -> None:
    """New bytes on a tenth of the image."""
    chance, run = random.Random(kibibytes), kibibytes << 10
    with path.open("r+b") as file:
        for _ in range(int(mebibytes * _MEBIBYTE * _NEW / run)):
            file.seek(chance.randrange((mebibytes * _MEBIBYTE - run) // 4096) * 4096)
            file.write(chance.randbytes(run))


def ext4_image(path: Path, mebibytes: int, version: int) -> None:
    """A file system filled to 70 % with files of 16 KiB to 4 MiB; in version 2 every tenth of them is another file, of
    another size.
    """
    with tempfile.TemporaryDirectory(prefix="ls-tree-") as folder:
        left, number = int(mebibytes * _MEBIBYTE * 0.7), 0
        while left > 0:
            chance = random.Random(f"{number}{'new' if version == 2 and number % 10 == 3 else ''}")
            size = min(int(2 ** chance.uniform(14, 22)), left)
            place = Path(folder) / f"d{number % 37}"
            place.mkdir(exist_ok=True)
            (place / f"f{number}").write_bytes(chance.randbytes(size))
            left, number = left - size, number + 1
        path.unlink(missing_ok=True)
        command = [
            "mke2fs",
            "-q",
            "-t",
            "ext4",
            "-b",
            "4096",
            "-d",
            folder,
            "-U",
            _UUID,
            "-E",
            f"hash_seed={_UUID}",
            str(path),
        ]
        subprocess.run([*command, f"{mebibytes}M"], check=True, capture_output=True, timeout=600)


def tar_of_files(path: Path, mebibytes: int, front: int = 0) -> None:
    """Files of a mebibyte, less than their headers take; before them one of `front` bytes."""
    chance = random.Random(2)
    with tarfile.open(path, "w") as archive:
        for number in range(-1 if front else 0, mebibytes - 1):
            member = tarfile.TarInfo(f"file-{number}")
            member.size = front if number < 0 else _MEBIBYTE - 512
            archive.addfile(member, io.BytesIO(bytes(front) if number < 0 else chance.randbytes(member.size)))


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        note(f"bench-delta: {failure}")
        sys.exit(1)
