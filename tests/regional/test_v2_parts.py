"""The parts of `/v2/` that need no network: paths, tokens, and what the centre said."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import ManualClock
from common.digest import Digest, DigestInvalid
from common.reference import NameInvalid
from regional.v2.answers import Answers
from regional.v2.manifests import named_blobs
from regional.v2.paths import Base, BlobPath, Further, Login, ManifestPath, PathUnknown, parse_path
from regional.v2.tokens import KeyUnknown, RegistryTokenExpired, RegistryTokenInvalid, RegistryVerifier

from .registry import IMAGE, SERVICE, Keys

DIGEST = Digest.of(b"x")
names = st.from_regex(r"[a-z0-9]{1,6}(/(blobs|manifests|tags|[a-z0-9]{1,6})){1,3}", fullmatch=True)


@given(names, st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True))
def test_a_path_is_read_from_its_right_end(name: str, tag: str) -> None:
    assert parse_path(f"/v2/{name}/manifests/{tag}") == ManifestPath(name, tag)
    assert parse_path(f"/v2/{name}/manifests/{quote(str(DIGEST))}") == ManifestPath(name, DIGEST)
    assert parse_path(f"/v2/{name}/blobs/{DIGEST}") == BlobPath(name, DIGEST)
    assert parse_path(f"/v2/{name}/referrers/{DIGEST}") == Further(name)
    assert parse_path(f"/v2/{name}/tags/list") == Further(name)


@given(st.text(max_size=60))
def test_any_path_is_a_target_or_a_failure(rest: str) -> None:
    with contextlib.suppress(PathUnknown, NameInvalid, DigestInvalid):
        parse_path(f"/v2/{quote(rest)}")


def test_the_paths_without_a_repository() -> None:
    assert parse_path("/v2/") == parse_path("/v2") == Base()
    assert parse_path("/v2/token") == Login()
    assert parse_path("/v2/_catalog") == Further("")
    for nothing in ("/v3/", "/v2/acme", "/v2/acme/web/blobs/uploads/"):
        with pytest.raises((PathUnknown, DigestInvalid)):
            parse_path(nothing)
    with pytest.raises(NameInvalid):
        parse_path(f"/v2/acme/%2e%2e/web/blobs/{DIGEST}")


def test_only_the_centre_s_own_tokens_are_genuine(clock: ManualClock) -> None:
    keys, other, verifier = Keys(clock), Keys(clock), RegistryVerifier(clock)
    with pytest.raises(KeyUnknown):
        verifier.verify(keys.token("a/b"))
    verifier.trust(keys.jwks(), SERVICE)
    token = keys.token("a/b", "c/d")
    assert verifier.verify(token).pulls == {"a/b", "c/d"}
    assert verifier.verify(keys.token("a/b", actions=("push",))).pulls == frozenset()
    claims = jwt.decode(token, options={"verify_signature": False})
    forged = [
        other.token("a/b"),
        jwt.encode(claims, "", "none", headers={"kid": "k0"}),
        jwt.encode(claims, "k" * 32, "HS256", headers={"kid": "k0"}),
        keys.token("a/b", audience="longshore"),
        token[:-4] + "AAAA",
        "a.b.c",
        "x" * 20_000,
    ]
    for bad in forged:
        with pytest.raises(RegistryTokenInvalid):
            verifier.verify(bad)
    clock.tick(906)
    with pytest.raises(RegistryTokenExpired):
        verifier.verify(token)
    fresh = keys.token("a/b")
    verifier.verify(fresh)
    verifier.trust({"keys": [*other.jwks()["keys"][:0], {"kty": "EC", "kid": "k0"}, "junk", {}]}, SERVICE)
    with pytest.raises(KeyUnknown):
        verifier.verify(fresh)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def opened(path: Path, clock: ManualClock) -> Answers:
    answers = Answers(path / "answers.sqlite", clock, timedelta(hours=1))
    answers.open()
    return answers


def test_answers_survive_a_restart_and_age(tmp_path: Path, clock: ManualClock) -> None:
    answers = opened(tmp_path, clock)
    answers.keep_manifest("a/b", DIGEST, IMAGE, b"x", "1")
    answers.keep_links("a/b", "t", [DIGEST, Digest.of(b"y")], {DIGEST: 1}, public=True)
    answers.close()
    clock.tick(1000)
    answers = opened(tmp_path, clock)
    known = answers.tagged("a/b", "1")
    assert known is not None
    assert (known.digest, known.media_type, known.payload, known.age) == (DIGEST, IMAGE, b"x", 1000)
    assert answers.links("a/b", [DIGEST, Digest.of(b"y")]).keys() == {DIGEST}
    assert answers.links("c/d", [DIGEST]) == {}
    assert answers.manifest("c/d", DIGEST) is None
    assert answers.public_age("a/b") == 1000
    answers.confirm("a/b", DIGEST, "1")
    clock.tick(2700)
    assert answers.tagged("a/b", "1") is not None
    assert answers.links("a/b", [DIGEST]) == {}
    assert answers.public_age("a/b") is None
    clock.tick(2700)
    assert answers.tagged("a/b", "1") is None
    answers.prune()
    answers.close()


def test_what_the_centre_denies_is_forgotten(tmp_path: Path, clock: ManualClock) -> None:
    answers, other = opened(tmp_path, clock), Digest.of(b"y")
    answers.keep_manifest("a/b", DIGEST, IMAGE, b"x", "1")
    answers.keep_links("a/b", "t", [DIGEST, other], {DIGEST: 1, other: 1}, public=True)
    answers.keep_links("a/b", "t", [DIGEST], {}, public=False)
    assert answers.links("a/b", [DIGEST, other]).keys() == {other}
    assert answers.public_age("a/b") is None
    answers.forget_link("a/b", other)
    assert answers.links("a/b", [other]) == {}
    answers.forget_tag("a/b", "1")
    assert answers.tagged("a/b", "1") is None
    assert answers.manifest("a/b", DIGEST) is not None
    answers.forget_manifest("a/b", DIGEST)
    assert answers.manifest("a/b", DIGEST) is None
    answers.close()


def test_a_damaged_file_is_set_aside(tmp_path: Path, clock: ManualClock) -> None:
    (tmp_path / "answers.sqlite").write_bytes(b"this is no database, and long enough to be read as one" * 100)
    answers = opened(tmp_path, clock)
    answers.keep_manifest("a/b", DIGEST, IMAGE, b"x")
    assert answers.manifest("a/b", DIGEST) is not None
    answers.close()
    assert (tmp_path / "answers.sqlite.damaged").exists()
    assert (tmp_path / "answers.sqlite").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("payload", [b"", b"[]", b"{", b'{"layers":[1]}', b'{"layers":{"a":1}}', b"[" * 100_000])
def test_a_manifest_that_is_not_understood_names_nothing(payload: bytes) -> None:
    assert not named_blobs(payload)


def test_a_manifest_names_its_configuration_and_layers_once() -> None:
    entry = f'{{"digest":"{DIGEST}"}}'
    other = f'{{"digest":"{Digest.of(b"y")}"}}'
    assert named_blobs(f'{{"config":{entry},"layers":[{other},{entry}]}}'.encode()) == [DIGEST, Digest.of(b"y")]
