"""Kill -9 any one process while an image spreads, start it again: the job completes, and what was there is not fetched
anew.

That is measured at the WAN link by the kernel. How little comes again is for `make bench-swarm` (churn): hosts that do
not hear of their regional for seconds ask the centre, and on a busy machine they may not hear of it while it lives.
"""

import time
from pathlib import Path

import pytest

from benchmarks.links import Links
from benchmarks.spread import make_blob
from deploy.demo.fleet import Fleet
from tests.processes.fleets import (
    held_digests,
    lose_content,
    push_blob,
    request_everywhere,
    wait_until_wan,
    wait_verified,
)

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

MEBIBYTES = 40
KILLED_AT = 0.6
# A spread that begins anew crosses 1.6 times. Measured: 1.00 to 1.05, and up to 1.28 on a machine whose processes were
# all stopped for seconds, again and again.
MOST_COPIES = 1.45


@pytest.mark.parametrize("victim", ["control-plane", "regional-east", "east-1"])
def test_a_killed_process_comes_back_and_the_spread_completes(
    victim: str, shaped_fleet: Fleet, links: Links, tmp_path: Path
) -> None:
    fleet = shaped_fleet
    blob = make_blob(tmp_path / "blob", MEBIBYTES)
    push_blob(fleet, blob)
    before = {idc.name: links.wan_bytes(idc.name) for idc in fleet.idcs}
    request_everywhere(fleet, "acme/blob:1")

    wait_until_wan(links, before, "east", KILLED_AT * blob.size)
    fleet.services[victim].kill()
    time.sleep(0.5)
    fleet.services[victim].start()
    rows = wait_verified(fleet)

    assert len(rows) == 4
    for idc in fleet.idcs:
        for host in idc.hosts:
            assert held_digests(fleet.root / host.name) >= {blob.digest}
        crossed = links.wan_bytes(idc.name) - before[idc.name]
        print(f"{victim} killed: {crossed / blob.size:.4f} copies crossed to {idc.name}")
        assert crossed <= MOST_COPIES * blob.size, f"{idc.name}: {crossed / blob.size:.3f} copies crossed the WAN"


def test_a_host_that_lost_power_before_it_heard_of_the_image_catches_up(local_fleet: Fleet, tmp_path: Path) -> None:
    fleet = local_fleet
    blob = make_blob(tmp_path / "blob", 8)
    push_blob(fleet, blob)
    fleet.services["east-1"].kill()
    request_everywhere(fleet, "acme/blob:1")
    fleet.services["east-1"].start()
    wait_verified(fleet)
    assert blob.digest in held_digests(fleet.root / "east-1")


def test_what_is_held_is_served_while_the_centre_is_away(local_fleet: Fleet, tmp_path: Path) -> None:
    fleet = local_fleet
    blob = make_blob(tmp_path / "blob", 8)
    push_blob(fleet, blob)
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
