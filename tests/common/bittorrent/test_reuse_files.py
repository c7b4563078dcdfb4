"""Pieces put together from held files, and what happens when these are not what they were."""

from __future__ import annotations

import errno
import os
import random
import threading
from pathlib import Path

import pytest

from common.bittorrent import reuse_files
from common.bittorrent.merkle import MerkleBuilder
from common.bittorrent.metainfo import Metainfo, build
from common.bittorrent.recheck import held_pieces
from common.bittorrent.reuse import BlockMap, BlockMapBuilder
from common.bittorrent.reuse_donors import Candidate, Stopped
from common.bittorrent.reuse_files import Composer
from common.digest import Digest

PIECE = 64 << 10
BLOCK = 4 << 10
OLD = random.Random(1).randbytes(20 * PIECE)
# Piece 2 is new, of piece 5 one block is, piece 7 lies elsewhere, piece 9 is empty, and the last one is short.
NEW = bytearray(OLD + b"a tail of its own")
NEW[2 * PIECE : 3 * PIECE] = random.Random(2).randbytes(PIECE)
NEW[5 * PIECE + BLOCK : 5 * PIECE + 2 * BLOCK] = random.Random(3).randbytes(BLOCK)
NEW[7 * PIECE : 8 * PIECE] = OLD[11 * PIECE + BLOCK : 12 * PIECE + BLOCK]
NEW[9 * PIECE : 10 * PIECE] = bytes(PIECE)
TARGET = bytes(NEW)
LOCAL = [index for index in range(20) if index not in (2, 5)]


def metainfo_of(data: bytes) -> Metainfo:
    builder = MerkleBuilder(PIECE)
    builder.update(data)
    return build("wanted", *builder.finish(), PIECE, bytes(16))


def map_of(data: bytes) -> BlockMap:
    builder = BlockMapBuilder(BLOCK)
    builder.update(data)
    return builder.finish()


METAINFO = metainfo_of(TARGET)


def candidate(path: Path, data: bytes) -> Candidate:
    path.write_bytes(data)
    return Candidate(Digest.of(data), path)


@pytest.fixture
def wanted(tmp_path: Path) -> Path:
    path = tmp_path / "wanted"
    path.write_bytes(bytes(len(TARGET)))
    return path


def find(wanted: Path, *candidates: Candidate, fresh: bool = True, target: bytes = TARGET) -> Composer:
    return reuse_files.find(METAINFO, map_of(target), candidates, wanted, fresh=fresh, stop=threading.Event())


def pieces(path: Path) -> list[int]:
    return sorted(held_pieces(path, METAINFO, range(METAINFO.piece_count)))


def test_local_pieces_are_copied_and_others_completed(tmp_path: Path, wanted: Path) -> None:
    composer = find(wanted, candidate(tmp_path / "old", OLD))
    assert composer.local(range(METAINFO.piece_count)) == LOCAL
    assert all(composer.copy(index) for index in LOCAL)
    assert pieces(wanted) == LOCAL
    assert composer.batches(range(METAINFO.piece_count), 0.5) == [[5]]
    (span,) = composer.absent(5)
    assert span.length == BLOCK
    piece = composer.compose(5, TARGET[span.start : span.end])
    assert piece is not None
    composer.write(5, piece)
    assert pieces(wanted) == sorted([*LOCAL, 5])


def test_zeros_are_written_where_something_else_may_be(tmp_path: Path, wanted: Path) -> None:
    wanted.write_bytes(b"\xff" * len(TARGET))
    composer = find(wanted, candidate(tmp_path / "old", OLD), fresh=False)
    assert composer.copy(9)
    assert pieces(wanted) == [9]


def test_a_donor_that_changes_after_it_was_looked_at_gives_nothing_false(tmp_path: Path, wanted: Path) -> None:
    old = candidate(tmp_path / "old", OLD)
    composer = find(wanted, old)
    with old.path.open("r+b") as file:
        file.seek(PIECE)
        file.write(b"damaged")
    assert composer.copy(0)
    assert not composer.copy(1)
    # It is not used for anything again; what needs no donor is still local.
    assert composer.local(range(METAINFO.piece_count)) == [9]
    assert pieces(wanted) == [0, 9]


