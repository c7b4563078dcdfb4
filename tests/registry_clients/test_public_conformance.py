"""The public conformance suite of the distribution specification, with everything switched on.

It is not part of this tree and cannot be had from a package registry: LONGSHORE_OCI_CONFORMANCE names its folder (then
`go` builds it) or the program. Without, this is skipped; our own cases (test_oci_distribution.py) always run.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conformance.oci_registry import RegistryTarget
from tests.control_plane.cli.programs import Longshore, log_in, started
from tests.engines.settings import oci_conformance

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

# All that can be switched, so that what the suite's own defaults leave out is not left out here.
_APIS = """PING PULL PUSH REFERRER TAGS_ATOMIC TAGS_DELETE TAGS_LIST
    BLOBS_ATOMIC BLOBS_DELETE BLOBS_DIGEST_HEADER BLOBS_MOUNT_ANONYMOUS BLOBS_UPLOAD_CANCEL
    MANIFESTS_ATOMIC MANIFESTS_DELETE MANIFESTS_DIGEST_HEADER MANIFESTS_TAG_PARAM"""
_DATA = """IMAGE INDEX INDEX_LIST SPARSE ARTIFACT SUBJECT SUBJECT_MISSING ARTIFACT_LIST SUBJECT_LIST DATA_FIELD
    NONDISTRIBUTABLE CUSTOM_FIELDS NO_LAYERS EMPTY_BLOB SHA512"""
_OPTIONS = {
    "OCI_VERSION": "dev",
    "OCI_TLS": "disabled",
    **{f"OCI_API_{name}": "true" for name in _APIS.split()},
    **{f"OCI_DATA_{name}": "true" for name in _DATA.split()},
}
_OTHERWISE = {"Skip", "Disabled", "FAIL", "Error"}
# `  Tag listing...................:       Pass`, and how many cases ended in each way.
_OUTCOME = re.compile(r"^  (.+?)\.*: +(\w+)$", re.MULTILINE)


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


def passed(suite: Path, target: RegistryTarget, scratch: Path, keeps_tokens: bool = True) -> None:
    """Runs the suite against the registry; fails with the end of its report.

    Its exit code is no proof: 0 although cases were skipped or disabled, and although it could not set itself up.
    """
    environment = {
        **_OPTIONS,
        "OCI_REGISTRY": target.url.removeprefix("http://"),
        "OCI_REPO1": f"{target.namespace}/one",
        "OCI_REPO2": f"{target.namespace}/two",
        "OCI_USERNAME": target.username,
        "OCI_PASSWORD": target.password,
        "OCI_CACHE_AUTH": str(keeps_tokens).lower(),
        "OCI_RESULTS_DIR": str(scratch / "results"),
        "HOME": str(scratch),
    }
    done = subprocess.run([str(suite)], env=environment, capture_output=True, text=True, timeout=240, cwd=scratch)
    report = done.stdout[-8000:] + done.stderr[-5000:]
    assert done.returncode == 0, report
    assert "OCI Conformance Result: Pass" in done.stdout, report
    outcomes = dict(_OUTCOME.findall(done.stdout.partition("OCI Conformance Result:")[2]))
    assert int(outcomes.pop("Pass")) == int(outcomes.pop("Total")) > 0, report
    assert {name: outcomes.pop(name) for name in _OTHERWISE} == dict.fromkeys(_OTHERWISE, "0"), report
    # What is left is each API and each kind of data.
    assert set(outcomes.values()) == {"Pass"}, report


@pytest.mark.parametrize("keeps_tokens", [True, False])
def test_the_public_suite_passes_with_nothing_skipped(suite: Path, tmp_path: Path, keeps_tokens: bool) -> None:
    # "Sparse" includes images without all of their layers, which we refuse unless told otherwise.
    plane = started(tmp_path / "data", environment={"LONGSHORE_REGISTRY__INCOMPLETE_MANIFESTS": "all"})
    try:
        program = Longshore(plane.url, tmp_path)
        assert log_in(program, "admin", plane.password).code == 0
        assert program("tenant", "create", "acme").code == 0
        passed(suite, RegistryTarget(plane.url, "admin", plane.password, "acme"), tmp_path, keeps_tokens)
    finally:
        plane.service.stop()
