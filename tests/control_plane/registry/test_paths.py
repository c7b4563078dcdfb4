from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Failure
from common.reference import NameInvalid
from control_plane.registry.failures import Unsupported
from control_plane.registry.v2.paths import Kind, Target, blob_path, manifest_path, parse_path, upload_path

D = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/v2/", Target(Kind.BASE)),
        ("/v2", Target(Kind.BASE)),
        ("/v2/token", Target(Kind.TOKEN)),
        ("/v2/_catalog", Target(Kind.CATALOG)),
        ("/v2/acme/web/tags/list", Target(Kind.TAGS, "acme/web")),
        ("/v2/acme/web/manifests/1.4", Target(Kind.MANIFEST, "acme/web", "1.4")),
        (f"/v2/acme/web/manifests/{D}", Target(Kind.MANIFEST, "acme/web", D)),
        (f"/v2/acme/web/blobs/{D}", Target(Kind.BLOB, "acme/web", D)),
        ("/v2/acme/web/blobs/uploads/", Target(Kind.UPLOADS, "acme/web")),
        ("/v2/acme/web/blobs/uploads", Target(Kind.UPLOADS, "acme/web")),
        ("/v2/acme/web/blobs/uploads/x-y", Target(Kind.UPLOAD, "acme/web", "x-y")),
        # Names may be made of the protocol's own words.
        (f"/v2/acme/blobs/uploads/blobs/{D}", Target(Kind.BLOB, "acme/blobs/uploads", D)),
        ("/v2/acme/blobs/uploads/blobs/uploads/", Target(Kind.UPLOADS, "acme/blobs/uploads")),
        ("/v2/acme/manifests/manifests/tags", Target(Kind.MANIFEST, "acme/manifests", "tags")),
        ("/v2/acme/tags/list/tags/list", Target(Kind.TAGS, "acme/tags/list")),
        ("/v2/acme/tags/manifests/list", Target(Kind.MANIFEST, "acme/tags", "list")),
        ("/v2/token/manifests/manifests/a", Target(Kind.MANIFEST, "token/manifests", "a")),
        ("/v2/acme/web/blobs/sha256:../../x", Target(Kind.BLOB, "acme/web", "sha256:../../x")),
        ("/v2/acme/web/manifests/sha256:a/b", Target(Kind.MANIFEST, "acme/web", "sha256:a/b")),
        ("/v2/a/b/c/d/e/f/manifests/1", Target(Kind.MANIFEST, "a/b/c/d/e/f", "1")),
    ],
)
def test_a_path_is_read_from_its_right_end(path: str, target: Target) -> None:
    assert parse_path(path) == target


@pytest.mark.parametrize(
    "name",
    [
        "acme",
        "acme/" + "a" * 300,
        "acme/../birch",
        "acme//web",
        "/acme/web",
        "acme/web/",
        "Acme/web",
        "acme/wéb",
        "acme/..",
        "acme/web\n",
        "acme/we b",
        "acme/%2e%2e/x",
        "acme/-web",
        "acme/web\x00",
        "",
    ],
)
def test_an_invalid_name_is_named_so(name: str) -> None:
    for path in (f"/v2/{name}/manifests/1", f"/v2/{name}/blobs/{D}", f"/v2/{name}/tags/list"):
        with pytest.raises(NameInvalid):
            parse_path(path)


@pytest.mark.parametrize("path", ["/v2/acme", "/v2/acme/web", "/v2/x/y/z", "/v2/acme/web/referrers", "/v2//"])
def test_other_paths_are_unsupported(path: str) -> None:
    with pytest.raises(Unsupported):
        parse_path(path)


def test_paths_that_we_write_are_read_back() -> None:
    assert parse_path(blob_path("acme/web", D)) == Target(Kind.BLOB, "acme/web", D)
    assert parse_path(manifest_path("acme/web", D)) == Target(Kind.MANIFEST, "acme/web", D)
    assert parse_path(upload_path("acme/web", "id")) == Target(Kind.UPLOAD, "acme/web", "id")


@given(st.text())
def test_no_path_breaks_it(rest: str) -> None:
    try:
        target = parse_path(f"/v2/{rest}")
    except Failure:
        return
    assert ".." not in target.repository.split("/")
