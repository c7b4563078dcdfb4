"""The public conformance suite of the distribution specification, with everything switched on.

It is not part of this tree and cannot be had from a package registry: LONGSHORE_OCI_CONFORMANCE names its folder (then
`go` builds it) or the program. Without, this is skipped; our own cases (test_oci_distribution.py) always run.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conformance.oci_registry import RegistryTarget
from tests.control_plane.cli.programs import Longshore, log_in, started
from tests.engines.settings import oci_conformance

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

_OPTIONS = {
    "OCI_VERSION": "dev",
    "OCI_TLS": "disabled",
    "OCI_API_BLOBS_DIGEST_HEADER": "true",
    "OCI_API_BLOBS_MOUNT_ANONYMOUS": "true",
    "OCI_API_BLOBS_UPLOAD_CANCEL": "true",
    "OCI_API_MANIFESTS_DIGEST_HEADER": "true",
    "OCI_API_MANIFESTS_TAG_PARAM": "true",
    "OCI_DATA_SPARSE": "true",
    "OCI_DATA_SHA512": "true",
}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    named = oci_conformance()
    if named is None:
        pytest.skip("LONGSHORE_OCI_CONFORMANCE does not name the public conformance suite")
    if named.is_file():
        return named
    go = shutil.which("go")
    if go is None:
        pytest.skip("go is needed to build the public conformance suite")
    program = tmp_path_factory.mktemp("suite") / "conformance"
    subprocess.run([go, "build", "-buildvcs=false", "-o", str(program), "."], cwd=named, check=True, timeout=240)
    return program


def passed(suite: Path, target: RegistryTarget, scratch: Path) -> None:
    """Runs the suite against the registry; fails with the end of its report."""
    environment = {
        **_OPTIONS,
        "OCI_REGISTRY": target.url.removeprefix("http://"),
        "OCI_REPO1": f"{target.namespace}/one",
        "OCI_REPO2": f"{target.namespace}/two",
        "OCI_USERNAME": target.username,
        "OCI_PASSWORD": target.password,
        "OCI_RESULTS_DIR": str(scratch / "results"),
        "HOME": str(scratch),
    }
    done = subprocess.run([str(suite)], env=environment, capture_output=True, text=True, timeout=240, cwd=scratch)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]


def test_the_public_suite_passes_with_nothing_skipped(suite: Path, tmp_path: Path) -> None:
    # "Sparse" includes images without all of their layers, which we refuse unless told otherwise.
    plane = started(tmp_path / "data", environment={"LONGSHORE_REGISTRY__INCOMPLETE_MANIFESTS": "all"})
    try:
        program = Longshore(plane.url, tmp_path)
        assert log_in(program, "admin", plane.password).code == 0
        assert program("tenant", "create", "acme").code == 0
        passed(suite, RegistryTarget(plane.url, "admin", plane.password, "acme"), tmp_path)
    finally:
        plane.service.stop()
