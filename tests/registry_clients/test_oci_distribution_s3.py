"""The OCI distribution specification, case by case, against a server whose blobs are in a bucket of a real Ceph
gateway, and the public suite, where it is at hand. Blobs come through the server: the cases look at our headers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.oci_distribution import OciDistributionContract
from tests.conformance.oci_registry import RegistryTarget
from tests.control_plane.cli.programs import Longshore, log_in, started
from tests.engines.ceph import CephEngine
from tests.registry_clients.test_public_conformance import passed, suite

__all__ = ["suite"]

pytestmark = [pytest.mark.engine("ceph"), pytest.mark.processes, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def target(_shared_ceph: CephEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryTarget]:
    bucket, root = _shared_ceph.new_bucket(), tmp_path_factory.mktemp("s3")
    (root / "secret").write_text(bucket.secret_key + "\n")
    environment = {
        "LONGSHORE_BLOBS__S3__BUCKET": bucket.name,
        "LONGSHORE_BLOBS__S3__ENDPOINT": bucket.endpoint,
        "LONGSHORE_BLOBS__S3__ACCESS_KEY_ID": bucket.access_key_id,
        "LONGSHORE_BLOBS__S3__SECRET_KEY_FILE": str(root / "secret"),
        "LONGSHORE_BLOBS__S3__ADDRESSING": "path",
        "LONGSHORE_BLOBS__S3__REDIRECT_EXCEPT": json.dumps(["acme/**"]),
        "LONGSHORE_REGISTRY__INCOMPLETE_MANIFESTS": "all",
    }
    plane = started(root / "data", environment=environment)
    try:
        program = Longshore(plane.url, root)
        assert log_in(program, "admin", plane.password).code == 0
        assert program("tenant", "create", "acme").code == 0
        yield RegistryTarget(plane.url, "admin", plane.password, "acme", takes_incomplete_images=True)
    finally:
        plane.service.stop()


class TestOnS3(OciDistributionContract):
    """With sha256 and with sha512."""


def test_the_public_suite_passes_on_s3(suite: Path, target: RegistryTarget, tmp_path: Path) -> None:
    passed(suite, target, tmp_path)
