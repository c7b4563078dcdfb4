"""The regional as a registry, read by real clients over TLS, with a real centre that dies and comes back; and a centre
whose disk damages what the edge still has.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import random
import re
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from common.digest import Digest
from control_plane.cli.image_source import BlobSource
from deploy.demo.fleet import Fleet, Idc, Node
from tests.engines.fixtures import running
from tests.engines.processes import installed_program
from tests.processes.fleets import push_blob, request_everywhere, wait_verified

_LAYER = 5 << 20
_INDEX = "application/vnd.oci.image.index.v1+json"
_IMAGE = "application/vnd.oci.image.manifest.v1+json"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Edge:
    """The regional's `/v2/`, as a client sees it."""

    fleet: Fleet

    @property
    def port(self) -> int:
        return int(self.fleet.services["regional-east"].facts["registry"])

    @property
    def ca_file(self) -> Path:
        return self.fleet.services["regional-east"].data / "identity" / "ca.pem"

    def ask(self, path: str, token: str = "", method: str = "GET", **headers: str) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(f"https://127.0.0.1:{self.port}{path}", headers=sent, method=method)
        context = ssl.create_default_context(cafile=str(self.ca_file))
        try:
            with urllib.request.urlopen(request, context=context, timeout=30) as answer:
                return Answer(answer.status, dict(answer.headers), answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, dict(error.headers), error.read())

    def token(self, repository: str, action: str = "pull") -> str:
        """From the centre's token service."""
        service = re.search('service="([^"]+)"', self.ask("/v2/").headers["WWW-Authenticate"])
        assert service is not None
        credentials = b64encode(f"admin:{self.fleet.password}".encode()).decode()
        request = urllib.request.Request(
            f"{self.fleet.url}/v2/token?service={service[1]}&scope=repository:{repository}:{action}",
            headers={"Authorization": f"Basic {credentials}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(json.load(answer)["token"])

    def egress(self) -> int:
        return self.fleet.egress().get("east", 0)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    idc = Idc("east", Node("regional-east"), (Node("east-1"),))
    with Fleet(tmp_path_factory.mktemp("edge"), Node("centre"), [idc], runtime="none") as fleet:
        fleet.start()
        yield fleet


@pytest.fixture
def edge(fleet: Fleet) -> Edge:
    return Edge(fleet)


def blob_of(seed: int, size: int = _LAYER) -> tuple[BlobSource, bytes]:
    data = random.Random(seed).randbytes(size)
    return BlobSource(Digest.of(data), len(data), lambda: io.BytesIO(data)), data


def eventually(condition: Callable[[], Any], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_an_image_crosses_the_wan_once_whoever_pulls_it(edge: Edge, fleet: Fleet) -> None:
    blob, data = blob_of(1)
    digest = push_blob(fleet, blob, "acme/web:1")
    challenge = edge.ask("/v2/acme/web/manifests/1")
    assert challenge.status == 401
    assert f'realm="{fleet.url}/v2/token"' in challenge.headers["WWW-Authenticate"]
    assert 'scope="repository:acme/web:pull"' in challenge.headers["WWW-Authenticate"]
    token = edge.token("acme/web")
    assert edge.ask("/v2/", token).status == 200
    manifest = edge.ask("/v2/acme/web/manifests/1", token, Accept=f"{_IMAGE}, {_INDEX}")
    assert (manifest.status, manifest.headers["Docker-Content-Digest"]) == (200, str(digest))
    assert Digest.of(manifest.body) == digest
    before = edge.egress()
    path = f"/v2/acme/web/blobs/{blob.digest}"
    head = edge.ask(path, token, "HEAD")
    assert (head.status, head.headers["Content-Length"], head.body) == (200, str(len(data)), b"")
    assert edge.ask(path, token).body == data
    part = edge.ask(path, token, Range="bytes=4096-8191")
    assert (part.status, part.body) == (206, data[4096:8192])
    assert edge.ask(path, token, Range=f"bytes={len(data)}-").status == 416
    assert edge.ask(path, token).body == data
    eventually(lambda: edge.egress() - before >= len(data))
    assert edge.egress() - before <= 1.05 * len(data)
    by_digest = edge.ask(f"/v2/acme/web/manifests/{digest}", token, "HEAD")
    assert (by_digest.status, by_digest.headers["Content-Type"]) == (200, _IMAGE)
    assert json.loads(edge.ask("/v2/acme/web/tags/list", token).body)["tags"] == ["1"]


def test_nothing_is_ever_written(edge: Edge) -> None:
    for method, path in (("POST", "/v2/acme/web/blobs/uploads/"), ("PUT", "/v2/acme/web/manifests/1")):
        answer = edge.ask(path, "", method)
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
        assert json.loads(answer.body)["errors"][0]["code"] == "UNSUPPORTED"
    assert edge.ask("/v2/acme/web/else").status == 404


def test_what_is_held_for_one_tenant_is_not_there_for_another(edge: Edge, fleet: Fleet) -> None:
    theirs, _ = blob_of(2)
    push_blob(fleet, theirs, "acme/secret:1")
    token = edge.token("acme/secret")
    assert edge.ask("/v2/acme/secret/manifests/1", token).status == 200
    assert edge.ask(f"/v2/acme/secret/blobs/{theirs.digest}", token).status == 200
    fleet.client.post("/api/v1/tenants", {"name": "birch", "display_name": "Birch"})
    own, _ = blob_of(3, 1000)
    push_blob(fleet, own, "birch/own:1")
    foreign = edge.token("birch/own")
    absent = Digest.of(b"nobody has this")
    held, gone = (edge.ask(f"/v2/birch/own/blobs/{digest}", foreign) for digest in (theirs.digest, absent))
    assert (held.status, gone.status) == (404, 404)
    assert held.body.replace(str(theirs.digest).encode(), b"") == gone.body.replace(str(absent).encode(), b"")
    for item in (f"blobs/{theirs.digest}", "manifests/1", "tags/list"):
        refused = edge.ask(f"/v2/acme/secret/{item}", foreign)
        assert refused.status == 401, item
        assert 'error="insufficient_scope"' in refused.headers["WWW-Authenticate"]
        assert edge.ask(f"/v2/acme/secret/{item}", foreign + "x").status == 401
        assert edge.ask(f"/v2/acme/secret/{item}").status == 401


def test_held_images_are_pulled_while_the_centre_is_away_also_after_a_restart(edge: Edge, fleet: Fleet) -> None:
    blob, data = blob_of(4)
    other, _ = blob_of(5)
    push_blob(fleet, blob, "acme/kept:1")
    push_blob(fleet, other, "acme/kept:other")
    token = edge.token("acme/kept")
    tagged = edge.ask("/v2/acme/kept/manifests/1", token)
    for entry in (json.loads(tagged.body)["config"], *json.loads(tagged.body)["layers"]):
        assert edge.ask(f"/v2/acme/kept/blobs/{entry['digest']}", token).status == 200
    regional = fleet.services["regional-east"]
    fleet.control_plane.kill()
    try:
        for restarted in (False, True):
            if restarted:
                regional.kill()
                regional.start()
            stale = edge.ask("/v2/acme/kept/manifests/1", token)
            assert (stale.status, stale.body) == (200, tagged.body), restarted
            assert stale.headers["Warning"].startswith("110")
            assert int(stale.headers["Age"]) >= 0
            assert edge.ask(f"/v2/acme/kept/manifests/{Digest.of(tagged.body)}", token).body == tagged.body
            assert edge.ask(f"/v2/acme/kept/blobs/{blob.digest}", token).body == data
            for unknown in ("manifests/other", f"blobs/{other.digest}", f"blobs/{Digest.of(b'x')}"):
                assert edge.ask(f"/v2/acme/kept/{unknown}", token).status == 503, unknown
            assert edge.ask("/v2/acme/kept/manifests/1").status == 503
    finally:
        fleet.control_plane.start()
    fleet.log_in()
    eventually(lambda: "Warning" not in edge.ask("/v2/acme/kept/manifests/1", token).headers)
    assert edge.ask("/v2/acme/kept/manifests/other", token).status == 200
    deleting = urllib.request.Request(
        f"{fleet.url}/v2/acme/kept/manifests/1",
        headers={"Authorization": f"Bearer {edge.token('acme/kept', 'delete')}"},
        method="DELETE",
    )
    urllib.request.urlopen(deleting, timeout=30).close()
    assert edge.ask("/v2/acme/kept/manifests/1", token).status == 404


@pytest.fixture
def skopeo_program() -> Iterator[str]:
    with running("skopeo", installed_program("skopeo", "registry-clients")) as program:
        yield program


def test_skopeo_pulls_with_its_login_and_a_public_image_without(
    edge: Edge, fleet: Fleet, skopeo_program: str, tmp_path: Path
) -> None:
    blob, _ = blob_of(6)
    push_blob(fleet, blob, "acme/tools:1")
    certificates = tmp_path / "certificates"
    certificates.mkdir()
    shutil.copy(edge.ca_file, certificates / "ca.crt")

    def copy(target: str, *options: str) -> subprocess.CompletedProcess[str]:
        source = f"docker://127.0.0.1:{edge.port}/acme/tools:1"
        command = [
            skopeo_program,
            "copy",
            f"--src-cert-dir={certificates}",
            *options,
            source,
            f"dir:{tmp_path / target}",
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert copy("nobody", "--src-no-creds").returncode != 0
    done = copy("login", f"--src-creds=admin:{fleet.password}")
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256((tmp_path / "login" / blob.digest.hex).read_bytes()).hexdigest() == blob.digest.hex
    fleet.client.call("PATCH", "/api/v1/repositories/acme/tools/-/access", body={"visibility": "public"})
    done = copy("public", "--src-no-creds")
    assert done.returncode == 0, done.stderr


def heal(fleet: Fleet, healed: Callable[[], bool]) -> None:
    """A pass that finds nobody who answers leaves it to the next one."""
    for _ in range(3):
        fleet.client.post("/api/v1/stores/scrub", {"repository": "acme/healed"})
        with contextlib.suppress(AssertionError):
            eventually(healed, 20)
            return
    assert healed()


def test_a_blob_that_the_centre_lost_comes_back_from_the_edge(edge: Edge, fleet: Fleet, tmp_path: Path) -> None:
    blob, data = blob_of(7)
    push_blob(fleet, blob, "acme/healed:1")
    request_everywhere(fleet, "acme/healed:1", name="healed")
    wait_verified(fleet)
    stored = fleet.control_plane.data / "registry/blobs/sha256" / blob.digest.hex[:2] / blob.digest.hex
    for regional_is_there in (True, False):
        if not regional_is_there:
            fleet.services["regional-east"].stop()
            eventually(lambda: fleet.client.every("/api/v1/regionals")[0]["state"] == "offline")
        stored.write_bytes(bytes(len(data)))
        heal(fleet, lambda: stored.exists() and stored.read_bytes() == data)

    def told() -> bool:
        found = fleet.client.call("GET", "/api/v1/audit", query={"operation": "registry.copy_healed"})["data"]
        return any(row["details"].get("source") == "edge" for row in found)

    eventually(told)