def test_a_false_map_costs_a_piece_and_no_more(tmp_path: Path, wanted: Path) -> None:
    lie = OLD[:PIECE] * 20 + b"a tail of its own"
    composer = find(wanted, candidate(tmp_path / "old", OLD), target=lie)
    assert composer.copy(0)
    assert not composer.copy(3)
    assert not composer.copy(4)
    assert pieces(wanted) == [0, 9]


def test_bytes_that_do_not_belong_make_no_piece(tmp_path: Path, wanted: Path) -> None:
    composer = find(wanted, candidate(tmp_path / "old", OLD))
    assert composer.compose(5, bytes(BLOCK)) is None
    assert composer.batches(range(METAINFO.piece_count), 0.5) == []


def test_a_donor_that_is_evicted_while_it_is_copied_is_read_to_its_end(tmp_path: Path, wanted: Path) -> None:
    old = candidate(tmp_path / "old", OLD)
    composer = find(wanted, old)
    old.path.unlink()
    assert all(composer.copy(index) for index in LOCAL)


def test_after_closing_nothing_is_copied_and_every_file_is_closed(tmp_path: Path, wanted: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    composer = find(wanted, candidate(tmp_path / "old", OLD))
    assert len(os.listdir("/proc/self/fd")) == before + 1
    composer.close()
    composer.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert not composer.copy(0)
    assert composer.compose(5, bytes(BLOCK)) is None


def test_the_candidates_with_most_in_common_are_taken(tmp_path: Path, wanted: Path) -> None:
    strangers = [
        candidate(tmp_path / f"stranger{number}", random.Random(9 + number).randbytes(20 * PIECE))
        for number in range(5)
    ]
    some = candidate(tmp_path / "some", OLD[: 6 * PIECE])
    gone = Candidate(Digest.of(b"gone"), tmp_path / "gone")
    composer = find(wanted, gone, *strangers, some, candidate(tmp_path / "old", OLD))
    assert composer.local(range(METAINFO.piece_count)) == LOCAL


def test_nothing_in_common_leaves_everything_absent(tmp_path: Path, wanted: Path) -> None:
    stranger = candidate(tmp_path / "stranger", random.Random(9).randbytes(20 * PIECE))
    assert find(wanted, stranger).missing_bytes == len(TARGET) - PIECE


def test_a_file_system_that_cannot_copy_ranges_is_read_and_written(
    tmp_path: Path, wanted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    composer = find(wanted, candidate(tmp_path / "old", OLD))
    assert all(composer.copy(index) for index in LOCAL)
    assert pieces(wanted) == LOCAL


def test_a_search_that_nobody_waits_for_stops(tmp_path: Path, wanted: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        reuse_files.find(METAINFO, map_of(TARGET), [candidate(tmp_path / "old", OLD)], wanted, fresh=True, stop=stop)


def test_batches_stay_within_one_request(tmp_path: Path, wanted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every second block is new: 8 spans a piece."""
    data = bytearray(OLD)
    for at in range(0, len(data), 2 * BLOCK):
        data[at : at + BLOCK] = random.Random(at + 5).randbytes(BLOCK)
    monkeypatch.setattr(reuse_files, "MOST_PARTS", 20)
    composer = reuse_files.find(
        metainfo_of(bytes(data)),
        map_of(bytes(data)),
        [candidate(tmp_path / "old", OLD)],
        wanted,
        fresh=True,
        stop=threading.Event(),
    )
    assert composer.batches(range(20), 0.5) == [[at, at + 1] for at in range(0, 20, 2)]


@pytest.mark.parametrize("shift", [512, 1024, 3584, 4096 + 2560])
def test_what_moved_by_less_than_a_block_is_found(tmp_path: Path, shift: int) -> None:
    """As in a tar with another file at its front."""
    old = candidate(tmp_path / "old", OLD)
    data = random.Random(4).randbytes(shift) + OLD
    metainfo, wanted = metainfo_of(data), tmp_path / "wanted"
    wanted.write_bytes(bytes(len(data)))
    composer = reuse_files.find(metainfo, map_of(data), [old], wanted, fresh=True, stop=threading.Event())
    assert composer.missing_bytes <= shift + BLOCK
    local = composer.local(range(metainfo.piece_count))
    assert all(composer.copy(index) for index in local)
    assert sorted(held_pieces(wanted, metainfo, range(metainfo.piece_count))) == local == list(range(1, 21))
