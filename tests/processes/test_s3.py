"""A whole control plane whose blobs are in a bucket of a real Ceph gateway."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from common.digest import Digest
from tests.conformance.blob_store import content
from tests.control_plane.blobs.s3_faults import Fault, FaultyGateway, faulty_gateway
from tests.control_plane.cli.programs import Longshore, Plane, log_in, started
from tests.engines.ceph import S3Bucket
from tests.engines.skopeo import Skopeo
from tests.registry_clients.layouts import blobs_of, write_image


@dataclass(frozen=True)
class Installation:
    plane: Plane
    gateway: FaultyGateway
    admin: Longshore

    @property
    def address(self) -> str:
        return self.plane.url.removeprefix("http://")

    @property
    def authorization(self) -> dict[str, str]:
        return {"Authorization": aiohttp.encode_basic_auth("admin", self.plane.password)}


@pytest.fixture
def installation(s3: S3Bucket, tmp_path: Path) -> Iterator[Installation]:
    with faulty_gateway(s3) as gateway:
        secret = tmp_path / "secret"
        secret.write_text(s3.secret_key + "\n")
        environment = {
            "LONGSHORE_BLOBS__S3__BUCKET": s3.name,
            "LONGSHORE_BLOBS__S3__ENDPOINT": gateway.bucket.endpoint,
            "LONGSHORE_BLOBS__S3__PUBLIC_ENDPOINT": gateway.bucket.endpoint.replace("127.0.0.1", "localhost"),
            "LONGSHORE_BLOBS__S3__ACCESS_KEY_ID": s3.access_key_id,
            "LONGSHORE_BLOBS__S3__SECRET_KEY_FILE": str(secret),
            "LONGSHORE_BLOBS__S3__ADDRESSING": "path",
            "LONGSHORE_BLOBS__S3__PART_MEBIBYTES": "5",
            "LONGSHORE_BLOBS__S3__DEADLINE_SECONDS": "1",
            "LONGSHORE_BLOBS__S3__REDIRECT_EXCEPT": json.dumps(["acme/direct/**"]),
        }
        plane = started(tmp_path / "data", environment=environment)
        try:
            (tmp_path / "home").mkdir()
            admin = Longshore(plane.url, tmp_path / "home")
            assert log_in(admin, "admin", plane.password).code == 0
            assert admin("tenant", "create", "acme").code == 0
            yield Installation(plane, gateway, admin)
        finally:
            plane.service.stop()


def test_skopeo_pushes_to_the_bucket_and_pulls_from_it_directly(
    installation: Installation, skopeo: Skopeo, tmp_path: Path
) -> None:
    write_image(tmp_path / "in", layers=3, layer_bytes=6_000_000)
    who, ours = f"admin:{installation.plane.password}", f"docker://{installation.address}/acme"
    for name, through_us in (("web", False), ("direct/web", True)):
        target = f"{ours}/{name}:1"
        pushed = skopeo.run("copy", "--dest-tls-verify=false", f"--dest-creds={who}", f"oci:{tmp_path / 'in'}", target)
        assert pushed.returncode == 0, pushed.stderr
        installation.gateway.requests.clear()
        out = tmp_path / name.replace("/", "-")
        pulled = skopeo.run("copy", "--src-tls-verify=false", f"--src-creds={who}", target, f"oci:{out}:x")
        assert pulled.returncode == 0, pulled.stderr
        assert blobs_of(out) == blobs_of(tmp_path / "in")
        presigned = [target for method, target in installation.gateway.requests if "X-Amz-Signature" in target]
        assert bool(presigned) != through_us


def test_our_command_line_pushes_to_the_bucket_and_pulls_from_it_directly(
    installation: Installation, tmp_path: Path
) -> None:
    write_image(tmp_path / "in", layers=2, layer_bytes=6_000_000)
    assert installation.admin("image", "push", tmp_path / "in", "acme/web:1").code == 0
    installation.gateway.requests.clear()
    assert installation.admin("image", "pull", "acme/web:1", tmp_path / "out").code == 0
    assert blobs_of(tmp_path / "out") == blobs_of(tmp_path / "in")
    assert [target for _, target in installation.gateway.requests if "X-Amz-Signature" in target]


async def test_an_object_store_that_fails_is_a_503_and_loses_nothing(installation: Installation) -> None:
    data, gateway = content((11 << 20) + 3), installation.gateway
    digest = Digest.of(data)
    async with aiohttp.ClientSession(installation.plane.url) as session:
        token = await _token(session, installation, "acme/api")
        headers = {"Authorization": f"Bearer {token}"}
        async with session.post("/v2/acme/api/blobs/uploads/", headers=headers) as answer:
            assert answer.status == 202
            where = answer.headers["Location"]
        async with session.patch(where, headers=headers, data=io.BytesIO(data[: 6 << 20])) as answer:
            assert (answer.status, answer.headers["Range"]) == (202, f"0-{(6 << 20) - 1}")
        gateway.rule = lambda _method, _target, _number: Fault.SLOW_DOWN
        async with session.patch(where, headers=headers, data=io.BytesIO(data[6 << 20 :])) as answer:
            assert (answer.status, int(answer.headers["Retry-After"]) >= 1) == (503, True)
        async with session.put(where, headers=headers, params={"digest": str(digest)}) as answer:
            assert (answer.status, int(answer.headers["Retry-After"]) >= 1) == (503, True)
        async with session.get("/readyz") as answer:
            assert (answer.status, (await answer.json())["ready"]) == (503, False)
        gateway.rule = lambda _method, _target, _number: None
        async with session.get(where, headers=headers) as answer:
            held = int(answer.headers["Range"].partition("-")[2]) + 1
            assert (answer.status, held >= 6 << 20) == (204, True)
        async with session.put(
            where, headers=headers, params={"digest": str(digest)}, data=io.BytesIO(data[held:])
        ) as answer:
            assert answer.status == 201
        blob = f"/v2/acme/api/blobs/{digest}"
        asked = len(gateway.requests)
        async with session.head(blob, headers=headers) as answer:
            assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(data)))
        assert len(gateway.requests) == asked + 1  # whether it is there; the size is ours
        # Had the gateway our name, clients in Go would send it their token.
        namesake = headers | {"Host": "localhost"}
        async with session.get(blob, headers=namesake, allow_redirects=False) as answer:
            assert (answer.status, await answer.read()) == (200, data)
        async with session.get(blob, headers=headers, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Cache-Control"]) == (307, "no-store")
            address = answer.headers["Location"]
        async with aiohttp.ClientSession() as stranger, stranger.get(address, headers={"Range": "bytes=5-9"}) as answer:
            assert (answer.status, await answer.read()) == (206, data[5:10])


async def _token(session: aiohttp.ClientSession, installation: Installation, repository: str) -> str:
    query = {"service": "longshore-registry", "scope": f"repository:{repository}:pull,push"}
    async with session.get("/v2/token", params=query, headers=installation.authorization) as answer:
        assert answer.status == 200, await answer.text()
        return str((await answer.json())["token"])
