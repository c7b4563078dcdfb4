"""An IDC whose regional is dead: its hosts lease from the centre, and one copy crosses the WAN for all of them."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.digest import Digest
from control_plane.cli.image_source import BlobSource
from deploy.demo.fleet import Fleet, Idc, Node
from tests.processes.fleets import held_digests, push_blob, request_everywhere, wait_verified

SIZE = 24 << 20
HOSTS = 3


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    west = Idc("west", Node("regional-west"), tuple(Node(f"west-{number}") for number in range(HOSTS)))
    with Fleet(tmp_path / "fleet", Node("centre"), [west], runtime="none") as built:
        built.start()
        yield built


def test_hosts_without_a_regional_share_one_copy(fleet: Fleet, tmp_path: Path) -> None:
    data, path = os.urandom(SIZE), tmp_path / "blob"
    path.write_bytes(data)
    blob = BlobSource(Digest.of(data), SIZE, lambda: path.open("rb"))
    push_blob(fleet, blob, "acme/alone:1")
    fleet.services["regional-west"].kill()
    request_everywhere(fleet, "acme/alone:1", "alone")
    rows = wait_verified(fleet)
    time.sleep(2.0)  # the centre writes its counters once a second
    sent = fleet.egress().get("west", 0)
    assert len(rows) == HOSTS
    assert SIZE <= sent < 1.3 * SIZE
    assert all(blob.digest in held_digests(fleet.services[row["host"]].data) for row in rows)
