"""Pushing blobs over the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from common.digest import Digest
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.registry.routes import build_routes
from control_plane.registry.service import RegistryService
from control_plane.registry.v2 import Options
from tests.control_plane.registry.people import ADA, Credentials
from tests.control_plane.registry.pushing import WEB
from tests.pace import BUSY_SECONDS

DATA = b"0123456789" * 100
DIGEST = Digest.of(DATA)
UPLOADS = f"/v2/{WEB}/blobs/uploads/"
OCTETS = {"Content-Type": "application/octet-stream"}


async def begun(client: httpx.AsyncClient, query: str = "") -> str:
    answer = await client.post(UPLOADS + query)
    assert answer.status_code == 202
    location: str = answer.headers["Location"]
    return location


def final(location: str, digest: object = DIGEST) -> str:
    return f"{location}{'&' if '?' in location else '?'}digest={digest}"


def code_of(answer: httpx.Response) -> str:
    [error] = answer.json()["errors"]
    assert error["message"]
    assert error["detail"]["code"]
    code: str = error["code"]
    return code


async def content(client: httpx.AsyncClient, digest: object = DIGEST) -> bytes:
    answer = await client.get(f"/v2/{WEB}/blobs/{digest}")
    assert answer.status_code == 200
    return answer.content


async def test_a_blob_is_pushed_in_one_request(client: httpx.AsyncClient) -> None:
    answer = await client.post(f"{UPLOADS}?digest={DIGEST}", content=DATA, headers=OCTETS)
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/v2/{WEB}/blobs/{DIGEST}"
    assert answer.headers["Docker-Content-Digest"] == str(DIGEST)
    assert answer.headers["Docker-Distribution-API-Version"] == "registry/2.0"
    assert await content(client) == DATA


async def test_a_digest_without_a_body_begins_a_session_except_for_the_empty_blob(client: httpx.AsyncClient) -> None:
    assert (await client.post(f"{UPLOADS}?digest={DIGEST}")).status_code == 202
    empty = Digest.of(b"")
    assert (await client.post(f"{UPLOADS}?digest={empty}")).status_code == 201
    assert await content(client, empty) == b""


async def test_a_blob_is_pushed_with_post_and_put(client: httpx.AsyncClient) -> None:
    location = await begun(client)
    assert location.startswith(UPLOADS)
    answer = await client.put(final(location), content=DATA)
    assert answer.status_code == 201
    assert await content(client) == DATA


async def test_a_blob_is_streamed_as_docker_does_it(client: httpx.AsyncClient) -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield DATA[:300]
        yield DATA[300:]

    location = await begun(client)
    answer = await client.patch(location, content=stream())
    assert answer.status_code == 202
    assert answer.headers["Range"] == "0-999"
    assert (await client.put(final(answer.headers["Location"]))).status_code == 201
    assert await content(client) == DATA


async def test_a_blob_is_pushed_in_chunks_with_the_last_in_the_put(client: httpx.AsyncClient) -> None:
    location = await begun(client)
    for start in (0, 400):
        answer = await client.patch(
            location, content=DATA[start : start + 400], headers={"Content-Range": f"{start}-{start + 399}"}
        )
        assert answer.status_code == 202
        assert answer.headers["Range"] == f"0-{start + 399}"
        assert answer.headers["Upload-Offset"] == str(start + 400)
        location = answer.headers["Location"]
    answer = await client.put(final(location), content=DATA[800:], headers={"Content-Range": "800-999"})
    assert answer.status_code == 201
    assert await content(client) == DATA


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
@pytest.mark.parametrize("span", ["0-99", "399-498", "401-500", "900-999", "x-y", "400", "499-400", "400-450"])
async def test_a_chunk_out_of_order_is_refused_with_where_to_go_on(
    client: httpx.AsyncClient, method: str, span: str
) -> None:
    location = await begun(client)
    await client.patch(location, content=DATA[:400], headers={"Content-Range": "0-399"})
    answer = await client.request(
        method, final(location) if method == "PUT" else location, content=bytes(100), headers={"Content-Range": span}
    )
    assert answer.status_code == 416
    assert code_of(answer) == "RANGE_INVALID"
    assert answer.headers["Range"] == "0-399"
    assert answer.headers["Location"].startswith(location)
    status = await client.get(answer.headers["Location"])
    assert (status.status_code, status.headers["Range"]) == (204, "0-399")
    await client.patch(location, content=DATA[400:], headers={"Content-Range": "400-999"})
    assert (await client.put(final(location))).status_code == 201


async def test_a_body_longer_than_its_range_counts_as_far_as_the_range(client: httpx.AsyncClient) -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield DATA[:60]
        yield DATA[60:300]

    location = await begun(client)
    answer = await client.patch(location, content=stream(), headers={"Content-Range": "0-99"})
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (416, "100")
    await client.patch(location, content=DATA[100:])
    assert (await client.put(final(location))).status_code == 201


async def test_the_state_of_a_session_is_told(client: httpx.AsyncClient) -> None:
    location = await begun(client)
    empty = await client.get(location)
    assert (empty.status_code, empty.headers["Range"], empty.headers["Upload-Offset"]) == (204, "0-0", "0")
    assert empty.headers["Docker-Upload-UUID"] in location
    await client.patch(location, content=b"x")
    one = await client.get(location)
    assert (one.headers["Range"], one.headers["Upload-Offset"]) == ("0-0", "1")
    assert (await client.head(location)).status_code == 204


async def test_a_repeated_put_is_answered_again(client: httpx.AsyncClient) -> None:
    location = await begun(client)
    await client.patch(location, content=DATA)
    for _ in range(2):
        assert (await client.put(final(location))).status_code == 201


async def test_a_session_is_cancelled(client: httpx.AsyncClient) -> None:
    location = await begun(client)
    assert (await client.delete(location)).status_code == 204
    for answer in (await client.get(location), await client.put(final(location)), await client.delete(location)):
        assert answer.status_code == 404
        assert code_of(answer) == "BLOB_UPLOAD_UNKNOWN"


async def test_sha512_is_hashed_as_it_streams_in(client: httpx.AsyncClient) -> None:
    digest = Digest.of(DATA, "sha512")
    location = await begun(client, "?digest-algorithm=sha512")
    assert location.endswith("?digest-algorithm=sha512")
    answer = await client.patch(location, content=DATA)
    assert answer.headers["Location"] == location
    assert (await client.put(final(location, digest))).status_code == 201
    assert await content(client, digest) == DATA


@pytest.mark.parametrize("digest", ["", "sha256:../../x", "sha256:" + "A" * 64, "md5:" + "a" * 32, "sha256:abc"])
async def test_a_malformed_digest_is_named_so(client: httpx.AsyncClient, digest: str) -> None:
    location = await begun(client)
    for answer in (
        await client.put(location, params={"digest": digest}, content=DATA),
        await client.post(UPLOADS, params={"digest": digest}, content=DATA),
        await client.get(f"/v2/{WEB}/blobs/{digest or 'x'}"),
    ):
        assert (answer.status_code, code_of(answer)) in ((400, "DIGEST_INVALID"), (400, "NAME_INVALID"))
    assert (await client.put(location)).status_code == 400


async def test_a_false_digest_publishes_nothing(client: httpx.AsyncClient) -> None:
    false = Digest.of(b"else")
    answers = [
        await client.post(f"{UPLOADS}?digest={false}", content=DATA),
        await client.put(final(await begun(client), false), content=DATA),
    ]
    location = await begun(client)
    await client.patch(location, content=DATA)
    answers.append(await client.put(final(location, false)))
    for answer in answers:
        assert (answer.status_code, code_of(answer)) == (400, "DIGEST_INVALID")
    for digest in (false, DIGEST):
        assert (await client.head(f"/v2/{WEB}/blobs/{digest}")).status_code == 404


async def test_a_mount_links_or_falls_back_to_an_upload(client: httpx.AsyncClient) -> None:
    await client.post(f"{UPLOADS}?digest={DIGEST}", content=DATA)
    target = "/v2/acme/new/blobs/uploads/"
    answer = await client.post(f"{target}?mount={DIGEST}&from={WEB}")
    assert (answer.status_code, answer.headers["Location"]) == (201, f"/v2/acme/new/blobs/{DIGEST}")
    assert (await client.get(f"/v2/acme/new/blobs/{DIGEST}")).content == DATA
    for query in (
        f"mount={Digest.of(b'absent')}&from={WEB}",
        f"mount={DIGEST}&from=acme/absent",
        f"mount={DIGEST}&from=birch/web",
        f"mount={DIGEST}&from=../etc",
        f"mount=sha256:../../x&from={WEB}",
    ):
        answer = await client.post(f"/v2/acme/third/blobs/uploads/?{query}")
        assert answer.status_code == 202, query
        assert answer.headers["Location"].startswith("/v2/acme/third/blobs/uploads/")


async def test_a_mount_without_source_serves_too(client: httpx.AsyncClient) -> None:
    await client.post(f"{UPLOADS}?digest={DIGEST}", content=DATA)
    assert (await client.post(f"/v2/acme/new/blobs/uploads/?mount={DIGEST}")).status_code == 201


async def test_a_full_store_is_a_507_that_says_so_and_the_session_goes_on(
    client: httpx.AsyncClient, blobs: MemoryBlobStore
) -> None:
    blobs._capacity = 100
    location = await begun(client)
    answer = await client.patch(location, content=DATA)
    assert answer.status_code == 507
    [error] = answer.json()["errors"]
    assert (error["code"], error["detail"]["code"]) == ("UNAVAILABLE", "disk_full")
    assert int(answer.headers["Retry-After"]) >= 1
    blobs._capacity = 10_000
    held = int((await client.get(location)).headers["Upload-Offset"])
    await client.patch(location, content=DATA[held:], headers={"Content-Range": f"{held}-{len(DATA) - 1}"})
    assert (await client.put(final(location))).status_code == 201
    assert await content(client) == DATA


def conversation(path: str, method: str, messages: list[Any], headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    """An ASGI scope as a server gives it."""
    return {
        "type": "http",
        "method": method,
        "path": path.partition("?")[0],
        "query_string": path.partition("?")[2].encode(),
        "headers": [(b"authorization", b"Bearer ada"), *headers],
        "scheme": "http",
        "server": ("registry.test", 80),
        "client": ("192.0.2.1", 1),
        "messages": messages,
    }


async def run(application: Any, scope: dict[str, Any]) -> list[dict[str, Any]]:
    """What the application sends when the client sends `messages` and then nothing, or goes."""
    messages = list(scope.pop("messages"))
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not messages:
            await asyncio.Event().wait()
        message: dict[str, Any] = messages.pop(0)
        return message

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await application(scope, receive, send)
    return sent


async def test_what_arrived_before_the_client_went_away_stays(client: httpx.AsyncClient, application: Any) -> None:
    location = await begun(client)
    messages = [
        {"type": "http.request", "body": DATA[:300], "more_body": True},
        {"type": "http.request", "body": DATA[300:450], "more_body": True},
        {"type": "http.disconnect"},
    ]
    assert await run(application, conversation(location, "PATCH", messages, [(b"content-range", b"0-999")])) == []
    status = await client.get(location)
    assert status.headers["Range"] == "0-449"
    answer = await client.patch(location, content=DATA[450:], headers={"Content-Range": "450-999"})
    assert answer.status_code == 202
    assert (await client.put(final(location))).status_code == 201
    assert await content(client) == DATA


@pytest.mark.parametrize("upto", [0, 1, 500, 999])
async def test_a_truncated_put_publishes_nothing(client: httpx.AsyncClient, application: Any, upto: int) -> None:
    location = await begun(client)
    messages = [{"type": "http.request", "body": DATA[:upto], "more_body": True}, {"type": "http.disconnect"}]
    assert await run(application, conversation(final(location), "PUT", messages, [(b"content-length", b"1000")])) == []
    assert (await client.head(f"/v2/{WEB}/blobs/{DIGEST}")).status_code == 404
    assert (await client.get(location)).headers["Upload-Offset"] == str(upto)


async def test_a_client_that_stops_sending_is_let_go_with_what_it_sent(
    local_registry: RegistryService, credentials: Credentials, client: httpx.AsyncClient
) -> None:
    options = Options(idle_seconds=0.05)
    impatient = Starlette(routes=build_routes(local_registry, credentials, credentials, credentials, options))
    location = await begun(client)
    messages = [{"type": "http.request", "body": DATA[:700], "more_body": True}]
    sent = await run(impatient, conversation(location, "PATCH", messages, []))
    assert sent[0]["status"] == 408
    assert b"upload_stalled" in sent[1]["body"]
    assert (await client.get(location)).headers["Upload-Offset"] == "700"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_any_order_of_chunks_ends_in_the_content_or_in_a_refusal(
    client: httpx.AsyncClient, data: st.DataObject
) -> None:
    """A model: the session is the prefix of accepted bytes; a chunk is taken exactly if it starts at its end."""
    whole = data.draw(st.binary(min_size=1, max_size=60))
    location = await begun(client)
    held = 0
    for _ in range(data.draw(st.integers(1, 8))):
        start = data.draw(st.one_of(st.just(held), st.integers(0, len(whole) + 2)))
        end = data.draw(st.integers(start, len(whole) + 2)) + 1
        chunk = whole[start:end]
        with_range = data.draw(st.booleans())
        headers = {"Content-Range": f"{start}-{end - 1}"} if with_range else {}
        if not with_range:
            chunk = whole[held : held + end - start]
        answer = await client.patch(location, content=chunk, headers=headers)
        accepted = not with_range or (start == held and len(chunk) == end - start)
        assert answer.status_code == (202 if accepted else 416)
        held += len(chunk) if accepted else 0
        assert answer.headers["Upload-Offset"] == str(held)
        assert answer.headers["Range"] == f"0-{max(held - 1, 0)}"
    answer = await client.put(final(location, Digest.of(whole)))
    assert answer.status_code == (201 if held == len(whole) else 400)
    if held == len(whole):
        assert await content(client, Digest.of(whole)) == whole


async def test_a_client_that_drips_is_told_so(local_registry: RegistryService, credentials: Credentials) -> None:
    """A byte now and then is no upload (slowloris)."""
    upload = await local_registry.uploads.start(ADA, WEB)
    options = Options(idle_seconds=0.2)
    impatient = Starlette(routes=build_routes(local_registry, credentials, credentials, credentials, options))
    dripped, sent = 0, []

    async def receive() -> Any:
        nonlocal dripped
        await asyncio.sleep(0.02)
        dripped += 1
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "PATCH",
        "path": f"/v2/{WEB}/blobs/uploads/{upload.upload_id}",
        "query_string": b"",
        "headers": [(b"authorization", b"Bearer ada"), (b"transfer-encoding", b"chunked")],
    }
    async with asyncio.timeout(BUSY_SECONDS):
        await impatient(scope, receive, send)
    assert sent[0]["status"] == 408
    assert 0 < await local_registry.uploads.size(ADA, WEB, upload.upload_id) <= dripped <= 11
