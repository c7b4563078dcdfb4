"""What the tests of whole fleets do and look at."""

import json
import time
from pathlib import Path
from typing import Any

from benchmarks.links import Links
from benchmarks.spread import wrap
from common.digest import Digest, Hasher
from common.reference import Reference
from control_plane.cli.image_source import BlobSource
from control_plane.cli.push import push
from deploy.demo.fleet import Fleet


def push_blob(fleet: Fleet, blob: BlobSource, reference: str = "acme/blob:1") -> Digest:
    return push(fleet.client, Reference.parse(reference), wrap(blob), lambda _digest, _held: None)


def request_everywhere(fleet: Fleet, image: str, name: str = "blob") -> None:
    body = {"tenant": "acme", "name": name, "image": image, "all_hosts": True, "desired_state": "held"}
    fleet.client.post("/api/v1/instances", body)


def request_on(fleet: Fleet, image: str, host: str, name: str = "blob") -> None:
    body = {"tenant": "acme", "name": name, "image": image, "hosts": [host], "desired_state": "held"}
    fleet.client.post("/api/v1/instances", body)


def instance_on(fleet: Fleet, host: str) -> dict[str, Any]:
    (row,) = [row for row in fleet.instances() if row["host"] == host]
    return dict(row)


def remove_everything(fleet: Fleet) -> None:
    """Leave the fleet without instances: every host has reported that nothing is left."""
    for row in fleet.instances():
        fleet.client.delete(f"/api/v1/instances/{row['id']}")
    deadline = time.monotonic() + 30
    while fleet.instances():
        assert time.monotonic() < deadline, fleet.instances()
        time.sleep(0.1)


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
