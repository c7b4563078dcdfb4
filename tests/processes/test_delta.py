"""A new version of a disk image over real processes: the WAN and every host carry what is new in it, also when the
regional dies while it copies the rest.
"""

import random
import time
from pathlib import Path

from common.digest import Digest
from control_plane.cli.image_source import BlobSource
from deploy.demo.fleet import Fleet
from tests.processes.fleets import held_digests, push_blob, remove_everything, request_everywhere, wait_verified

MEBIBYTE = 1 << 20
SIZE = 48 * MEBIBYTE


def as_blob(path: Path, data: bytes) -> BlobSource:
    path.write_bytes(data)
    return BlobSource(Digest.of(data), len(data), lambda: path.open("rb"))


def egress(fleet: Fleet) -> dict[str, int]:
    time.sleep(2.0)  # the centre writes its counters once a second
    return fleet.egress()


def test_a_tenth_of_an_image_changed_and_a_tenth_of_it_moves(shared_fleet: Fleet, tmp_path: Path) -> None:
    fleet, chance = shared_fleet, random.Random(1)
    old = chance.randbytes(SIZE)
    push_blob(fleet, as_blob(tmp_path / "old", old), "acme/disk:1")
    request_everywhere(fleet, "acme/disk:1", "disk-1")
    wait_verified(fleet)
    remove_everything(fleet)
    before = egress(fleet)

    new = bytearray(old)
    for place in chance.sample(range(SIZE // 4096), SIZE // 40960):
        new[place * 4096 : place * 4096 + 16] = chance.randbytes(16)
    blob = as_blob(tmp_path / "new", bytes(new))
    push_blob(fleet, blob, "acme/disk:2")
    request_everywhere(fleet, "acme/disk:2", "disk-2")
    kill_while_copying(fleet, "regional-east", blob.digest)
    rows = wait_verified(fleet)

    after = egress(fleet)
    assert after["west"] - before["west"] < 0.11 * SIZE
    # What the killed regional had in flight crosses once more: at most one answer for parts.
    assert after["east"] - before["east"] < 0.25 * SIZE
    for row in rows:
        contents = row["contents"]
        arrived = sum(contents[f"from_{source}_bytes"] for source in ("centre", "regional", "peers"))
        assert arrived < 0.2 * SIZE
        assert arrived + contents["reused_bytes"] >= SIZE
    for host in ("east-1", "west-1"):
        assert blob.digest in held_digests(fleet.services[host].data)


def kill_while_copying(fleet: Fleet, regional: str, digest: Digest) -> None:
    service = fleet.services[regional]
    partial = service.data / "cache" / "partial" / f"sha256-{digest.hex}"
    deadline = time.monotonic() + 30
    while not partial.exists():
        assert time.monotonic() < deadline, service.log_tail()
        time.sleep(0.01)
    service.kill()
    service.start()
