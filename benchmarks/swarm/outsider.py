"""outsider: who may be in the network and knows everything about a swarm but has no right to it.

Three hosts hold a blob; at a fourth place stands an intruder with that blob's metainfo and the addresses of all its
peers. It tries with no certificate, with one of another authority for the right name, and with a rightful certificate
of the same tenant for another blob, taken from a host's disk. Each must get 0 bytes. To prove that the way was open it
then tries with what it must not have: the stolen credentials of a host that holds the blob.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.spread import wrap
from benchmarks.swarm import plan as figures
from benchmarks.swarm.contender import Arena
from benchmarks.swarm.longshore import Longshore
from benchmarks.swarm.network import Shape
from benchmarks.swarm.plan import Plan, note
from benchmarks.swarm.race import arena, make_blob
from common.digest import Digest
from common.errors import Failure
from common.reference import Reference
from control_plane.cli.image_source import BlobSource
from control_plane.cli.push import push

_MEBIBYTES = 16
_SHAPE = Shape((4,), 1000, 1000, 1000)
# Holds another blob of the same tenant, and nothing else.
_NEIGHBOUR = 3
_HOLDERS = (1, 2)
_INTRUDER = 4
_TRY_SECONDS = 6.0
_PATIENCE_SECONDS = 90.0


def measure(plan: Plan) -> bool:
    size = plan.size(_MEBIBYTES) << 20
    stolen: list[float] = []
    rightful: list[float] = []
    for number in range(1, plan.runs + 1):
        path = plan.folder / "blob"
        blob = make_blob(path, size)
        with arena(_SHAPE, plan.folder, blob, path) as place:
            side = Longshore(place, without=(_INTRUDER,), logs=plan.logs / f"outsider-{number}" if plan.logs else None)
            try:
                got = _run(place, side)
            finally:
                side.close()
        note(f"outsider {number}: bytes received {got}")
        rightful.append(got.pop("right"))
        stolen.append(max(got.values()))
    what = f"outsider: {size >> 20} MiB; no certificate, another authority's, another blob's"
    met = figures.most(f"bytes an outsider got, worst of all tries; {what}", "bytes", [max(stolen)], 0, [], None)
    return met & figures.least(
        f"bytes with a holder's credentials, as a proof; {what}", "bytes", rightful, size, [], None
    )


def _run(place: Arena, side: Longshore) -> dict[str, int]:
    fleet = side.fleet
    fleet.start()
    other_path = place.folder / "other"
    other = make_blob(other_path, place.blob.size)
    for reference, blob in (("acme/blob:1", place.blob), ("acme/other:1", other)):
        push(fleet.client, Reference.parse(reference), wrap(blob), lambda _digest, _held: None)
    side.request_on("acme/blob:1", list(_HOLDERS), "blob")
    side.request_on("acme/other:1", [_NEIGHBOUR], "other")
    for number, blob in ((_HOLDERS[0], place.blob), (_HOLDERS[1], place.blob), (_NEIGHBOUR, other)):
        _wait(side, number, blob)
    time.sleep(2.0)
    return _intrude(place, side)


def _intrude(place: Arena, side: Longshore) -> dict[str, int]:
    network = place.network
    holder = side.fleet.root / network.host(_HOLDERS[0]).name
    neighbour = side.fleet.root / network.host(_NEIGHBOUR).name
    (metainfo,) = holder.glob(f"swarm/sha256-{place.blob.digest.hex}.*")
    peers = [
        (network.host(number).address, side.fleet.services[network.host(number).name].facts["peer_port"])
        for number in _HOLDERS
    ]
    folder = place.folder / "intruder"
    shutil.rmtree(folder, ignore_errors=True)
    task: dict[str, Any] = {
        "address": network.host(_INTRUDER).address,
        "folder": str(folder),
        "metainfo": str(metainfo),
        "peers": peers,
        "seconds": _TRY_SECONDS,
        "right": _credentials(holder),
        "wrong name": _credentials(neighbour),
    }
    command = [*network.host(_INTRUDER).prefix, sys.executable, "-m", "benchmarks.swarm.intruder"]
    done = subprocess.run(command, input=json.dumps(task).encode(), capture_output=True, timeout=120, check=False)
    if done.returncode:
        raise Failure(f"the intruder failed: {done.stderr.decode()[-1500:]}")
    found: dict[str, int] = json.loads(done.stdout)
    return found


def _credentials(data: Path) -> dict[str, str]:
    """Of a host, from its disk: key and certificate."""
    (certificate,) = (data / "credentials").glob("*.crt")
    return {"certificate": str(certificate), "key": str(data / "credentials" / "key.pem")}


def _wait(side: Longshore, number: int, blob: BlobSource) -> None:
    digest: Digest = blob.digest
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not side.content(number, digest).exists():
        if time.monotonic() > deadline:
            raise Failure(f"host {number} does not hold {digest} after {_PATIENCE_SECONDS:.0f} s")
        time.sleep(0.05)
