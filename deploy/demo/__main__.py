"""`python -m deploy.demo`: push one image, watch it spread to two data centres, run it, and print the proof.

Settings from the environment: `IMAGE` (an OCI layout, a docker save archive, or an image of the local Docker engine),
`DEMO_EXIT=1` (stop after the proof), `DEMO_DATA` (where everything lies; a fresh temporary directory otherwise),
`DOCKER_HOST`. Exit code 0 only if every host has the image verified, and running and healthy where an engine answers.
What it put into the engine is removed at the end.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict
from rich.console import Console
from rich.live import Live

from common.errors import Failure
from common.reference import Reference
from control_plane.cli.docker_engine import save_image
from control_plane.cli.image_source import ManifestSource, open_image
from control_plane.cli.output import size_text
from control_plane.cli.push import push
from deploy.demo.fleet import Fleet, Idc, Node
from deploy.demo.sample import build_sample
from deploy.demo.sweeping import sweep
from deploy.demo.table import Rates, Row, picture, proof, settled

# Without any change on any host. The engine unpacks a gigabyte in less.
_STALLED_SECONDS = 90.0
# What has no health check counts as running after this long without a restart: agents look every 3 s.
_STEADY_SECONDS = 4.0
_ANY_MANIFEST = {
    "Accept": "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
}
console = Console(highlight=False)


class DemoSettings(BaseSettings):
    model_config = SettingsConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    image: str = Field(default="", validation_alias="IMAGE")
    exit_after: bool = Field(default=False, validation_alias="DEMO_EXIT")
    data: Path | None = Field(default=None, validation_alias="DEMO_DATA")
    docker_host: str = Field(default="unix:///var/run/docker.sock", validation_alias="DOCKER_HOST")


def main() -> int:
    settings = DemoSettings()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with _directory(settings.data) as root:
            return _demo(root, settings)
    except KeyboardInterrupt:
        return 130
    except Failure as failure:
        console.print(f"The demo failed: {failure}", style="red", markup=False)
        return 1


def _demo(root: Path, settings: DemoSettings) -> int:
    fleet = _fleet(root, settings)
    try:
        with fleet:
            return _run(fleet, settings)
    finally:
        sweep(settings.docker_host, [one.facts for one in fleet.services.values() if "host_id" in one.facts])


def _run(fleet: Fleet, settings: DemoSettings) -> int:
    started = time.monotonic()
    image, runnable = _image(settings.image, fleet.root)  # first: a wrong name is said at once
    console.print("Starting one control plane, two regionals and four agents ...")
    fleet.start()
    console.print(f"All of it is up after {time.monotonic() - started:.1f} s. Control plane: {fleet.url}")
    reference = Reference.parse("acme/demo:1")
    size = sum(blob.size for blob in image.all_blobs()) + len(image.payload)
    push(fleet.client, reference, image, lambda _digest, _held: None)
    console.print(f"Pushed {reference}: {size_text(size)}.")
    runs = _may_run(fleet, runnable)
    request = {"tenant": "acme", "name": "demo", "image": str(reference), "all_hosts": True, "stop_grace_seconds": 2}
    fleet.client.post("/api/v1/instances", {**request, "desired_state": "running" if runs else "held"})
    console.print()
    rows = _watch(fleet)
    console.print(f"\nDone {time.monotonic() - started:.1f} s after the start.\n")
    table, good = proof(rows, fleet.egress(), _digests(fleet, reference, rows[0]["digest"]))
    console.print(table)
    if not good:
        console.print("A promise was not kept: see the table.", style="red")
        return 1
    if not settings.exit_after:
        _stay(fleet)
    return 0


def _may_run(fleet: Fleet, runnable: bool) -> bool:
    if not _engine_answers(fleet):
        console.print("No Docker engine answers: the image is spread and verified, not run.")
    elif not runnable:
        console.print("The sample's program is made for x86-64: the image is spread and verified, not run.")
    else:
        return True
    return False


def _watch(fleet: Fleet) -> Sequence[Row]:
    """Until every host is where it shall be. On a terminal the table lives; otherwise it is printed once, at last."""
    rates, rows = Rates.new(), fleet.instances()
    changed = time.monotonic()
    live = Live(console=console, auto_refresh=False) if console.is_terminal else None
    with live or contextlib.nullcontext():
        while not _done(rows, time.monotonic() - changed):
            time.sleep(0.25)
            before, rows = rows, fleet.instances()
            changed = time.monotonic() if _standing(rows) != _standing(before) else changed
            if live is not None:
                live.update(picture(rows, rates, time.monotonic()), refresh=True)
            _raise_if_ended(fleet)
            if time.monotonic() - changed > _STALLED_SECONDS:
                break
    if live is None:
        console.print(picture(rows, rates, time.monotonic()))
    if not all(settled(row) for row in rows):
        raise Failure(f"nothing has changed for {_STALLED_SECONDS:.0f} s", action=f"see the logs in {fleet.root}")
    return rows


def _done(rows: Sequence[Row], unchanged_seconds: float) -> bool:
    patience = _STEADY_SECONDS if any(row["phase"] == "running" and row["health"] == "none" for row in rows) else 0
    return bool(rows) and all(settled(row) for row in rows) and unchanged_seconds >= patience


def _standing(rows: Sequence[Row]) -> list[tuple[str, int, bool]]:
    """What counts as a change: bytes, and being done."""
    return sorted((row["id"], row["contents"]["held_bytes"], settled(row)) for row in rows)


def _raise_if_ended(fleet: Fleet) -> None:
    for service in fleet.services.values():
        if not service.running:
            raise Failure(f"{service.name} ended:\n{service.log_tail()}")


def _digests(fleet: Fleet, reference: Reference, manifest: str) -> int:
    """How many contents a host holds of this image: the manifest of its platform, the configuration, the layers."""
    answer = fleet.client.raw("GET", f"/v2/{reference.repository}/manifests/{manifest}", headers=_ANY_MANIFEST)
    document: dict[str, Any] = json.loads(answer.data)
    return 1 + len({part["digest"] for part in (document["config"], *document["layers"])})


def _stay(fleet: Fleet) -> None:
    console.print(f"\nIt stays up until you press Ctrl-C. Console and API: {fleet.url}")
    console.print(f"Log in as admin with the one-time password {fleet.password}", markup=False)
    console.print(f"  .venv/bin/longshore --server {fleet.url} login -u admin")
    while True:
        _raise_if_ended(fleet)
        time.sleep(0.5)


def _image(source: str, root: Path) -> tuple[ManifestSource, bool]:
    """With the word whether the engine here could start it; other images than the sample are taken at their word."""
    scratch = root / "image"
    scratch.mkdir()
    if not source:
        sample = build_sample(scratch / "sample")
        return open_image(sample.layout, scratch), sample.runnable
    path = Path(source)
    if not path.exists():
        path = scratch / "docker-save.tar"
        save_image(source, path)
    return open_image(path, scratch), True


def _engine_answers(fleet: Fleet) -> bool:
    hosts = fleet.client.every("/api/v1/hosts")
    return all(any(engine["kind"] == "docker" for engine in row["facts"]["engines"]) for row in hosts)


def _fleet(root: Path, settings: DemoSettings) -> Fleet:
    idcs = [
        Idc(name, Node(f"regional-{name}"), tuple(Node(f"{name}-{number}") for number in (1, 2)))
        for name in ("east", "west")
    ]
    return Fleet(root, Node("centre"), idcs, docker_host=settings.docker_host)


@contextlib.contextmanager
def _directory(wanted: Path | None) -> Iterator[Path]:
    if wanted is not None:
        wanted.mkdir(parents=True, exist_ok=True)
        yield wanted
        return
    path = Path(tempfile.mkdtemp(prefix="longshore-demo-"))
    try:
        yield path
    except Failure:
        _forget(path, keep_logs=True)  # the message sends people there
        raise
    except BaseException:
        _forget(path)
        raise
    _forget(path)


def _forget(path: Path, *, keep_logs: bool = False) -> None:
    for entry in path.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        elif not (keep_logs and entry.suffix == ".log"):
            entry.unlink()
    if not any(path.iterdir()):
        path.rmdir()


if __name__ == "__main__":
    sys.exit(main())
