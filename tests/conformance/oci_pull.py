"""Cases of the OCI distribution specification 1.1 about pulling; see `oci_distribution.py`."""

from __future__ import annotations

import pytest

from common.digest import Digest
from tests.conformance.oci_registry import IMAGE, RegistryUser, closing, codes_of, unique

_BAD_DIGESTS = ("sha256:baddigeststring", "sha256:" + "A" * 64, "sha256:" + "a" * 63, "md5:" + "a" * 32)


class PullCases:
    def test_the_base_says_that_this_is_a_registry(self, user: RegistryUser) -> None:
        """Determining Support: "the registry implements this specification ... `200 OK`"."""
        answer = user.ask("GET", "/v2/")
        assert answer.status_code == 200
        assert answer.headers["Docker-Distribution-API-Version"] == "registry/2.0"

    def test_a_stranger_is_told_where_to_log_in(self, user: RegistryUser) -> None:
        """Error Codes: UNAUTHORIZED, with the challenge of RFC 7235."""
        answer = user.http.get("/v2/", auth=None)
        assert (answer.status_code, codes_of(answer)) == (401, ["UNAUTHORIZED"])
        assert answer.headers["WWW-Authenticate"].startswith("Bearer realm=")

    def test_a_manifest_comes_by_tag_and_by_digest_byte_for_byte(self, user: RegistryUser) -> None:
        """Pulling Manifests: 200, the manifest, its `Content-Type` as pushed, `Docker-Content-Digest`."""
        image = user.image("one")
        by_digest = user.image()
        for reference, pushed in (("one", image), (image.digest, image), (by_digest.digest, by_digest)):
            answer = user.ask("GET", user.path("manifests", reference), Accept=IMAGE)
            assert (answer.status_code, answer.content) == (200, pushed.payload)
            assert answer.headers["Content-Type"] == IMAGE
            assert answer.headers["Docker-Content-Digest"] == str(pushed.digest)
            assert answer.headers["Content-Length"] == str(len(pushed.payload))

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_a_manifest_that_is_not_there_is_404(self, user: RegistryUser, method: str) -> None:
        """Pulling Manifests; Checking if content exists: 404 Not Found."""
        user.image("one")
        for reference in ("two", user.digest(unique())):
            answer = user.ask(method, user.path("manifests", reference))
            assert answer.status_code == 404
            assert method == "HEAD" or codes_of(answer) == ["MANIFEST_UNKNOWN"]

    def test_a_repository_that_is_not_there_is_404(self, user: RegistryUser) -> None:
        """Pushing Manifests: "An attempt to pull a nonexistent repository MUST return ... 404"."""
        for path in (("manifests", "one"), ("blobs", user.digest(b"x")), ("tags", "list")):
            answer = user.ask("GET", user.path(*path))
            assert (answer.status_code, codes_of(answer)) == (404, ["NAME_UNKNOWN"])

    def test_a_blob_comes_as_it_was_pushed(self, user: RegistryUser) -> None:
        """Pulling blobs: 200, the blob, `Docker-Content-Digest`."""
        content = unique()
        digest = user.blob(content)
        answer = user.ask("GET", user.path("blobs", digest))
        assert (answer.status_code, answer.content) == (200, content)
        assert answer.headers["Docker-Content-Digest"] == str(digest)
        assert answer.headers["Content-Length"] == str(len(content))

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_a_blob_that_is_not_there_is_404(self, user: RegistryUser, method: str) -> None:
        """Pulling blobs: 404 Not Found; also for a blob that another repository has."""
        user.blob(b"to make the repository")
        elsewhere = user.blob(unique(), user.other)
        for digest in (user.digest(unique()), elsewhere):
            answer = user.ask(method, user.path("blobs", digest))
            assert answer.status_code == 404
            assert method == "HEAD" or codes_of(answer) == ["BLOB_UNKNOWN"]

    def test_head_says_what_get_would(self, user: RegistryUser) -> None:
        """Checking if content exists: 200, `Docker-Content-Digest`, `Content-Length`, no body."""
        content = unique()
        digest, image = user.blob(content), user.image("one")
        for path in (("blobs", digest), ("manifests", "one"), ("manifests", image.digest)):
            head, get = user.ask("HEAD", user.path(*path)), user.ask("GET", user.path(*path))
            assert (head.status_code, head.content) == (200, b"")
            for name in ("Docker-Content-Digest", "Content-Length", "Content-Type", "ETag"):
                assert head.headers[name] == get.headers[name]

    @pytest.mark.parametrize(
        ("asked", "start", "end"),
        [
            ("500-1499", 500, 1500),
            ("500-", 500, 2048),
            ("-500", 1548, 2048),
            ("2000-5000", 2000, 2048),
            ("0-0", 0, 1),
            ("-5000", 0, 2048),
        ],
    )
    def test_a_part_of_a_blob(self, user: RegistryUser, asked: str, start: int, end: int) -> None:
        """Pulling blobs: "A registry SHOULD support the `Range` request header in accordance with RFC 9110"."""
        content = unique(2048)
        path = user.path("blobs", user.blob(content))
        answer = user.ask("GET", path, Range=f"bytes={asked}")
        assert (answer.status_code, answer.content) == (206, content[start:end])
        assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/2048"
        assert answer.headers["Content-Length"] == str(end - start)

    @pytest.mark.parametrize("asked", ["500-0", "5000-10000", "2048-"])
    def test_a_part_outside_of_a_blob(self, user: RegistryUser, asked: str) -> None:
        """RFC 9110, "416 Range Not Satisfiable"."""
        answer = user.ask("GET", user.path("blobs", user.blob(unique(2048))), Range=f"bytes={asked}")
        assert (answer.status_code, codes_of(answer)) == (416, ["RANGE_INVALID"])

    def test_the_empty_blob(self, user: RegistryUser) -> None:
        """Image specification: content of no bytes has a digest as every other."""
        path = user.path("blobs", user.blob(b""))
        answer = user.ask("GET", path)
        assert (answer.status_code, answer.content, answer.headers["Content-Length"]) == (200, b"", "0")
        assert user.ask("HEAD", path).headers["Content-Length"] == "0"

    @pytest.mark.parametrize("digest", _BAD_DIGESTS)
    def test_what_only_looks_like_a_digest_is_refused(self, user: RegistryUser, digest: str) -> None:
        """Error Codes: DIGEST_INVALID."""
        user.blob(b"to make the repository")
        for kind in ("manifests", "blobs", "referrers"):
            answer = user.ask("GET", user.path(kind, digest))
            assert (answer.status_code, codes_of(answer)) == (400, ["DIGEST_INVALID"])
        begun = user.ask("POST", user.path("blobs", "uploads", ""))
        answer = user.ask("PUT", begun.headers["Location"] + f"?digest={digest}", b"x")
        assert (answer.status_code, codes_of(answer)) == (400, ["DIGEST_INVALID"])

    @pytest.mark.parametrize("name", ["UPPER/case", "a..b/c", "-a/b", "a/b_", "a/___b", "é/b"])
    def test_a_name_outside_of_the_grammar_is_refused(self, user: RegistryUser, name: str) -> None:
        """Pulling Manifests: "`<name>` MUST match the following regular expression"."""
        answer = user.ask("GET", user.path("manifests", "one", repository=name))
        assert (answer.status_code, codes_of(answer)) == (400, ["NAME_INVALID"])

    def test_a_tag_outside_of_the_grammar_names_nothing(self, user: RegistryUser) -> None:
        """Pulling Manifests: "`<reference>` as a tag MUST be at most 128 characters in length and MUST match ..."."""
        image = user.image("one")
        for tag in (".one", "-one", "o" * 129, "o ne"):
            assert user.ask("GET", user.path("manifests", tag)).status_code == 404
            pushed = user.ask("PUT", user.path("manifests", tag), image.payload, Content_Type=IMAGE)
            assert (pushed.status_code, codes_of(pushed)) == (400, ["TAG_INVALID"])

    def test_the_two_digests_of_one_content_are_two_names(self, user: RegistryUser) -> None:
        """Image specification, "Digests": registries may implement sha512 beside sha256."""
        content = unique()
        for algorithm in ("sha256", "sha512"):
            digest = Digest.of(content, algorithm)
            begun = user.ask("POST", user.path("blobs", "uploads", "") + f"?digest-algorithm={algorithm}")
            done = user.ask("PUT", closing(begun.headers["Location"], digest), content)
            assert done.headers["Docker-Content-Digest"] == str(digest)
            assert user.ask("GET", user.path("blobs", digest)).content == content
