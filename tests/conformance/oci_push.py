"""Cases of the OCI distribution specification 1.1 about pushing blobs; see `oci_distribution.py`."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from common.digest import Digest
from tests.conformance.oci_registry import OCTETS, RegistryUser, closing, codes_of, unique

_WAYS = ("post", "post and put", "one chunk", "three chunks", "last chunk in put", "stream")


def begin(user: RegistryUser) -> str:
    answer = user.ask("POST", user.path("blobs", "uploads", ""), b"", Content_Length="0")
    assert answer.status_code == 202
    return str(answer.headers["Location"])


def patch(user: RegistryUser, location: str, content: bytes, start: int) -> httpx.Response:
    last = start + len(content) - 1
    return user.ask("PATCH", location, content, Content_Type=OCTETS, Content_Range=f"{start}-{last}")


def push(user: RegistryUser, way: str, content: bytes, digest: Digest) -> httpx.Response:
    """The answer to the last request."""
    if way == "post":
        return user.ask("POST", user.path("blobs", "uploads", "") + f"?digest={digest}", content, Content_Type=OCTETS)
    location = begin(user)
    if way == "post and put":
        return user.ask("PUT", closing(location, digest), content, Content_Type=OCTETS)
    if way == "stream":
        answer = user.ask("PATCH", location, _stream(content), Content_Type=OCTETS)
        assert answer.status_code == 202
        return user.ask("PUT", closing(answer.headers["Location"], digest))
    size = len(content) if way == "one chunk" else len(content) // 3 + 1
    starts = list(range(0, len(content), size))
    held = starts.pop() if way == "last chunk in put" else len(content)
    for start in starts:
        answer = patch(user, location, content[start : start + size], start)
        assert answer.status_code == 202
        assert answer.headers["Range"] == f"0-{min(start + size, len(content)) - 1}"
        location = answer.headers["Location"]
    if held == len(content):
        return user.ask("PUT", closing(location, digest), Content_Length="0")
    bounds = f"{held}-{len(content) - 1}"
    return user.ask("PUT", closing(location, digest), content[held:], Content_Type=OCTETS, Content_Range=bounds)


def _stream(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), 100):
        yield content[start : start + 100]


class PushCases:
    @pytest.mark.parametrize("way", _WAYS)
    def test_a_blob_is_pushed(self, user: RegistryUser, way: str) -> None:
        """Pushing blobs: 201 Created and a `Location` that is a pullable blob URL, however the bytes come."""
        content = unique(3000)
        digest = user.digest(content)
        answer = push(user, way, content, digest)
        assert answer.status_code == 201, answer.text
        assert answer.headers["Docker-Content-Digest"] == str(digest)
        pulled = user.ask("GET", answer.headers["Location"])
        assert (pulled.status_code, pulled.content) == (200, content)

    @pytest.mark.parametrize("way", _WAYS)
    def test_a_false_digest_publishes_nothing(self, user: RegistryUser, way: str) -> None:
        """Pushing blobs: "`<digest>` MUST match the blob's digest"."""
        digest = user.digest(b"else")
        answer = push(user, way, unique(3000), digest)
        assert (answer.status_code, codes_of(answer)) == (400, ["DIGEST_INVALID"])
        assert user.ask("HEAD", user.path("blobs", digest)).status_code == 404

    def test_a_session_has_a_location_of_its_own(self, user: RegistryUser) -> None:
        """POST then PUT: "The `<location>` MUST contain a UUID representing a unique session ID"."""
        assert len({begin(user) for _ in range(5)}) == 5

    @pytest.mark.parametrize("in_put", [False, True])
    def test_a_chunk_out_of_order_is_416_and_the_upload_goes_on(self, user: RegistryUser, in_put: bool) -> None:
        """Pushing a blob in chunks: "the registry MUST respond with a 416"; GET `<location>` gives the valid offset."""
        content = unique(300)
        digest = user.digest(content)
        location = patch(user, begin(user), content[:100], 0).headers["Location"]
        for start in (0, 50, 200):
            chunk, bounds = content[start : start + 100], f"{start}-{start + 99}"
            method, path = ("PUT", closing(location, digest)) if in_put else ("PATCH", location)
            answer = user.ask(method, path, chunk, Content_Type=OCTETS, Content_Range=bounds)
            assert (answer.status_code, codes_of(answer)) == (416, ["RANGE_INVALID"])
            assert answer.headers["Range"] == "0-99"
            status = user.ask("GET", answer.headers["Location"])
            assert (status.status_code, status.headers["Range"]) == (204, "0-99")
            location = status.headers["Location"]
        location = patch(user, location, content[100:], 100).headers["Location"]
        assert user.ask("PUT", closing(location, digest)).status_code == 201

    @pytest.mark.parametrize("bounds", ["100-0", "a-b", "0-", "-99", "0-98", "0-100", "0-" + "9" * 30])
    def test_a_range_that_is_none_is_416(self, user: RegistryUser, bounds: str) -> None:
        """Pushing a blob in chunks: "It MUST match the following regular expression"."""
        answer = user.ask("PATCH", begin(user), bytes(100), Content_Type=OCTETS, Content_Range=bounds)
        assert (answer.status_code, codes_of(answer)) == (416, ["RANGE_INVALID"])

    def test_an_upload_tells_how_far_it_got(self, user: RegistryUser) -> None:
        """Pushing a blob in chunks: GET `<location>` is 204 with `Location` and `Range: 0-<end-of-range>`."""
        location = patch(user, begin(user), bytes(77), 0).headers["Location"]
        answer = user.ask("GET", location)
        assert (answer.status_code, answer.headers["Range"]) == (204, "0-76")
        assert answer.headers["Location"]

    def test_an_upload_is_cancelled(self, user: RegistryUser) -> None:
        """Cancel a blob upload: "the response SHOULD be a 204 No Content"."""
        location = patch(user, begin(user), bytes(77), 0).headers["Location"]
        assert user.ask("DELETE", location).status_code == 204
        for method in ("GET", "DELETE", "PATCH"):
            answer = user.ask(method, location, None if method == "GET" else b"")
            assert (answer.status_code, codes_of(answer)) == (404, ["BLOB_UPLOAD_UNKNOWN"])

    def test_another_repositorys_upload_is_unknown(self, user: RegistryUser) -> None:
        """Error Codes: BLOB_UPLOAD_UNKNOWN."""
        location = begin(user).replace(user.repository, user.other)
        answer = user.ask("PUT", closing(location, user.digest(b"x")), b"x")
        assert (answer.status_code, codes_of(answer)) == (404, ["BLOB_UPLOAD_UNKNOWN"])

    def test_the_last_request_needs_the_digest(self, user: RegistryUser) -> None:
        """Pushing a blob in chunks: "The closing `PUT` request MUST include the `<digest>`"."""
        answer = user.ask("PUT", begin(user), b"x")
        assert (answer.status_code, codes_of(answer)) == (400, ["DIGEST_INVALID"])

    def test_the_last_request_may_be_repeated(self, user: RegistryUser) -> None:
        """A client that lost the answer asks again; nothing forbids us to give it."""
        location, digest = begin(user), user.digest(b"once")
        for content in (b"once", None):
            answer = user.ask("PUT", closing(location, digest), content)
            assert (answer.status_code, answer.headers["Docker-Content-Digest"]) == (201, str(digest))

    @pytest.mark.parametrize("names_source", [True, False])
    def test_a_blob_is_mounted(self, user: RegistryUser, names_source: bool) -> None:
        """Mounting a blob: 201 and a `Location`; "The registry MAY treat the `from` parameter as optional"."""
        content = unique()
        digest = user.blob(content, user.other)
        source = f"&from={user.other}" if names_source else ""
        answer = user.ask("POST", user.path("blobs", "uploads", "") + f"?mount={digest}{source}")
        assert (answer.status_code, answer.headers["Docker-Content-Digest"]) == (201, str(digest))
        assert user.ask("GET", answer.headers["Location"]).content == content

    @pytest.mark.parametrize("names_source", [True, False])
    def test_one_login_is_enough_to_mount_a_blob(self, user: RegistryUser, names_source: bool) -> None:
        """The challenge says "the set of scopes the resource is under": who asks for them is not turned away again."""
        digest = user.blob(unique(), user.other)
        source = f"&from={user.other}" if names_source else ""
        answer = user.after_one_login("POST", user.path("blobs", "uploads", "") + f"?mount={digest}{source}")
        assert answer.status_code == 201, answer.text

    def test_what_cannot_be_mounted_begins_an_upload(self, user: RegistryUser) -> None:
        """Mounting a blob: "it SHOULD return a 202 ... the upload session has begun"."""
        user.blob(b"to make the repository", user.other)
        content = unique()
        digest = user.digest(content)
        for query in (f"mount={digest}&from={user.other}", f"mount={digest}", f"mount={digest}&from=NO/name"):
            answer = user.ask("POST", user.path("blobs", "uploads", "") + f"?{query}")
            assert answer.status_code == 202
        done = user.ask("PUT", closing(answer.headers["Location"], digest), content)
        assert done.status_code == 201
