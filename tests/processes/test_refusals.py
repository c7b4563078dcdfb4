"""What goes wrong in the field, each with its clear error; nothing is lost and nothing wrong is served."""

import http.client
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from benchmarks.spread import make_blob
from common.digest import Digest
from common.errors import Failure, NotFound
from deploy.demo.fleet import Fleet, Node
from deploy.demo.services import Service, ServiceFailed
from tests.engines import EngineCannotRun
from tests.engines.fixtures import running
from tests.processes.fleets import (
    held_digests,
    instance_on,
    push_blob,
    remove_everything,
    request_everywhere,
    request_on,
    wait_verified,
)

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]


@pytest.fixture
def fleet(shared_fleet: Fleet) -> Iterator[Fleet]:
    yield shared_fleet
    remove_everything(shared_fleet)


def eventually(condition: Callable[[], bool], what: Callable[[], str], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.1)


def offences(fleet: Fleet, digest: Digest) -> list[dict[str, Any]]:
    return list(fleet.client.every("/api/v1/swarm/offences", digest=str(digest)))


def test_a_corrupted_peer_cannot_spoil_a_new_host(fleet: Fleet, tmp_path: Path) -> None:
    blob = make_blob(tmp_path / "blob", 12)
    push_blob(fleet, blob, "acme/corrupted:1")
    liar = fleet.join_host(fleet.idcs[0], Node("east-8"))
    liar.wait_ready()
    request_on(fleet, "acme/corrupted:1", "east/east-8")
    wait_verified(fleet)
    spoiled = 0
    for path in (liar.data / "swarm").rglob("*"):
        if path.is_file() and path.stat().st_size == blob.size:
            with path.open("r+b") as file:
                for offset in range(0, blob.size, 1 << 18):
                    file.seek(offset)
                    file.write(b"\x00" * 64)
            spoiled += 1
    assert spoiled == 1
    newcomer = fleet.join_host(fleet.idcs[0], Node("east-9"))
    newcomer.wait_ready()
    request_on(fleet, "acme/corrupted:1", "east/east-9")
    eventually(lambda: instance_on(fleet, "east-9")["contents"]["verified"], newcomer.log_tail)
    assert blob.digest in held_digests(fleet.root / "east-9")
    # Who it was is known: the newcomer banned it, its tracker named it, the control plane keeps and audits it.
    eventually(lambda: bool(offences(fleet, blob.digest)), newcomer.log_tail)
    assert {one["accuser"] for one in offences(fleet, blob.digest)} == {"east-9"}
    # Without a name only where the tracker took too long to say whose address it is.
    eventually(lambda: {one["accused_name"] for one in offences(fleet, blob.digest)} - {""}, newcomer.log_tail)
    assert {one["accused_name"] for one in offences(fleet, blob.digest)} - {""} == {"east/east-8"}
    entries = fleet.client.get("/api/v1/audit", operation="swarm.false_block")["data"]
    assert any(entry["digest"] == str(blob.digest) for entry in entries)
    for service in (liar, newcomer):
        service.stop()
        fleet.client.delete(f"/api/v1/hosts/east/{service.name}")


def test_a_wrong_digest_publishes_nothing(fleet: Fleet) -> None:
    start = fleet.client.raw("POST", "/v2/acme/wrong/blobs/uploads/")
    lie = Digest.of(b"something else")
    done = fleet.client.raw("PUT", with_digest(start.headers["Location"], lie), body=b"these bytes")
    assert done.status == 400
    assert json.loads(done.data)["errors"][0]["code"] == "DIGEST_INVALID"
    assert fleet.client.raw("HEAD", f"/v2/acme/wrong/blobs/{lie}").status == 404


def test_a_truncated_blob_is_never_served_and_a_new_push_mends_it(fleet: Fleet, tmp_path: Path) -> None:
    blob = make_blob(tmp_path / "blob", 3)
    push_blob(fleet, blob, "acme/truncated:1")
    (stored,) = (fleet.root / "control-plane").rglob(blob.digest.hex)
    os.truncate(stored, blob.size - 1000)
    answer = fleet.client.raw("GET", f"/v2/acme/truncated/blobs/{blob.digest}")
    assert answer.status >= 400
    assert "moved aside" in json.loads(answer.data)["errors"][0]["message"]
    push_blob(fleet, blob, "acme/truncated:1")
    whole = fleet.client.raw("GET", f"/v2/acme/truncated/blobs/{blob.digest}")
    assert whole.status == 200
    assert Digest.of(whole.data) == blob.digest


def test_a_full_disk_is_said_and_the_host_recovers_when_space_is_freed(fleet: Fleet, tmp_path: Path) -> None:
    blob = make_blob(tmp_path / "blob", 24)
    push_blob(fleet, blob, "acme/full:1")
    data = fleet.root / "east-7"
    with running("small disk", small_disk(data, 420)):
        ballast = data / "ballast"
        # An agent leaves 256 MiB of its disk free: with this, only 220 are.
        ballast.write_bytes(bytes(200 << 20))
        newcomer = fleet.join_host(fleet.idcs[0], Node("east-7"))
        newcomer.wait_ready()
        request_on(fleet, "acme/full:1", "east/east-7")
        eventually(lambda: instance_on(fleet, "east-7")["phase"] == "failed", newcomer.log_tail)
        detail = instance_on(fleet, "east-7")["detail"].lower()
        assert "full" in detail or "space" in detail
        ballast.unlink()
        eventually(lambda: instance_on(fleet, "east-7")["contents"]["verified"], newcomer.log_tail, 90)
        assert blob.digest in held_digests(data)
        newcomer.stop()
        fleet.client.delete("/api/v1/hosts/east/east-7")


