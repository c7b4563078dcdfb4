import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.digest import Digest, DigestInvalid, DigestMismatch, Hasher


@given(st.binary())
def test_the_digest_of_bytes_is_what_hashlib_says(data: bytes) -> None:
    assert str(Digest.of(data)) == "sha256:" + hashlib.sha256(data).hexdigest()
    assert str(Digest.of(data, "sha512")) == "sha512:" + hashlib.sha512(data).hexdigest()


@given(st.binary(), st.lists(st.integers(min_value=0, max_value=64)))
def test_hashing_in_pieces_equals_hashing_at_once(data: bytes, cuts: list[int]) -> None:
    hasher = Hasher()
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(data)], strict=True):
        hasher.update(data[start:end])
    assert hasher.digest() == Digest.of(data)
    assert hasher.size == len(data)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        "sha256:../../etc/passwd",
        "sha256:" + "a" * 63,
        "sha256:" + "A" * 64,
        "sha256:" + "g" * 64,
        "sha512:" + "a" * 64,
        "md5:" + "a" * 32,
        "sha256:" + "a" * 64 + "\n",
        "sha256:" + "\u0661" * 64,
    ],
)
def test_what_is_no_digest_is_refused_with_advice(text: str) -> None:
    with pytest.raises(DigestInvalid, match="lower-case hexadecimal"):
        Digest.parse(text)


@given(st.text())
def test_a_parsed_digest_prints_as_it_was_written(text: str) -> None:
    try:
        digest = Digest.parse(text)
    except DigestInvalid:
        return
    assert str(digest) == text


def test_other_bytes_than_the_digest_names_are_a_mismatch_that_names_both() -> None:
    wanted, other = Digest.of(b"wanted"), Digest.of(b"other")
    wanted.verify(Digest.of(b"wanted"))
    with pytest.raises(DigestMismatch) as caught:
        wanted.verify(other)
    assert caught.value.facts == {"expected": str(wanted), "actual": str(other)}
