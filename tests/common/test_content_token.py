from dataclasses import replace
from datetime import timedelta

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from common.clock import ManualClock
from common.content_token import (
    MOST_DIGESTS,
    ContentClaim,
    ContentVerifier,
    TokenExpired,
    TokenForOther,
    TokenInvalid,
    sign,
)
from common.digest import Digest

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
DIGEST = Digest.of(b"layer")


def public_pem(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def claim(clock: ManualClock) -> ContentClaim:
    return ContentClaim("host/h1", "east", "t1", (DIGEST,), clock.now() + timedelta(hours=1))


@pytest.fixture
def verifier(clock: ManualClock) -> ContentVerifier:
    verifier = ContentVerifier(clock)
    verifier.replace_keys({"k1": public_pem(KEY)})
    return verifier


def test_a_genuine_token_says_who_may_read_what(verifier: ContentVerifier, claim: ContentClaim) -> None:
    assert verifier.verify(sign(claim, "k1", KEY), DIGEST) == claim


def test_the_same_claim_signs_to_the_same_token(claim: ContentClaim) -> None:
    assert sign(claim, "k1", KEY) == sign(claim, "k1", KEY)


def test_an_expired_token_is_refused_with_advice(
    verifier: ContentVerifier, claim: ContentClaim, clock: ManualClock
) -> None:
    token = sign(claim, "k1", KEY)
    clock.tick(3600 + 301)
    with pytest.raises(TokenExpired, match="attach again"):
        verifier.verify(token, DIGEST)


@given(digests=st.lists(st.binary(max_size=4).map(Digest.of), min_size=1, max_size=MOST_DIGESTS, unique=True))
def test_a_token_for_several_blobs_is_good_for_each_of_them_and_no_other(digests: list[Digest]) -> None:
    clock = ManualClock()
    verifier = ContentVerifier(clock)
    verifier.replace_keys({"k1": public_pem(KEY)})
    claim = ContentClaim("host/h1", "east", "t1", tuple(digests), clock.now() + timedelta(hours=1))
    token = sign(claim, "k1", KEY)
    assert [verifier.verify(token, digest) for digest in digests] == [claim] * len(digests)
    with pytest.raises(TokenForOther, match=str(digests[0])):
        verifier.verify(token, DIGEST)


def test_a_token_for_one_blob_names_it_as_every_version_reads_it(claim: ContentClaim) -> None:
    said = jwt.decode(sign(claim, "k1", KEY), options={"verify_signature": False})
    assert said["dig"] == str(DIGEST)


@pytest.mark.parametrize("named", [[], [str(DIGEST)] * (MOST_DIGESTS + 1), "nonsense", [7], {"a": "b"}, None])
def test_a_signed_token_that_names_no_blobs_or_too_many_is_refused(
    verifier: ContentVerifier, claim: ContentClaim, named: object
) -> None:
    payload = {"aud": "longshore:content", "sub": claim.bearer, "ten": "t1", "dig": named, "exp": 2**40}
    token = jwt.encode(payload, KEY, algorithm="EdDSA", headers={"kid": "k1"})
    with pytest.raises(TokenInvalid):
        verifier.verify(token)


def test_a_token_for_another_blob_is_refused(verifier: ContentVerifier, claim: ContentClaim) -> None:
    with pytest.raises(TokenForOther):
        verifier.verify(sign(claim, "k1", KEY), Digest.of(b"another"))


def test_a_token_signed_by_somebody_else_is_refused(verifier: ContentVerifier, claim: ContentClaim) -> None:
    with pytest.raises(TokenInvalid):
        verifier.verify(sign(claim, "k1", OTHER_KEY), DIGEST)
    with pytest.raises(TokenInvalid, match="unknown key"):
        verifier.verify(sign(claim, "k2", OTHER_KEY), DIGEST)


def test_no_other_algorithm_and_no_other_audience_is_taken(verifier: ContentVerifier, claim: ContentClaim) -> None:
    payload = {"aud": "longshore:content", "sub": "host/h1", "ten": "t1", "dig": str(DIGEST), "exp": 2**40}
    unsigned = jwt.encode(payload, None, algorithm="none", headers={"kid": "k1"})
    symmetric = jwt.encode(payload, "x" * 64, algorithm="HS256", headers={"kid": "k1"})
    elsewhere = jwt.encode({**payload, "aud": "other"}, KEY, algorithm="EdDSA", headers={"kid": "k1"})
    for token in (unsigned, symmetric, elsewhere, "nonsense", "", sign(claim, "k1", KEY)[:-4]):
        with pytest.raises(TokenInvalid):
            verifier.verify(token, DIGEST)


def test_after_a_rotation_the_old_key_verifies_until_it_is_dropped(clock: ManualClock, claim: ContentClaim) -> None:
    verifier = ContentVerifier(clock)
    verifier.replace_keys({"k1": public_pem(KEY), "k2": public_pem(OTHER_KEY)})
    assert verifier.verify(sign(claim, "k1", KEY)) == claim
    assert verifier.verify(sign(replace(claim, bearer="host/h2"), "k2", OTHER_KEY)).bearer == "host/h2"
    verifier.replace_keys({"k2": public_pem(OTHER_KEY)})
    with pytest.raises(TokenInvalid):
        verifier.verify(sign(claim, "k1", KEY))