def test_an_unknown_tag_is_named(fleet: Fleet, tmp_path: Path) -> None:
    push_blob(fleet, make_blob(tmp_path / "blob", 1), "acme/known:1")
    answer = fleet.client.raw("GET", "/v2/acme/known/manifests/nothere")
    assert (answer.status, json.loads(answer.data)["errors"][0]["code"]) == (404, "MANIFEST_UNKNOWN")
    with pytest.raises(NotFound, match="nothere"):
        request_everywhere(fleet, "acme/known:nothere")


def test_an_expired_join_token_lets_nobody_in(fleet: Fleet) -> None:
    body = {"kind": "host", "idc": "east", "name": "late", "ttl_seconds": 1}
    token = fleet.client.post("/api/v1/join-tokens", body)["data"]["token"]
    time.sleep(1.2)
    late = agent_process(fleet, "late", f"--join-token={token}")
    late.launch()
    try:
        eventually(lambda: "expired" in late.log_tail(), late.log_tail)
    finally:
        late.stop()
    assert not any(row["name"] == "late" for row in fleet.client.every("/api/v1/hosts"))


def test_an_expired_or_forged_login_is_refused(fleet: Fleet) -> None:
    for path in ("/api/v1/instances", "/v2/acme/known/tags/list"):
        url = urlsplit(fleet.url)
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=10)
        connection.request("GET", path, headers={"Authorization": "Bearer eyJhbGciOiJub25lIn0.e30."})
        assert connection.getresponse().status == 401
        connection.close()


def test_a_second_agent_with_a_copied_certificate_is_refused_and_the_first_keeps_working(
    fleet: Fleet, tmp_path: Path
) -> None:
    original = fleet.services["east-1"]
    thief = agent_process(fleet, "thief")
    shutil.copytree(original.data, thief.data)
    thief.launch()
    try:
        eventually(lambda: "identity_in_use" in thief.log_tail(), thief.log_tail)
    finally:
        thief.stop()
    blob = make_blob(tmp_path / "blob", 2)
    push_blob(fleet, blob, "acme/still:1")
    request_everywhere(fleet, "acme/still:1")
    wait_verified(fleet)
    assert blob.digest in held_digests(original.data)


@pytest.mark.parametrize(
    "path",
    [
        "/static/../../etc/passwd",
        "/static/..%2f..%2f..%2fetc/passwd",
        "/static/%2e%2e/%2e%2e/etc/passwd",
        "/repos/....//....//etc/passwd",
        "/static/%00",
    ],
)
def test_a_path_that_leads_out_of_the_static_root_finds_nothing(path: str, fleet: Fleet) -> None:
    ready = json.loads((fleet.services["regional-east"].data / "ready.json").read_bytes())
    status, body = raw_get(f"127.0.0.1:{ready['api']}", path)
    assert status in (400, 404)
    assert b"root:" not in body


@pytest.mark.parametrize(
    "path",
    [
        "/v2/acme/../../etc/passwd/manifests/latest",
        "/v2/%2e%2e/%2e%2e/etc/passwd/manifests/1",
        "/v2/acme/x/blobs/../../x",
    ],
)
def test_a_repository_that_leads_out_of_the_store_finds_nothing(path: str, fleet: Fleet) -> None:
    token = fleet.client.post("/api/v1/api-keys", {"name": "paths"})["data"]["key"]
    status, body = raw_get(fleet.url.removeprefix("http://"), path, {"Authorization": f"Bearer {token}"})
    assert status in (400, 404)
    assert b"root:" not in body


def test_a_repository_name_of_300_characters_is_refused_with_its_length(fleet: Fleet) -> None:
    name = "acme/" + "a" * 295
    answer = fleet.client.raw("POST", f"/v2/{name}/blobs/uploads/")
    error = json.loads(answer.data)["errors"][0]
    assert (answer.status, error["code"]) == (400, "NAME_INVALID")
    assert "300" in error["message"]
    with pytest.raises(Failure, match="300"):
        request_everywhere(fleet, f"{name}:1")


def test_a_port_that_is_taken_is_said_at_start(fleet: Fleet, tmp_path: Path) -> None:
    taken = fleet.url.removeprefix("http://")
    arguments = ["serve", f"--data={tmp_path / 'second'}", f"--http={taken}", "--enrolment=127.0.0.1:0"]
    second = Service("second", "control_plane", [*arguments, "--attach=127.0.0.1:0"], tmp_path / "second")
    with pytest.raises(ServiceFailed, match=f"cannot use {taken}"):
        second.start()


def agent_process(fleet: Fleet, name: str, *arguments: str) -> Service:
    data = fleet.root / name
    shutil.rmtree(data, ignore_errors=True)
    given = ["run", f"--server={fleet.url}", f"--name={name}", f"--data={data}", "--runtime=none", *arguments]
    return Service(name, "agent", given, data)


def with_digest(location: str, digest: Digest) -> str:
    return f"{location}{'&' if '?' in location else '?'}digest={digest}"


def raw_get(address: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """Without the normalising that ordinary clients do to a path."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    try:
        connection.putrequest("GET", path, skip_accept_encoding=True)
        for key, value in (headers or {}).items():
            connection.putheader(key, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class small_disk:  # noqa: N801  used like a function
    """A tmpfs of so many MiB at `path`."""

    def __init__(self, path: Path, mebibytes: int) -> None:
        self._path = path
        self._size = mebibytes

    def __enter__(self) -> Path:
        if os.geteuid() != 0:
            raise EngineCannotRun("only root can mount a small disk")
        self._path.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={self._size}m", "longshore-test", str(self._path)]
        subprocess.run(command, check=True)
        return self._path

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "-l", str(self._path)], check=True)
