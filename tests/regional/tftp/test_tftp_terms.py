"""What is asked and what is granted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regional.tftp.terms import Limits, agree

LIMITS = Limits(block_bytes=1468, window_blocks=64)


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ({}, {}),
        ({"tsize": "0"}, {"tsize": "777"}),
        ({"blksize": "512"}, {"blksize": "512"}),
        ({"blksize": "8192"}, {"blksize": "1468"}),
        ({"blksize": "8"}, {"blksize": "8"}),
        ({"windowsize": "4"}, {"windowsize": "4"}),
        ({"windowsize": "65535"}, {"windowsize": "64"}),
        ({"timeout": "3", "unheard-of": "1"}, {"timeout": "3"}),
        ({"blksize": "7"}, {}),
        ({"blksize": "65465"}, {}),
        ({"blksize": "abc"}, {}),
        ({"blksize": "-1"}, {}),
        ({"blksize": " 512"}, {}),
        ({"blksize": "٥١٢"}, {}),
        ({"windowsize": "0"}, {}),
        ({"timeout": "256"}, {}),
        ({"tsize": "9" * 400}, {}),
    ],
)
def test_only_what_was_asked_is_answered_and_within_limits(asked: dict[str, str], answered: dict[str, str]) -> None:
    assert agree(asked, 777, LIMITS).answered == answered


def test_an_unknown_size_is_not_told() -> None:
    assert not agree({"tsize": "0"}, None, LIMITS).answered


@given(st.dictionaries(st.sampled_from(["blksize", "windowsize", "timeout", "tsize", "x"]), st.text(max_size=12)))
def test_no_answer_exceeds_what_was_asked(asked: dict[str, str]) -> None:
    terms = agree(asked, 5, LIMITS)
    assert set(terms.answered) <= set(asked)
    for name in set(terms.answered) - {"tsize"}:
        assert int(terms.answered[name]) <= int(asked[name])
    assert 8 <= terms.block_bytes <= 1468
    assert 1 <= terms.window_blocks <= 64
