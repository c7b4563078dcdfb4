"""`python -m deploy.demo`: push one image, watch it spread to two data centres, run it, and print the proof.

Settings from the environment: `IMAGE` (an OCI layout, a docker save archive, or an image of the local Docker engine),
`DEMO_EXIT=1` (stop after the proof), `DEMO_DATA` (where everything lies; a fresh temporary directory otherwise),
`DOCKER_HOST`. Exit code 0 only if every host has the image verified, and running and healthy where an engine answers.
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
from deploy.demo.table import Rates, picture, proof, settled

_SPREAD_SECONDS = 110.0
console = Console(highlight=False)


class DemoSettings(BaseSettings):
    model_config = SettingsConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    image: str = Field(default="", validation_alias="IMAGE")
    exit_after: bool = Field(default=False, validation_alias="DEMO_EXIT")
    data: Path | None = Field(default=None, validation_alias="DEMO_DATA")
    docker_host: str = Field(default="", validation_alias="DOCKER_HOST")


def main() -> int:
    settings = DemoSettings()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with _directory(settings.data) as root, _fleet(root, settings) as fleet:
            return _run(fleet, settings)
    except KeyboardInterrupt:
        return 130
    except Failure as failure:
        console.print(f"The demo failed: {failure}", style="red", markup=False)
        return 1


def _run(fleet: Fleet, settings: DemoSettings) -> int:
    started = time.monotonic()
    console.print("Starting one control plane, two regionals and four agents ...")
    fleet.start()
    console.print(f"All of it is up after {time.monotonic() - started:.1f} s. Control plane: {fleet.url}")
    reference = Reference.parse("acme/demo:1")
    image = _image(settings.image, fleet.root)
    size = sum(blob.size for blob in image.all_blobs()) + len(image.payload)
    digests = len(list(image.all_blobs())) + 1
    push(fleet.client, reference, image, lambda _digest, _held: None)
    console.print(f"Pushed {reference}: {size_text(size)} in {digests} contents.")
    runs = _engine_answers(fleet) and image_runs(image)
    fleet.client.post(
        "/api/v1/instances",
        {
            "tenant": "acme",
            "name": "demo",
            "image": str(reference),
            "all_hosts": True,
            "desired_state": "running" if runs else "held",
        },
    )
    if not runs:
        console.print("No Docker engine answers: the image is spread and verified, not run.")
    _watch(fleet)
    console.print(f"Done {time.monotonic() - started:.1f} s after the start.\n")
    table, good = proof(fleet.instances(), fleet.egress(), size, digests)
    console.print(table)
    if not good:
        console.print("A promise was not kept: see the table.", style="red")
        return 1
    if not settings.exit_after:
        _stay(fleet)
    return 0


def _watch(fleet: Fleet) -> None:
    rates, deadline = Rates.new(), time.monotonic() + _SPREAD_SECONDS
    with Live(console=console, auto_refresh=False) as live:
        while True:
            rows = fleet.instances()
            live.update(picture(rows, rates, time.monotonic()), refresh=True)
            if rows and all(settled(row) for row in rows):
                return
            for service in fleet.services.values():
                if not service.running:
                    raise Failure(f"{service.name} ended:\n{service.log_tail()}")
            if time.monotonic() > deadline:
                raise Failure(f"not done after {_SPREAD_SECONDS:.0f} s", action=f"see the logs in {fleet.root}")
            time.sleep(0.25)


def _stay(fleet: Fleet) -> None:
    console.print(f"\nIt stays up until you press Ctrl-C. Console and API: {fleet.url}")
    console.print(f"Log in as admin with the one-time password {fleet.password}", markup=False)
    console.print(f"  .venv/bin/longshore --server {fleet.url} login -u admin")
    while all(service.running for service in fleet.services.values()):
        time.sleep(0.5)
    raise Failure("a service ended", action=f"see the logs in {fleet.root}")


def _image(source: str, root: Path) -> ManifestSource:
    scratch = root / "image"
    scratch.mkdir()
    if not source:
        return open_image(build_sample(scratch / "sample").layout, scratch)
    path = Path(source)
    if not path.exists():
        path = scratch / "docker-save.tar"
        save_image(source, path)
    return open_image(path, scratch)


def image_runs(image: ManifestSource) -> bool:
    """Whether the engine here could start it: the sample is made for x86-64; other images are taken at their word."""
    return bool(image.blobs or image.children)


def _engine_answers(fleet: Fleet) -> bool:
    hosts = fleet.client.every("/api/v1/hosts")
    return all(any(engine["kind"] == "docker" for engine in row["facts"]["engines"]) for row in hosts)


def _fleet(root: Path, settings: DemoSettings) -> Fleet:
    idcs = [
        Idc(name, Node(f"regional-{name}"), tuple(Node(f"{name}-{number}") for number in (1, 2)))
        for name in ("east", "west")
    ]
    return Fleet(root, Node("centre"), idcs, docker_host=settings.docker_host or None)


@contextmanager
def _directory(wanted: Path | None) -> Iterator[Path]:
    if wanted is not None:
        wanted.mkdir(parents=True, exist_ok=True)
        yield wanted
        return
    path = Path(tempfile.mkdtemp(prefix="longshore-demo-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
