"""A real control plane as a process, and `longshore` as a process that talks to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.demo.sample import build_sample
from tests.control_plane.cli.programs import Longshore, Plane, log_in, started


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A module shares its server, so it goes to one worker: handed out one by one, each of three workers started it."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.xdist_group(f"cli/{item.path.stem}"))


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    running = started(tmp_path_factory.mktemp("plane") / "data")
    yield running
    running.service.stop()


@pytest.fixture
def stranger(plane: Plane, tmp_path: Path) -> Longshore:
    """Somebody who has not logged in."""
    home = tmp_path / "home"
    home.mkdir()
    return Longshore(plane.url, home)


@pytest.fixture(scope="module")
def admin(plane: Plane, tmp_path_factory: pytest.TempPathFactory) -> Longshore:
    """The platform admin, with the tenant `acme`."""
    program = Longshore(plane.url, tmp_path_factory.mktemp("admin"))
    assert log_in(program, "admin", plane.password).code == 0
    assert program("tenant", "create", "acme").code == 0
    return program


@pytest.fixture(scope="module")
def viewer(admin: Longshore, tmp_path_factory: pytest.TempPathFactory) -> Longshore:
    """A user that may read what is in `acme`."""
    assert admin("user", "create", "vera", "--password-stdin", stdin="a long password\n").code == 0
    assert admin("tenant", "grant", "acme", "vera", "viewer").code == 0
    program = Longshore(admin.server, tmp_path_factory.mktemp("viewer"))
    assert log_in(program, "vera", "a long password").code == 0
    return program


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OCI layout of about 5 MB."""
    return build_sample(tmp_path_factory.mktemp("image") / "layout", layer_mebibytes=1).layout
