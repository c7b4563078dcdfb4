"""A blob from the centre to 2 IDCs x 4 hosts: what crosses the WAN, and how long until the last host has it verified.

Longshore (real control plane, regionals, agents as processes in namespaces) against plain HTTP: nginx at the centre,
curl on every host, all at once. Alternated; median of the runs. Environment: `SPREAD_RUNS` (3), `SPREAD_MIB` (96).
"""

from __future__ import annotations

import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from benchmarks.figures import Figure
from benchmarks.links import Links, Plan, shaped_links
from common.digest import Digest, Hasher
from common.errors import Failure
from common.reference import Reference
from control_plane.cli.image_source import BlobSource, ManifestSource
from control_plane.cli.push import push
from deploy.demo.fleet import Fleet, Idc

_LIMIT_SECONDS = 300.0


class SpreadSettings(BaseSettings):
    model_config = SettingsConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    runs: int = Field(default=3, validation_alias="SPREAD_RUNS", ge=1)
    mebibytes: int = Field(default=96, validation_alias="SPREAD_MIB", ge=4)


def main() -> int:
    settings = SpreadSettings()
    missing = [name for name in ("ip", "tc", "nsenter", "nginx", "curl") if shutil.which(name) is None]
    if os.geteuid() != 0 or missing:
        note(f"needs root, and {', '.join(missing)}: apt-get install iproute2 util-linux nginx-light curl")
        return 2
    plan = Plan()
    ours: list[dict[str, float]] = []
    plain: list[dict[str, float]] = []
    for number in range(settings.runs):
        with tempfile.TemporaryDirectory(prefix="ls-spread-", dir="/dev/shm") as folder:
            blob = make_blob(Path(folder) / "blob", settings.mebibytes)
            plain.append(over_http(plan, Path(folder), blob))
            note(f"run {number + 1}: plain HTTP {plain[-1]}")
            ours.append(over_longshore(plan, Path(folder), blob))
            note(f"run {number + 1}: Longshore {ours[-1]}")
    report(ours, plain, settings)
    return 0


def report(ours: list[dict[str, float]], plain: list[dict[str, float]], settings: SpreadSettings) -> None:
    copies = statistics.median(run["copies"] for run in ours)
    peer_copies = statistics.median(run["copies"] for run in plain)
    links = statistics.median(run["wan_copies"] for run in ours)
    peer_links = statistics.median(run["wan_copies"] for run in plain)
    seconds = statistics.median(run["seconds"] for run in ours)
    peer_seconds = statistics.median(run["seconds"] for run in plain)
    what = f"{settings.mebibytes} MiB to 2 IDCs x 4 hosts, WAN 50, LAN 100 Mbit/s, RTT not emulated"
    Figure(
        "spread",
        f"origin payload bytes per IDC / blob bytes, worst IDC; {what}",
        "copies",
        round(copies, 4),
        round(peer_copies, 4),
        "plain HTTP from the centre (nginx, curl)",
        round(peer_copies / copies, 3),
        "<= 1.05",
        copies <= 1.05,
    ).print()
    Figure(
        "spread",
        f"bytes on the WAN link per IDC / blob bytes, with headers, worst IDC; {what}",
        "copies",
        round(links, 4),
        round(peer_links, 4),
        "plain HTTP from the centre (nginx, curl)",
        round(peer_links / links, 3),
        "<= 1.10, with TCP/IP headers",
        links <= 1.10,
    ).print()
    Figure(
        "spread",
        f"makespan, request to last host verified; {what}",
        "seconds",
        round(seconds, 2),
        round(peer_seconds, 2),
        "plain HTTP from the centre (nginx, curl)",
        round(peer_seconds / seconds, 3),
        "faster than HTTP",
        seconds < peer_seconds,
    ).print()


def make_blob(path: Path, mebibytes: int) -> BlobSource:
    hasher = Hasher()
    with path.open("wb") as file:
        for _ in range(mebibytes):
            chunk = os.urandom(1 << 20)
            hasher.update(chunk)
            file.write(chunk)
    return BlobSource(hasher.digest(), hasher.size, lambda: path.open("rb"))


