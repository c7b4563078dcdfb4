"""Whatever arrives at `/v2`: an answer, in time, never a 500; and what was there before is there afterwards."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Message

from common.clock import ManualClock
from common.digest import Digest
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.database import Database
from control_plane.registry.manifests import MANIFEST_TYPES
from control_plane.registry.routes import build_application
from control_plane.registry.service import RegistryService
from control_plane.registry.v2 import Options
from tests.control_plane.registry.people import ADA, Credentials, Directory, encode, image_manifest
from tests.control_plane.registry.pushing import WEB, Image, push_image
from tests.pace import BUSY_SECONDS

DIGEST = Digest.of(b"x")
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get", "", "A" * 1000)
_ODD = (
    "..",
    ".",
    "",
    "%2e%2e",
    "%00",
    "\0",
    "a\0b",
    "é",
    "\U0001f4a9",
    "\u202e",
    "A" * 70_000,
    "a" * 300,
    " ",
    "\n",
    "-",
)
_SEGMENTS = (
    *_ODD,
    "acme",
    "web",
    "v2",
    "blobs",
    "uploads",
    "manifests",
    "tags",
    "list",
    "referrers",
    "_catalog",
    "token",
)
_ITEMS = (str(DIGEST), "sha256:..", "sha256:../../etc/passwd", "sha512:" + "a" * 128, "md5:aa", "latest", "0" * 32)
_NUMBERS = ("-1", "0", "1", "1000000000", "9" * 5000, "1e9", "0x10", "NaN", "", "\u0661", "1\0")
_NAMES = (
    "Content-Range",
    "Content-Length",
    "Content-Type",
    "Range",
    "If-Range",
    "If-None-Match",
    "Accept",
    "Host",
    "Authorization",
    "X-Forwarded-For",
    "Upload-Offset",
    "Expect",
    "Transfer-Encoding",
    "OCI-Subject",
)

_PARAMETERS = ("n", "last", "digest", "mount", "from", "tag", "artifactType", "digest-algorithm", "service", "scope")

segment = st.sampled_from(_SEGMENTS) | st.text(max_size=20)
reference = st.sampled_from((*_ITEMS, *_ODD)) | st.text(max_size=20)
value = st.sampled_from((*_NUMBERS, *_ODD, *_ITEMS, "bytes=0-0", "0-9", "bytes=" + "0-1," * 500)) | st.text(max_size=20)
path = st.one_of(
    st.lists(segment, max_size=8).map(lambda parts: "/v2/" + "/".join(parts)),
    st.tuples(st.sampled_from(("blobs", "manifests", "referrers", "blobs/uploads")), reference).map(
        lambda pair: f"/v2/{WEB}/{pair[0]}/{pair[1]}"
    ),
    st.sampled_from((f"/v2/{WEB}/tags/list", f"/v2/{WEB}/blobs/uploads/", "/v2/_catalog", "/v2/token", "/v2/", "/v2")),
)
query = st.lists(
    st.tuples(
        st.sampled_from(
            ("n", "last", "digest", "mount", "from", "tag", "artifactType", "digest-algorithm", "service", "scope")
        ),
        value,
    ),
    max_size=4,
)
headers = st.lists(st.tuples(st.sampled_from(_NAMES), value), max_size=4)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.sampled_from(_ITEMS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
_KEYS = (
    "schemaVersion",
    "mediaType",
    "config",
    "layers",
    "manifests",
    "subject",
    "annotations",
    "artifactType",
    "urls",
)
manifest_like = st.dictionaries(
    st.sampled_from(_KEYS), _JSON | st.just(2) | st.sampled_from(sorted(MANIFEST_TYPES)), max_size=6
).map(lambda document: json.dumps(document).encode())
body = st.binary(max_size=100) | manifest_like


class Lab:
    """The application on one engine, with an image that must survive."""

    def __init__(self, database: Database, clock: ManualClock) -> None:
        people = Credentials()
        self.registry = RegistryService(database, MemoryBlobStore(clock), Directory("acme", "birch"), clock)
        self.application = build_application(self.registry, people, people, people, Options(idle_seconds=2))
        self.image: Image | None = None

    async def ask(
        self,
        method: str,
        path: str,
        query: bytes = b"",
        headers: list[tuple[bytes, bytes]] | None = None,
        body: bytes = b"",
    ) -> tuple[int, bytes]:
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[Any] = []

        async def receive() -> Message:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode("utf-8", "surrogatepass"),
            "query_string": query,
            "headers": [(b"authorization", b"Bearer ada"), *(headers or [])],
            "client": ("192.0.2.1", 1),
            "server": ("registry.test", 80),
            "scheme": "http",
        }
        async with asyncio.timeout(BUSY_SECONDS):
            await self.application(scope, receive, send)
        answer = b"".join(each.get("body", b"") for each in sent[1:])
        for name, text in sent[0]["headers"]:
            assert b"\r" not in name + text
            assert b"\n" not in name + text
        return sent[0]["status"], answer


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace")


_FUZZ = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@_FUZZ
@given(method=st.sampled_from(_METHODS), path=path, query=query, headers=headers, body=body)
async def test_any_request_is_answered(
    database: Database,
    clock: ManualClock,
    method: str,
    path: str,
    query: list[tuple[str, str]],
    headers: list[tuple[str, str]],
    body: bytes,
) -> None:
    lab = Lab(database, clock)
    raw = b"&".join(encoded(name) + b"=" + encoded(text) for name, text in query)
    # The server refuses a Content-Length that is no number before we see it.
    sent = [
        (name.lower().encode(), encoded(text))
        for name, text in headers
        if name not in ("Content-Length", "Transfer-Encoding") or (text.isascii() and text.isdigit() and len(text) < 19)
    ]
    status, answer = await lab.ask(method, path, raw, sent, body)
    assert 200 <= status < 500, (status, answer)
    if status >= 400 and method != "HEAD":
        assert json.loads(answer)["errors"][0]["code"]


@_FUZZ
@given(
    payload=manifest_like,
    change=st.tuples(st.sampled_from(_KEYS), _JSON),
    media_type=st.sampled_from([*sorted(MANIFEST_TYPES), "", "text/plain", "\0"]),
)
async def test_any_manifest_is_taken_or_refused_and_disturbs_no_other(
    database: Database, clock: ManualClock, payload: bytes, change: tuple[str, Any], media_type: str
) -> None:
    lab = Lab(database, clock)
    image = await push_image(lab.registry)
    changed = json.loads(image.payload) | dict([change])
    typed = [(b"content-type", media_type.encode())]
    for document in (payload, encode(changed), image_manifest(b"absent", [])):
        status, answer = await lab.ask("PUT", f"/v2/{WEB}/manifests/fuzzed", b"", typed, document)
        assert status in (201, 400), (status, answer)
    assert (await lab.registry.images.find(ADA, WEB, "latest")).payload == image.payload


async def test_bombs_are_refused_at_once(database: Database, clock: ManualClock) -> None:
    lab = Lab(database, clock)
    image = await push_image(lab.registry)
    layer = json.loads(image.payload)["layers"][0]
    head = image.payload[:-1]
    bombs = {
        "10,000 layers": encode(json.loads(image.payload) | {"layers": [layer] * 10_000}),
        "deep lists": head + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "deep objects": head + b',"x":' + b'{"a":' * 500 + b"1" + b"}" * 500 + b"}",
        "a key twice": head + b',"layers":[]}',
        "a huge number": head + b',"x":' + b"9" * 10_000 + b"}",
        "a huge exponent": head.replace(b'"size":', b'"size":1e9999, "y":', 1) + b"}",
        "both kinds": head + b',"manifests":[]}',
        "not a number": head + b',"x":NaN}',
        "100,000 children": encode(
            {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [{}] * 100_000}
        ),
    }
    for name, payload in bombs.items():
        status, answer = await lab.ask("PUT", f"/v2/{WEB}/manifests/bomb", body=payload)
        assert (status, json.loads(answer)["errors"][0]["code"]) == (400, "MANIFEST_INVALID"), name
    status, _ = await lab.ask("PUT", f"/v2/{WEB}/manifests/bomb", body=bytes((4 << 20) + 1))
    assert status == 413
