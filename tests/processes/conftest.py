"""A whole Longshore as processes: on loopback, or on shaped links in namespaces where a moment must be caught."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from benchmarks.links import Links, Plan, shaped_links
from deploy.demo.fleet import Fleet, Idc, Node
from tests.engines import EngineCannotRun
from tests.engines.fixtures import running

# They use the one dockerd that may live in the machine's network.
_DOCKER = ("test_docker.py", "test_channels.py")


class _OneDocker(LoadFileScheduling):
    """A file's tests go to one worker, and so do those of all files that share an engine."""

    def _split_scope(self, nodeid: str) -> str:
        scope = super()._split_scope(nodeid)
        return "docker" if scope.endswith(_DOCKER) else scope


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    return _OneDocker(config, log) if config.getoption("dist") == "loadfile" else None


def two_idcs(links: Links | None = None, hosts: int = 2) -> list[Idc]:
    def node(idc: str, number: int) -> Node:
        if links is not None:
            return links.node(idc, number)
        return Node(f"regional-{idc}" if number == 0 else f"{idc}-{number}")

    return [
        Idc(name, node(name, 0), tuple(node(name, number) for number in range(1, hosts + 1)))
        for name in ("east", "west")
    ]


@contextlib.contextmanager
def slow_links() -> Iterator[Links]:
    if os.geteuid() != 0 or shutil.which("tc") is None:
        raise EngineCannotRun("needs root and iproute2")
    with shaped_links(Plan(hosts=2, wan_mbit=80, lan_mbit=400), prefix="lst") as built:
        yield built


@pytest.fixture
def links() -> Iterator[Links]:
    """Two IDCs of two hosts behind 80 Mbit/s: 40 MiB take four seconds, long enough to kill somebody in the middle."""
    with running("shaped links", slow_links()) as built:
        yield built


@pytest.fixture
def shaped_fleet(links: Links, tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path / "fleet", links.centre, two_idcs(links), runtime="none") as fleet:
        fleet.start()
        yield fleet


@pytest.fixture
def local_fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path / "fleet", Node("centre"), two_idcs(hosts=1), runtime="none") as fleet:
        fleet.start()
        yield fleet


@pytest.fixture(scope="module")
def shared_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One fleet for a module whose tests leave it as they found it."""
    with Fleet(tmp_path_factory.mktemp("fleet"), Node("centre"), two_idcs(hosts=1), runtime="none") as fleet:
        fleet.start()
        yield fleet
