"""Block maps and the plans made of them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.bittorrent import reuse
from common.bittorrent.reuse import ABSENT, ZEROS, BlockMap, BlockMapBuilder, BlockMapInvalid
from common.byte_ranges import Span

BLOCK = reuse.SMALLEST_BLOCK


def map_of(data: bytes, chunk: int = 0) -> BlockMap:
    builder = BlockMapBuilder(BLOCK)
    for start in range(0, len(data), chunk or len(data) or 1):
        builder.update(data[start : start + (chunk or len(data))])
    return builder.finish()


def put_together(new: bytes, plan: reuse.Plan, donors: list[bytes]) -> bytes:
    """What a plan makes, if everything absent is fetched from `new`."""
    made = bytearray()
    for part in plan.parts(0, len(new)):
        assert part.start == len(made)
        if part.donor == ABSENT:
            made += new[part.start : part.start + part.length]
        elif part.donor == ZEROS:
            made += bytes(part.length)
        else:
            made += donors[part.donor][part.donor_offset : part.donor_offset + part.length]
    return bytes(made)


# Contents of a few kinds of blocks, so that equal ones, zeros and moved ones are common.
blocks = st.sampled_from([bytes(BLOCK), *(random.Random(seed).randbytes(BLOCK) for seed in range(6))])
contents = st.builds(
    lambda parts, tail: b"".join(parts) + tail, st.lists(blocks, min_size=1, max_size=24), st.binary(max_size=99)
)


@settings(max_examples=60, deadline=None)
@given(contents, st.lists(contents, max_size=3), st.integers(1, 3 * BLOCK))
def test_a_plan_makes_the_content_whatever_the_donors_are(new: bytes, donors: list[bytes], chunk: int) -> None:
    target = map_of(new, chunk)
    assert target == map_of(new)
    plan = reuse.plan(target, [map_of(donor) for donor in donors])
    assert put_together(new, plan, donors) == new
    assert plan.missing_bytes == sum(span.length for span in plan.absent(0, len(new)))
    known = {donor[at : at + BLOCK] for donor in donors for at in range(0, len(donor), BLOCK)} | {bytes(BLOCK)}
    unknown = sum(len(new[at : at + BLOCK]) for at in range(0, len(new), BLOCK) if new[at : at + BLOCK] not in known)
    assert plan.missing_bytes == unknown


@settings(max_examples=30, deadline=None)
@given(contents)
def test_a_map_comes_back_from_its_wire_form(data: bytes) -> None:
    assert reuse.parse(map_of(data).encode(), len(data)) == map_of(data)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=64), st.integers(0, 1 << 20))
def test_no_bytes_break_the_reader_of_maps(encoded: bytes, length: int) -> None:
    try:
        assert reuse.parse(encoded, length).length == length
    except BlockMapInvalid:
        return


@pytest.mark.parametrize("damage", ["cut", "longer", "length", "magic", "block"])
def test_a_map_of_another_shape_is_refused(damage: str) -> None:
    data = bytes(10 * BLOCK + 5)
    encoded = bytearray(map_of(data).encode())
    match damage:
        case "cut":
            del encoded[-1]
        case "longer":
            encoded += bytes(8)
        case "magic":
            encoded[0] ^= 1
        case "block":
            encoded[5] ^= 0x30
    with pytest.raises(BlockMapInvalid):
        reuse.parse(bytes(encoded), len(data) + (damage == "length"))


def test_what_did_not_move_is_taken_from_its_own_place() -> None:
    block = random.Random(1).randbytes(BLOCK)
    plan = reuse.plan(map_of(block * 8), [map_of(block * 8)])
    assert [(part.start, part.donor_offset) for part in plan.parts(0, 8 * BLOCK)] == [(0, 0)]


def test_neighbouring_absent_blocks_are_one_span() -> None:
    old = random.Random(2).randbytes(10 * BLOCK)
    new = old[: 3 * BLOCK] + random.Random(3).randbytes(2 * BLOCK) + old[5 * BLOCK :]
    plan = reuse.plan(map_of(new), [map_of(old)])
    assert plan.absent(0, len(new)) == [Span(3 * BLOCK, 5 * BLOCK)]
    assert plan.absent(4 * BLOCK, 6 * BLOCK) == [Span(4 * BLOCK, 5 * BLOCK)]


def test_a_map_stays_below_16_mib_for_every_length() -> None:
    for length in (1, 4 << 20, 8 << 30, (8 << 30) + 1, 1 << 40):
        block = reuse.block_length_for(length)
        assert -(-length // block) * 8 <= 16 << 20
        assert block == BLOCK or length > 8 << 30


@pytest.mark.parametrize(
    ("length", "head", "worth"),
    [
        (64 << 20, b"QFI\xfb", True),
        (64 << 20, b"", True),
        (1 << 20, b"", False),
        (64 << 20, b"\x1f\x8b\x08\x00", False),
        (64 << 20, b"\x28\xb5\x2f\xfd", False),
    ],
)
def test_small_and_compressed_contents_get_no_map(length: int, head: bytes, worth: bool) -> None:
    assert reuse.mappable(length, head) is worth
