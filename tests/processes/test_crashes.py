"""Kill -9 any one process while an image spreads, start it again: the job completes and nothing is fetched twice.

"Twice" is measured at the WAN link by the kernel. What may come again is what was in flight: the pieces that were not yet
whole when the process died.
"""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.links import Links
from benchmarks.spread import make_blob, wrap
from common.bittorrent.metainfo import piece_length_for
from common.digest import Digest, Hasher
from common.reference import Reference
from control_plane.cli.push import push
from deploy.demo.fleet import Fleet

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

MEBIBYTES = 40
# Ethernet, IP and TCP headers are 4.5 % of full segments; metainfo, heartbeats and reports the rest.
OVERHEAD = 1.07
# Web seeds and regionals ask for a few pieces at a time; all of those may be lost with the process.
PIECES_IN_FLIGHT = 12


@pytest.mark.parametrize("victim", ["control-plane", "regional-east", "east-1"])
def test_a_killed_process_comes_back_and_the_spread_completes(
    victim: str, shaped_fleet: Fleet, links: Links, tmp_path: Path
) -> None:
    fleet = shaped_fleet
    blob = make_blob(tmp_path / "blob", MEBIBYTES)
    push(fleet.client, Reference.parse("acme/blob:1"), wrap(blob), lambda _digest, _held: None)
    before = {idc.name: links.wan_bytes(idc.name) for idc in fleet.idcs}
    request_everywhere(fleet, "acme/blob:1")

    wait_until_wan(links, before, "east", 0.35 * blob.size)
    fleet.services[victim].kill()
    time.sleep(0.5)
    fleet.services[victim].start()
    rows = wait_verified(fleet)

    assert len(rows) == 4
    for idc in fleet.idcs:
        for host in idc.hosts:
            assert held_digests(fleet.root / host.name) >= {blob.digest}
        crossed = links.wan_bytes(idc.name) - before[idc.name]
        again = PIECES_IN_FLIGHT * piece_length_for(blob.size)
        assert crossed <= OVERHEAD * blob.size + again, f"{idc.name}: {crossed / blob.size:.3f} copies crossed the WAN"


def test_a_host_that_lost_power_before_it_heard_of_the_image_catches_up(local_fleet: Fleet, tmp_path: Path) -> None:
    fleet = local_fleet
    blob = make_blob(tmp_path / "blob", 8)
    push(fleet.client, Reference.parse("acme/blob:1"), wrap(blob), lambda _digest, _held: None)
    fleet.services["east-1"].kill()
    request_everywhere(fleet, "acme/blob:1")
    fleet.services["east-1"].start()
    wait_verified(fleet)
    assert blob.digest in held_digests(fleet.root / "east-1")


def test_what_is_held_is_served_while_the_centre_is_away(local_fleet: Fleet, tmp_path: Path) -> None:
    fleet = local_fleet
    blob = make_blob(tmp_path / "blob", 8)
    push(fleet.client, Reference.parse("acme/blob:1"), wrap(blob), lambda _digest, _held: None)
    request_everywhere(fleet, "acme/blob:1")
    wait_verified(fleet)
    fleet.services["east-1"].kill()
    fleet.control_plane.kill()
    lose_content(fleet.root / "east-1")
    fleet.services["east-1"].start()
    deadline = time.monotonic() + 60
    while blob.digest not in held_digests(fleet.root / "east-1"):
        assert time.monotonic() < deadline, fleet.services["east-1"].log_tail()
        time.sleep(0.1)


def request_everywhere(fleet: Fleet, image: str) -> None:
    body = {"tenant": "acme", "name": "blob", "image": image, "all_hosts": True, "desired_state": "held"}
    fleet.client.post("/api/v1/instances", body)


def wait_until_wan(links: Links, before: dict[str, int], idc: str, wanted: float) -> None:
    deadline = time.monotonic() + 60
    while links.wan_bytes(idc) - before[idc] < wanted:
        assert time.monotonic() < deadline, "nothing crosses the WAN"
        time.sleep(0.02)


def wait_verified(fleet: Fleet, seconds: float = 120) -> list[dict[str, Any]]:
    deadline = time.monotonic() + seconds
    while True:
        rows = fleet.instances()
        if rows and all(row["contents"]["verified"] for row in rows):
            return rows
        logs = {name: service.log_tail()[-600:] for name, service in fleet.services.items()}
        assert time.monotonic() < deadline, json.dumps(rows, indent=1) + "\n".join(f"{k}: {v}" for k, v in logs.items())
        time.sleep(0.2)


def held_digests(data: Path) -> set[Digest]:
    """Every content file of an agent, named by what its bytes really are; a wrong name fails."""
    found = set()
    for path in (data / "content" / "sha256").glob("*/*"):
        if len(path.name) != 64:
            continue
        hasher = Hasher()
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                hasher.update(chunk)
        assert hasher.digest().hex == path.name, f"{path} holds other bytes than its name says"
        found.add(hasher.digest())
    return found


def lose_content(data: Path) -> None:
    for area in ("content", "swarm"):
        for path in (data / area).rglob("*"):
            if path.is_file():
                path.unlink()