def over_http(plan: Plan, folder: Path, blob: BlobSource) -> dict[str, float]:
    with shaped_links(plan) as links:
        configuration = folder / "nginx.conf"
        configuration.write_text(
            f"user root; worker_processes 1; daemon off; error_log {folder}/nginx.log; pid {folder}/nginx.pid;"
            "events { worker_connections 256; }"
            f"http {{ sendfile on; access_log off; server {{ listen {links.centre.address}:8080; root {folder}; }} }}"
        )
        nginx = subprocess.Popen([*links.centre.prefix, "nginx", "-c", str(configuration)], stderr=subprocess.DEVNULL)
        try:
            time.sleep(0.5)
            before = {idc: links.wan_bytes(idc) for idc in plan.idcs}
            started = time.monotonic()
            targets = [
                (folder / f"copy-{idc}-{number}", links.node(idc, number))
                for idc in plan.idcs
                for number in range(1, plan.hosts + 1)
            ]
            url = f"http://{links.centre.address}:8080/blob"
            curls = [
                subprocess.Popen([*node.prefix, "curl", "-sf", "--max-time", str(_LIMIT_SECONDS), "-o", str(path), url])
                for path, node in targets
            ]
            if any(curl.wait() for curl in curls):
                raise Failure("a curl failed")
            received = 0
            for path, _ in targets:
                blob.digest.verify(digest_of(path))
                received += path.stat().st_size
                path.unlink()
            seconds = time.monotonic() - started
            copies = received / len(plan.idcs) / blob.size
            return {"seconds": round(seconds, 2), "copies": copies, "wan_copies": worst(links, before, blob.size)}
        finally:
            nginx.terminate()
            nginx.wait(10)


def over_longshore(plan: Plan, folder: Path, blob: BlobSource) -> dict[str, float]:
    with shaped_links(plan) as links:
        idcs = [
            Idc(idc, links.node(idc, 0), tuple(links.node(idc, number) for number in range(1, plan.hosts + 1)))
            for idc in plan.idcs
        ]
        with Fleet(folder / "fleet", links.centre, idcs, runtime="none") as fleet:
            fleet.start()
            image = wrap(blob)
            push(fleet.client, Reference.parse("acme/blob:1"), image, lambda _digest, _held: None)
            before = {idc: links.wan_bytes(idc) for idc in plan.idcs}
            started = time.monotonic()
            body = {
                "tenant": "acme",
                "name": "blob",
                "image": "acme/blob:1",
                "all_hosts": True,
                "desired_state": "held",
            }
            fleet.client.post("/api/v1/instances", body)
            rows = wait_verified(fleet, started)
            seconds = time.monotonic() - started
            wan = worst(links, before, blob.size)
            time.sleep(1.5)  # the egress counters are flushed once a second
            copies = max(fleet.egress().get(idc, 0) for idc in plan.idcs) / blob.size
            peers = sum(row["contents"]["from_peers_bytes"] for row in rows) / blob.size
            return {"seconds": round(seconds, 2), "copies": copies, "wan_copies": wan, "peer_copies": round(peers, 2)}


def wait_verified(fleet: Fleet, started: float) -> list[Mapping[str, Any]]:
    while True:
        rows = fleet.instances()
        if rows and all(row["contents"]["verified"] for row in rows):
            return list(rows)
        if time.monotonic() - started > _LIMIT_SECONDS:
            raise Failure(f"not spread after {_LIMIT_SECONDS:.0f} s: {rows}")
        time.sleep(0.1)


def wrap(blob: BlobSource) -> ManifestSource:
    """The blob as the only layer of an image."""
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}).encode()
    config_digest = Digest.of(config)
    media = "application/vnd.oci.image"
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{media}.manifest.v1+json",
        "config": {"mediaType": f"{media}.config.v1+json", "digest": str(config_digest), "size": len(config)},
        "layers": [{"mediaType": f"{media}.layer.v1.tar", "digest": str(blob.digest), "size": blob.size}],
    }
    payload = json.dumps(manifest).encode()
    small = BlobSource(config_digest, len(config), lambda: io.BytesIO(config))
    return ManifestSource(Digest.of(payload), f"{media}.manifest.v1+json", payload, (small, blob))


def worst(links: Links, before: Mapping[str, int], size: int) -> float:
    return round(max(links.wan_bytes(idc) - before[idc] for idc in before) / size, 4)


def digest_of(path: Path) -> Digest:
    hasher = Hasher()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            hasher.update(chunk)
    return hasher.digest()


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
