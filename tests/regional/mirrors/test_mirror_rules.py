"""Which upstream has what, and what never changes."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regional.mirrors.model import MirrorInvalid, immutable, parse, upstream_of

BOTH = "debian=http://deb.example/debian, debian/security=https://sec.example:8443/"


def test_the_longest_path_decides() -> None:
    upstreams = parse(BOTH)
    near, far = upstream_of(upstreams, ("debian", "security", "x")), upstream_of(upstreams, ("debian", "dists", "y z"))
    assert near is not None
    assert far is not None
    assert near.url_of(("debian", "security", "x")) == "https://sec.example:8443/x"
    assert far.url_of(("debian", "dists", "y z")) == "http://deb.example/debian/dists/y%20z"
    assert upstream_of(upstreams, ("debian",)) is None
    assert upstream_of(upstreams, ("ubuntu", "x")) is None


@pytest.mark.parametrize(
    "text",
    [
        "debian", "=http://x", "debian=", "debian=ftp://x/", "debian=http://", "debian=http://u:p@x/", "../x=http://x",
        "debian=http://x/?y", "debian=http://x/#y", "debian=http://x:99999/", "a=http://x,a=http://y", ".x=http://x",
    ],
)  # fmt: skip
def test_a_mirror_that_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(MirrorInvalid):
        parse(text)


@pytest.mark.parametrize(
    ("path", "for_ever"),
    [
        ("12/pool/main/h/hello/hello_1_all.deb", True),
        ("12/pool/main/h/hello/hello_1.orig.tar.xz", True),
        ("12/dists/stable/main/binary-amd64/by-hash/SHA256/abc", True),
        ("9/BaseOS/Packages/k/kernel-5.14.rpm", True),
        ("9/repodata/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef-primary.xml.gz", True),
        ("9/repodata/repomd.xml", False),
        ("9/repodata/primary.xml.gz", False),
        ("12/dists/stable/InRelease", False),
        ("12/dists/stable/main/binary-amd64/Packages.xz", False),
        ("12/pool/index.html", False),
    ],
)
def test_what_repositories_never_change_is_known_by_its_name(path: str, for_ever: bool) -> None:
    assert immutable(path.split("/")) is for_ever


@given(st.lists(st.text(min_size=1).filter(lambda name: "/" not in name), min_size=1, max_size=5))
def test_no_name_reaches_another_host_or_a_query(names: list[str]) -> None:
    (upstream,) = parse("debian=http://deb.example/debian")
    parts = urlsplit(upstream.url_of(["debian", *names]))
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("http", "deb.example", "", "")
    assert parts.path.startswith("/debian/")
    assert parts.path.count("/") == 1 + len(names)
