"""Pulling blobs and manifests, lists and deletions over the wire."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from common.digest import Digest
from control_plane.blobs.filesystem import FilesystemBlobStore
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.registry.manifests import DOCKER_MANIFEST, MAX_BYTES, OCI_INDEX, OCI_MANIFEST
from control_plane.registry.routes import build_routes
from control_plane.registry.service import RegistryService
from control_plane.registry.v2 import Options
from tests.control_plane.registry.people import Credentials, Directory, image_manifest
from tests.control_plane.registry.pushing import WEB, push_blob, push_image, push_index

DATA = bytes(range(256)) * 8
DIGEST = Digest.of(DATA)
BLOB = f"/v2/{WEB}/blobs/{DIGEST}"


def code_of(answer: httpx.Response) -> str:
    code: str = answer.json()["errors"][0]["code"]
    return code


@pytest.fixture
async def blob(local_registry: RegistryService) -> Digest:
    return await push_blob(local_registry, DATA)


async def test_a_blob_comes_whole_with_what_caches_need(client: httpx.AsyncClient, blob: Digest) -> None:
    answer = await client.get(BLOB)
    assert answer.status_code == 200
    assert answer.content == DATA
    assert answer.headers["Content-Length"] == "2048"
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Docker-Content-Digest"] == str(blob)
    assert answer.headers["ETag"] == f'"{blob}"'
    assert answer.headers["Accept-Ranges"] == "bytes"
    head = await client.head(BLOB)
    assert (head.status_code, head.content, head.headers["Content-Length"]) == (200, b"", "2048")


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("500-1499", 500, 1500), ("500-", 500, 2048), ("-500", 1548, 2048), ("2000-5000", 2000, 2048), ("0-0", 0, 1)],
)
async def test_a_part_of_a_blob(client: httpx.AsyncClient, blob: Digest, asked: str, start: int, end: int) -> None:
    answer = await client.get(BLOB, headers={"Range": f"bytes={asked}"})
    assert answer.status_code == 206
    assert answer.content == DATA[start:end]
    assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/2048"
    assert answer.headers["Content-Length"] == str(end - start)


@pytest.mark.parametrize("asked", ["500-0", "5000-10000", "2048-", "-0"])
async def test_a_part_outside_a_blob(client: httpx.AsyncClient, blob: Digest, asked: str) -> None:
    answer = await client.get(BLOB, headers={"Range": f"bytes={asked}"})
    assert (answer.status_code, code_of(answer)) == (416, "RANGE_INVALID")
    assert answer.headers["Content-Range"] == "bytes */2048"


async def test_several_ranges_and_a_changed_validator_get_everything(client: httpx.AsyncClient, blob: Digest) -> None:
    for headers in ({"Range": "bytes=0-1,5-6"}, {"Range": "bytes=0-1", "If-Range": '"other"'}):
        answer = await client.get(BLOB, headers=headers)
        assert (answer.status_code, answer.content) == (200, DATA)
    same = await client.get(BLOB, headers={"Range": "bytes=0-1", "If-Range": f'"{blob}"'})
    assert same.status_code == 206


async def test_what_the_client_has_is_not_sent_again(
    client: httpx.AsyncClient, blob: Digest, local_registry: RegistryService
) -> None:
    image = await push_image(local_registry)
    for path, etag in ((BLOB, blob), (f"/v2/{WEB}/manifests/latest", image.digest)):
        for header in (f'"{etag}"', f'W/"{etag}", "x"', "*"):
            answer = await client.get(path, headers={"If-None-Match": header})
            assert (answer.status_code, answer.content) == (304, b"")
        assert (await client.get(path, headers={"If-None-Match": '"x"'})).status_code == 200


async def test_a_damaged_blob_is_an_error_to_pull_and_absent_to_push(
    client: httpx.AsyncClient, blob: Digest, blobs: MemoryBlobStore
) -> None:
    blobs.damage(blob, DATA[:-1])
    # First the question of a pusher, then a pull: both before and after it was moved aside.
    assert (await client.head(BLOB)).status_code == 404
    answer = await client.get(BLOB)
    assert answer.status_code == 500
    assert answer.json()["errors"][0]["detail"]["code"] == "blob_damaged"
    assert (await client.head(BLOB)).status_code == 404
    assert (await client.get(BLOB)).status_code == 404
    pushed = await client.post(f"/v2/{WEB}/blobs/uploads/?digest={blob}", content=DATA)
    assert pushed.status_code == 201
    assert (await client.get(BLOB)).content == DATA


async def test_large_blobs_stream_from_files(tmp_path: Any, sqlite_url: str, local_registry: RegistryService) -> None:
    store = FilesystemBlobStore(tmp_path / "blobs", reserve_bytes=0)
    registry = RegistryService(local_registry._database, store, Directory("acme"), local_registry._database.clock)
    people = Credentials()
    app = Starlette(routes=build_routes(registry, people, people, people, Options()))
    data = DATA * 2000
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://r.test", headers={"Authorization": "Bearer ada"}
    ) as client:
        digest = await push_blob(registry, data)
        assert (await client.get(f"/v2/{WEB}/blobs/{digest}")).content == data
        part = await client.get(f"/v2/{WEB}/blobs/{digest}", headers={"Range": "bytes=1000000-3000000"})
        assert part.content == data[1_000_000:3_000_001]
        served = Starlette(routes=build_routes(registry, people, people, people, Options(accel_prefix="/internal/")))
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(served), base_url="http://r.test", headers={"Authorization": "Bearer ada"}
        ) as fronted:
            answer = await fronted.get(f"/v2/{WEB}/blobs/{digest}", headers={"Range": "bytes=5-9"})
            assert answer.headers["X-Accel-Redirect"] == f"/internal/sha256/{digest.hex[:2]}/{digest.hex}"
            assert (answer.status_code, answer.content) == (200, b"")
    await store.close()


async def test_a_client_that_goes_away_ends_the_sending(
    application: Starlette, local_registry: RegistryService
) -> None:
    data = bytes(8 << 20)
    digest = await push_blob(local_registry, data)
    sent: list[int] = []
    messages = [{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            sent.append(len(message["body"]))

    scope = {
        "type": "http",
        "method": "GET",
        "path": f"/v2/{WEB}/blobs/{digest}",
        "query_string": b"",
        "headers": [(b"authorization", b"Bearer ada")],
    }
    await application(scope, receive, send)
    assert sum(sent) < len(data)


async def test_a_client_that_takes_nothing_is_given_up(
    local_registry: RegistryService, credentials: Credentials
) -> None:
    digest = await push_blob(local_registry, bytes(3 << 20))
    options = Options(idle_seconds=0.05)
    impatient = Starlette(routes=build_routes(local_registry, credentials, credentials, credentials, options))
    started: list[int] = []

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            started.append(message["status"])
        else:
            await asyncio.Event().wait()

    scope = {
        "type": "http",
        "method": "GET",
        "path": f"/v2/{WEB}/blobs/{digest}",
        "query_string": b"",
        "headers": [(b"authorization", b"Bearer ada")],
    }
    await impatient(scope, receive, send)
    assert started == [200]


async def test_manifests_come_as_they_were_pushed(client: httpx.AsyncClient, local_registry: RegistryService) -> None:
    image = await push_image(local_registry, tag="1.4")
    for reference in ("1.4", str(image.digest)):
        answer = await client.get(f"/v2/{WEB}/manifests/{reference}")
        assert (answer.status_code, answer.content) == (200, image.payload)
        assert answer.headers["Content-Type"] == OCI_MANIFEST
        assert answer.headers["Docker-Content-Digest"] == str(image.digest)
        head = await client.head(f"/v2/{WEB}/manifests/{reference}")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["Content-Length"] == str(len(image.payload))


async def test_a_manifest_is_pushed_by_tag_and_by_digest(
    client: httpx.AsyncClient, local_registry: RegistryService
) -> None:
    config = b"{}"
    await push_blob(local_registry, config)
    payload = image_manifest(config, [])
    digest = Digest.of(payload)
    headers = {"Content-Type": OCI_MANIFEST}
    by_tag = await client.put(f"/v2/{WEB}/manifests/v1", content=payload, headers=headers)
    assert by_tag.status_code == 201
    assert by_tag.headers["Location"] == f"/v2/{WEB}/manifests/{digest}"
    assert by_tag.headers["Docker-Content-Digest"] == str(digest)
    by_digest = await client.put(f"/v2/{WEB}/manifests/{digest}?tag=v2&tag=v3", content=payload, headers=headers)
    assert by_digest.status_code == 201
    assert by_digest.headers.get_list("OCI-Tag") == ["v2", "v3"]
    assert (await client.get(f"/v2/{WEB}/tags/list")).json() == {"name": WEB, "tags": ["v1", "v2", "v3"]}
    other = Digest.of(b"else")
    refused = await client.put(f"/v2/{WEB}/manifests/{other}", content=payload, headers=headers)
    assert (refused.status_code, code_of(refused)) == (400, "DIGEST_INVALID")


async def test_each_missing_blob_of_a_manifest_is_named(client: httpx.AsyncClient) -> None:
    payload = image_manifest(b"config", [b"layer"])
    answer = await client.put(f"/v2/{WEB}/manifests/v1", content=payload, headers={"Content-Type": OCI_MANIFEST})
    assert answer.status_code == 400
    errors = answer.json()["errors"]
    assert [error["code"] for error in errors] == ["MANIFEST_BLOB_UNKNOWN"] * 2
    assert {error["detail"]["digest"] for error in errors} == {str(Digest.of(each)) for each in (b"config", b"layer")}


@pytest.mark.parametrize("declared", [True, False])
async def test_a_manifest_beyond_the_limit_is_refused_unread(client: httpx.AsyncClient, declared: bool) -> None:
    async def stream() -> Any:
        for _ in range(80):
            yield bytes(1 << 16)

    content = bytes(MAX_BYTES + 1) if declared else stream()
    answer = await client.put(f"/v2/{WEB}/manifests/v1", content=content, headers={"Content-Type": OCI_MANIFEST})
    assert (answer.status_code, code_of(answer)) == (413, "SIZE_INVALID")


async def test_clients_that_ask_for_images_get_one_out_of_an_index(
    client: httpx.AsyncClient, local_registry: RegistryService
) -> None:
    payload, images = await push_index(local_registry)
    path = f"/v2/{WEB}/manifests/multi"
    for accept in (None, "*/*", OCI_INDEX, f"{OCI_MANIFEST}, {OCI_INDEX};q=0.5", "application/json"):
        answer = await client.get(path, headers={"Accept": accept} if accept else {})
        assert (answer.headers["Content-Type"], answer.content) == (OCI_INDEX, payload)
    several = await client.get(path, headers=[("Accept", DOCKER_MANIFEST), ("Accept", OCI_INDEX)])
    assert several.content == payload
    old = await client.get(path, headers={"Accept": f"{DOCKER_MANIFEST}, {OCI_MANIFEST}"})
    assert old.content == images["amd64"].payload
    assert old.headers["Docker-Content-Digest"] == str(images["amd64"].digest)
    by_digest = await client.get(f"/v2/{WEB}/manifests/{Digest.of(payload)}", headers={"Accept": OCI_MANIFEST})
    assert by_digest.content == payload


async def test_tags_and_manifests_are_deleted(client: httpx.AsyncClient, local_registry: RegistryService) -> None:
    image = await push_image(local_registry, tag="1.4")
    path = f"/v2/{WEB}/manifests"
    assert (await client.delete(f"{path}/1.4")).status_code == 202
    assert (await client.get(f"{path}/1.4")).status_code == 404
    assert (await client.get(f"{path}/{image.digest}")).status_code == 200
    in_use = await client.delete(f"/v2/{WEB}/blobs/{Digest.of(image.config)}")
    assert (in_use.status_code, code_of(in_use)) == (409, "DENIED")
    assert (await client.delete(f"{path}/{image.digest}")).status_code == 202
    assert (await client.delete(f"{path}/{image.digest}")).status_code == 404
    assert (await client.delete(f"/v2/{WEB}/blobs/{Digest.of(image.config)}")).status_code == 202
    assert (await client.head(f"/v2/{WEB}/blobs/{Digest.of(image.config)}")).status_code == 404


async def test_tags_come_in_pages_that_link_to_the_next(
    client: httpx.AsyncClient, local_registry: RegistryService
) -> None:
    for number in range(5):
        await push_image(local_registry, str(number), tag=f"v{number}")
    path: str | None = f"/v2/{WEB}/tags/list?n=2"
    seen: list[list[str]] = []
    while path is not None:
        answer = await client.get(path)
        seen.append(answer.json()["tags"])
        path = answer.links["next"]["url"] if "next" in answer.links else None
    assert seen == [["v0", "v1"], ["v2", "v3"], ["v4"]]
    after = await client.get(f"/v2/{WEB}/tags/list?last=v3")
    assert after.json()["tags"] == ["v4"]
    none = await client.get(f"/v2/{WEB}/tags/list?n=0")
    assert (none.json()["tags"], "Link" in none.headers) == ([], False)
    huge = await client.get(f"/v2/{WEB}/tags/list?n=999999999999")
    assert len(huge.json()["tags"]) == 5


@pytest.mark.parametrize("n", ["-1", "x", "", "1.5", "9" * 40, "٣"])
async def test_a_page_size_that_is_none_is_refused(client: httpx.AsyncClient, n: str) -> None:
    for path in (f"/v2/{WEB}/tags/list", "/v2/_catalog"):
        answer = await client.get(path, params={"n": n})
        assert (answer.status_code, code_of(answer)) == (400, "PAGINATION_NUMBER_INVALID")


async def test_the_catalogue_is_paged_and_the_principals(
    client: httpx.AsyncClient, local_registry: RegistryService
) -> None:
    for name in ("acme/a", "acme/b", "acme/c"):
        await push_blob(local_registry, b"x", name)
    answer = await client.get("/v2/_catalog?n=2")
    assert answer.json() == {"repositories": ["acme/a", "acme/b"]}
    assert (await client.get(answer.links["next"]["url"])).json() == {"repositories": ["acme/c"]}
    foreign = await client.get("/v2/_catalog", headers={"Authorization": "Bearer bob"})
    assert foreign.json() == {"repositories": []}


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", f"/v2/acme/{'a' * 300}/manifests/latest", 400, "NAME_INVALID"),
        ("GET", "/v2/acme/%2e%2e/manifests/latest", 400, "NAME_INVALID"),
        ("GET", "/v2/Acme/Web/manifests/latest", 400, "NAME_INVALID"),
        ("GET", "/v2/acme/w%C3%A9b/manifests/latest", 400, "NAME_INVALID"),
        ("GET", "/v2/acme//web/manifests/latest", 400, "NAME_INVALID"),
        ("GET", "/v2/acme/manifests/latest", 400, "NAME_INVALID"),
        ("POST", "/v2/acme/We%20b/blobs/uploads/", 400, "NAME_INVALID"),
        ("GET", f"/v2/{WEB}/blobs/sha256:..%2F..%2Fx", 400, "DIGEST_INVALID"),
        ("PUT", f"/v2/{WEB}/manifests/sha256:..%2F..%2Fx", 400, "DIGEST_INVALID"),
        ("GET", f"/v2/{WEB}/blobs/sha256:zz", 400, "DIGEST_INVALID"),
        ("GET", f"/v2/{WEB}/manifests/sha256:zz", 400, "DIGEST_INVALID"),
        ("DELETE", f"/v2/{WEB}/manifests/md5:{'a' * 32}", 400, "DIGEST_INVALID"),
        ("GET", f"/v2/{WEB}/manifests/absent", 404, "MANIFEST_UNKNOWN"),
        ("GET", f"/v2/{WEB}/manifests/.INVALID_NAME", 404, "MANIFEST_UNKNOWN"),
        ("DELETE", f"/v2/{WEB}/manifests/absent", 404, "MANIFEST_UNKNOWN"),
        ("GET", f"/v2/{WEB}/manifests/{Digest.of(b'x')}", 404, "MANIFEST_UNKNOWN"),
        ("PUT", f"/v2/{WEB}/manifests/{'t' * 129}", 400, "TAG_INVALID"),
        ("PUT", f"/v2/{WEB}/manifests/v1", 400, "MANIFEST_INVALID"),
        ("GET", f"/v2/{WEB}/blobs/{Digest.of(b'x')}", 404, "BLOB_UNKNOWN"),
        ("DELETE", f"/v2/{WEB}/blobs/{Digest.of(b'x')}", 404, "BLOB_UNKNOWN"),
        ("GET", "/v2/acme/absent/tags/list", 404, "NAME_UNKNOWN"),
        ("GET", "/v2/acme/absent/manifests/latest", 404, "NAME_UNKNOWN"),
        ("GET", f"/v2/acme/absent/blobs/{DIGEST}", 404, "NAME_UNKNOWN"),
        ("GET", "/v2/birch/web/manifests/latest", 404, "NAME_UNKNOWN"),
        ("POST", "/v2/birch/web/blobs/uploads/", 403, "DENIED"),
        ("GET", f"/v2/{WEB}/blobs/uploads/nonsense", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("PATCH", f"/v2/{WEB}/blobs/uploads/00000000-0000-7000-8000-000000000000", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("GET", "/v2/anything", 404, "UNSUPPORTED"),
        ("PATCH", f"/v2/{WEB}/manifests/latest", 405, "UNSUPPORTED"),
        ("POST", f"/v2/{WEB}/blobs/{DIGEST}", 405, "UNSUPPORTED"),
        ("DELETE", "/v2/", 405, "UNSUPPORTED"),
    ],
)
async def test_every_refusal_is_clear(
    client: httpx.AsyncClient, blob: Digest, method: str, path: str, status: int, code: str
) -> None:
    answer = await client.request(method, path)
    assert (answer.status_code, code_of(answer)) == (status, code)
    assert answer.headers["Content-Type"] == "application/json"
    error = answer.json()["errors"][0]
    assert error["message"]
    assert error["detail"]["action"]
    if status == 405:
        assert answer.headers["Allow"]


async def test_the_unforeseen_is_a_bare_500(client: httpx.AsyncClient, blob: Digest, blobs: MemoryBlobStore) -> None:
    blobs._blobs = None  # type: ignore[assignment]
    answer = await client.head(BLOB)
    assert (answer.status_code, answer.content) == (500, b"")
    broken = await client.get(BLOB)
    assert (broken.status_code, code_of(broken)) == (500, "UNKNOWN")
    assert "NoneType" not in broken.text


@pytest.mark.parametrize(
    "path", ["/v2/acme/../../etc/passwd/manifests/latest", "/v2/../blobs/x", "/v2/acme/web\x00/tags/list"]
)
async def test_paths_that_no_honest_client_sends_are_names_that_are_invalid(application: Starlette, path: str) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
    await application(scope, receive, send)
    assert sent[0]["status"] == 400
    assert b"NAME_INVALID" in sent[1]["body"]
