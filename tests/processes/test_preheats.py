"""A preheat in a whole fleet: the host that it chose holds the image, no faster than its line may be used."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from common.digest import Digest
from control_plane.cli.image_source import BlobSource
from deploy.demo.fleet import Fleet, Idc, Node
from tests.pace import BUSY_SECONDS
from tests.processes.fleets import held_digests, push_blob

SIZE = 16 << 20
MBPS = 40  # 5 MB/s


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    east = Idc("east", Node("regional-east"), (Node("east-1"), Node("east-2")))
    with Fleet(tmp_path / "fleet", Node("centre"), [east], runtime="none") as built:
        built.start()
        yield built


def until(condition: Callable[[], Any], seconds: float = 40) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come to be in time"
        time.sleep(0.05)
    return found


def test_a_preheat_reaches_the_labelled_host_within_the_limit_of_its_line(fleet: Fleet, tmp_path: Path) -> None:
    data, path = os.urandom(SIZE), tmp_path / "blob"
    path.write_bytes(data)
    blob = BlobSource(Digest.of(data), SIZE, lambda: path.open("rb"))
    push_blob(fleet, blob, "acme/warm:1")
    client = fleet.client
    client.put("/api/v1/hosts/east/east-1/labels", {"labels": {"rack": "r1"}})
    client.put("/api/v1/idcs/east/limits", {"host_down_mbps": MBPS, "regional_up_mbps": 10 * MBPS})
    for name, service in fleet.services.items():
        if "east" in name:
            until(lambda service=service: "limits received" in service.log_tail())  # type: ignore[misc]

    began = time.monotonic()
    body = {"image": "acme/warm:1", "targets": {"labels": {"rack": "r1"}}}
    made = client.post("/api/v1/preheats", body)["data"]
    progress = f"/api/v1/preheats/{made['id']}"
    until(lambda: all(row["held"] for row in client.every(f"{progress}/hosts")))
    took = time.monotonic() - began
    assert SIZE / (MBPS * 125_000) * 0.85 < took < 15 + BUSY_SECONDS

    (idc,) = client.get(progress)["data"]["idcs"]
    assert (idc["hosts"], idc["hosts_held"], idc["regional_bytes"]) == (1, 1, idc["total_bytes"])
    assert blob.digest in held_digests(fleet.services["east-1"].data)
    assert blob.digest not in held_digests(fleet.services["east-2"].data)
    (spread,) = [row for row in client.every("/api/v1/swarm/spreads") if row["digest"] == str(blob.digest)]
    assert spread["binding"] == "slowest host east"
    assert 0.4 < spread["efficiency"] <= 1.05

    client.delete(progress)
    until(lambda: not client.every("/api/v1/swarm/orders", idc="east"))
