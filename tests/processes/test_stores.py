"""A running server with two stores on disks and one in a bucket: copies are made, damage is healed, also by a server
that was killed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from common.digest import Digest
from tests.control_plane.cli.programs import Longshore, Plane, eventually, log_in, started
from tests.engines.ceph import S3Bucket
from tests.registry_clients.layouts import blobs_of, write_image


@dataclass
class Installation:
    plane: Plane
    admin: Longshore
    root: Path

    def path(self, store: str, digest: str) -> Path:
        directory = {"primary": self.root / "data" / "registry", "second": self.root / "second"}[store]
        parsed = Digest.parse(digest)
        return directory / "blobs" / parsed.algorithm / parsed.hex[:2] / parsed.hex

    def stores(self) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in self.admin("--json", "store", "list").json}


@pytest.fixture
def installation(s3: S3Bucket, tmp_path: Path) -> Iterator[Installation]:
    environment = {
        "LONGSHORE_STORES__SECOND__TIER": "warm",
        "LONGSHORE_STORES__SECOND__DIRECTORY": str(tmp_path / "second"),
        "LONGSHORE_STORES__SECOND__LOCATION": "east",
        "LONGSHORE_STORES__BUCKET__TIER": "cold",
        "LONGSHORE_STORES__BUCKET__LOCATION": "east",
        "LONGSHORE_STORES__BUCKET__S3__BUCKET": s3.name,
        "LONGSHORE_STORES__BUCKET__S3__ENDPOINT": s3.endpoint,
        "LONGSHORE_STORES__BUCKET__S3__ACCESS_KEY_ID": s3.access_key_id,
        "LONGSHORE_STORES__BUCKET__S3__SECRET_KEY": s3.secret_key,
        "LONGSHORE_STORES__BUCKET__S3__ADDRESSING": "path",
        "LONGSHORE_PLACEMENT__RESERVE_MEBIBYTES": "0",
    }
    plane = started(tmp_path / "data", environment=environment)
    try:
        (tmp_path / "home").mkdir()
        admin = Longshore(plane.url, tmp_path / "home")
        assert log_in(admin, "admin", plane.password).code == 0
        assert admin("tenant", "create", "acme").code == 0
        yield Installation(plane, admin, tmp_path)
    finally:
        plane.service.stop()


def test_what_is_damaged_on_a_disk_is_pulled_whole_and_healed(installation: Installation, tmp_path: Path) -> None:
    admin = installation.admin
    write_image(tmp_path / "in", layers=2, layer_bytes=700_000)
    digests = [f"sha256:{name}" for name in blobs_of(tmp_path / "in")]
    assert admin("image", "push", tmp_path / "in", "acme/web:1").code == 0
    held = [digest for digest in digests if installation.path("primary", digest).exists()]
    assert {row["tier"] for row in installation.stores().values()} == {"hot", "warm", "cold"}
    assert admin("scrub", "run", "--repository", "acme/web").code == 0
    eventually(lambda: all(installation.path("second", digest).exists() for digest in held))
    eventually(lambda: installation.stores()["second"]["present"]["copies"] == len(held))
    cut, flipped, gone = held[0], held[1], held[2]
    os.truncate(installation.path("primary", cut), 10)
    installation.path("primary", gone).unlink()
    assert admin("image", "pull", "acme/web:1", tmp_path / "out").code == 0
    assert blobs_of(tmp_path / "out") == blobs_of(tmp_path / "in")
    whole = installation.path("second", flipped).read_bytes()
    installation.path("second", flipped).write_bytes(bytes(len(whole)))
    installation.plane.service.kill()
    installation.plane.service.start()
    assert admin("scrub", "run", "--repository", "acme/web").code == 0
    eventually(
        lambda: all(
            installation.path(store, digest).exists()
            and Digest.of(installation.path(store, digest).read_bytes()) == Digest.parse(digest)
            for store in ("primary", "second")
            for digest in held
        )
    )
    assert admin("--json", "scrub", "lost").json == []
    eventually(lambda: admin("--json", "scrub", "status").json["damaged"] == 0)
    # The trail is written behind what it tells of.
    eventually(lambda: admin("--json", "audit", "list", "--operation", "registry.copy_healed").json != [])
