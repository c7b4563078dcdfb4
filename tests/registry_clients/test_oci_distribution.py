"""The OCI distribution specification, case by case, against the server as it is started: SQLite and a directory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.oci_distribution import OciDistributionContract
from tests.conformance.oci_registry import RegistryTarget
from tests.control_plane.cli.programs import Longshore, Plane, log_in, started

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    running = started(tmp_path_factory.mktemp("distribution") / "data")
    yield running
    running.service.stop()


@pytest.fixture(scope="module")
def target(plane: Plane, tmp_path_factory: pytest.TempPathFactory) -> RegistryTarget:
    program = Longshore(plane.url, tmp_path_factory.mktemp("admin"))
    assert log_in(program, "admin", plane.password).code == 0
    assert program("tenant", "create", "acme").code == 0
    return RegistryTarget(plane.url, "admin", plane.password, "acme")


class TestOnAFilesystem(OciDistributionContract):
    """With sha256 and with sha512."""
