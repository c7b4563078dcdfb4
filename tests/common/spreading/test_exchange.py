"""What hosts and sources say to each other survives the wire, and nonsense does not get past it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.spreading import masks
from common.spreading.exchange import (
    MAXIMUM_BODY_BYTES,
    Grant,
    LeaseQuestionInvalid,
    Question,
    decode_grant,
    decode_question,
    encode_grant,
    encode_question,
)

COUNT = 100
runs = st.tuples(st.integers(0, COUNT - 1), st.integers(1, COUNT)).map(lambda ends: range(ends[0], ends[0] + ends[1]))
inside = runs.filter(lambda run: run.stop <= COUNT)
questions = st.builds(
    Question,
    held=st.integers(0, masks.full(COUNT)),
    fetching=st.lists(inside, max_size=8).map(tuple),
    rate=st.integers(0, 1 << 40).map(float),
    source_rate=st.integers(0, 1 << 40).map(float),
    peer_bytes=st.integers(0, 1 << 50),
    soon=st.lists(st.integers(0, COUNT - 1), max_size=32).map(tuple),
    peer=st.sampled_from(["", "10.0.0.7:6881", "[fd00::1]:6881"]),
)


@given(questions)
def test_a_question_arrives_as_it_was_asked(question: Question) -> None:
    assert decode_question(encode_question(question), COUNT) == question


@given(st.none() | inside, st.integers(0, 600_000), st.lists(st.just("10.0.0.7:1"), max_size=50).map(tuple))
def test_a_grant_arrives_as_it_was_given(run: range | None, thousandths: int, peers: tuple[str, ...]) -> None:
    grant = Grant(run, thousandths / 1000, peers)
    assert decode_grant(encode_grant(grant), COUNT) == grant


@given(st.binary(max_size=300) | st.recursive(st.none() | st.integers() | st.text(), st.lists))
def test_garbage_is_refused(body: object) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    for decode in (decode_question, decode_grant):
        with pytest.raises(LeaseQuestionInvalid):
            decode(data, COUNT)


@pytest.mark.parametrize(
    "change",
    [
        {"held": "////////////////////////"},
        {"fetching": [[5, 3]]},
        {"fetching": [[0, COUNT + 1]]},
        {"fetching": [[-1, 3]]},
        {"fetching": 7},
        {"rate": "nan"},
        {"rate": -1},
        {"source_rate": 1e999},
        {"soon": ["x"]},
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, object]) -> None:
    document = json.loads(encode_question(Question(5))) | change
    with pytest.raises(LeaseQuestionInvalid):
        decode_question(json.dumps(document).encode(), COUNT)


def test_a_body_without_end_is_refused() -> None:
    with pytest.raises(LeaseQuestionInvalid):
        decode_question(b" " * (MAXIMUM_BODY_BYTES + 1), COUNT)


@given(st.sets(st.integers(0, 70)), st.integers(1, 80), st.integers(0, 70))
def test_the_first_run_is_the_first_adjacent_pieces(pieces: set[int], most: int, start: int) -> None:
    mask = masks.of(pieces, 71)
    run = masks.first_run(mask, most, start)
    later = sorted(piece for piece in pieces if piece >= start)
    if run is None:
        assert not later
        return
    assert run.start == later[0]
    assert len(run) <= most
    assert set(run) <= pieces
    assert len(run) == most or run.stop not in pieces
    assert masks.of_range(run) == masks.of(run, 71)
