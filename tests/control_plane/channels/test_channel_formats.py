"""Logs as text and as NDJSON, and the frames of WebSockets."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.flow import LARGEST_PIECE_BYTES, WINDOW_BYTES
from control_plane.channels.formats import JsonLogs, TextLogs, prefers_ndjson, time_text
from control_plane.channels.frames import ConsoleStart, Credit, ExecStart, Input, InputEnd, frame_of, start_of, word_of
from control_plane.channels.model import (
    ChannelLost,
    ChannelRequestInvalid,
    CommandWanted,
    Ended,
    FrameMalformed,
    InputTaken,
    Piece,
    Stream,
    TerminalSize,
)
from control_plane.channels.rules import audited_command, check_command, dialable

OUT, ERR = Stream.OUTPUT, Stream.ERRORS
LOST = Ended(failure=ChannelLost("the host is gone", action="look at it"))
AT = 1_700_000_000_123_456_789
pieces = st.lists(st.builds(Piece, st.sampled_from(Stream), st.binary(min_size=1, max_size=40)), max_size=20)


@given(pieces)
def test_plain_text_is_what_was_written_byte_for_byte(written: list[Piece]) -> None:
    shape = TextLogs()
    sent = b"".join(map(shape.piece, written)) + shape.end(Ended())
    assert sent == b"".join(piece.data for piece in written)


def test_marked_lines_say_whose_they_are_and_when() -> None:
    shape = TextLogs(timestamps=True, marked=True)
    sent = [shape.piece(piece) for piece in (Piece(OUT, b"a\nb\n", AT), Piece(ERR, b"hal", AT), Piece(ERR, b"f\n", AT))]
    time = b"2023-11-14T22:13:20.123456789Z"
    assert b"".join(sent) == b"%b stdout a\n%b stdout b\n%b stderr half\n" % (time, time, time)


def test_a_line_that_another_stream_cuts_is_ended_where_lines_are_marked() -> None:
    shape = TextLogs(marked=True)
    assert shape.piece(Piece(OUT, b"a")) + shape.piece(Piece(ERR, b"b\n")) == b"stdout a\nstderr b\n"


def test_text_that_broke_off_says_so_in_its_last_line() -> None:
    shape = TextLogs()
    sent = shape.piece(Piece(OUT, b"half a li")) + shape.end(LOST)
    assert sent == b"half a li\nlongshore: the host is gone (look at it)\n"


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=60), st.lists(st.integers(0, 200), max_size=5))
def test_ndjson_gives_every_character_back_wherever_pieces_are_cut(text: str, cuts: list[int]) -> None:
    data, shape = text.encode(), JsonLogs()
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    parts = [data[start:end] for start, end in itertools.pairwise(places)]
    lines = [json.loads(shape.piece(Piece(OUT, part))) for part in parts]
    assert "".join(line["text"] for line in lines) == text


def test_ndjson_ends_with_how_it_ended() -> None:
    assert json.loads(JsonLogs().end(Ended())) == {"end": {"code": "ended"}}
    assert json.loads(JsonLogs().end(LOST))["end"]["code"] == "channel_lost"
    assert json.loads(JsonLogs().piece(Piece(ERR, b"x", AT))) == {
        "stream": "stderr",
        "time": time_text(AT),
        "text": "x",
    }


@pytest.mark.parametrize(
    ("accept", "ndjson"),
    [
        ("", False),
        ("*/*", False),
        ("application/x-ndjson", True),
        ("text/plain, application/x-ndjson;q=0.5", False),
        ("text/plain;q=0.5, application/x-ndjson", True),
        ("application/x-ndjson;q=0", False),
        ("application/x-ndjson;q=nonsense", False),
        ("application/json", True),
    ],
)
def test_the_client_chooses_by_accept(accept: str, ndjson: bool) -> None:
    assert prefers_ndjson(accept) is ndjson


def test_frames_are_a_number_and_bytes_or_words() -> None:
    assert frame_of(Piece(OUT, b"\x00x")) == b"\x01\x00x"
    assert frame_of(Piece(ERR, b"")) == b"\x02"
    assert json.loads(frame_of(Ended(exit_code=3))) == {"type": "exit", "code": 3}
    assert json.loads(frame_of(LOST))["code"] == "channel_lost"
    assert json.loads(frame_of(InputTaken(5))) == {"type": "credit", "bytes": 5}
    assert word_of(b"\x00abc") == Input(b"abc")
    assert word_of('{"type":"input_end"}') == InputEnd()
    assert word_of('{"type":"resize","columns":100,"rows":40}') == TerminalSize(100, 40)
    assert word_of('{"type":"credit","bytes":7}') == Credit(7)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x01x",
        b"\x00" + bytes(LARGEST_PIECE_BYTES + 1),
        "",
        "[]",
        "[" * 100_000,
        '{"type":"resize","columns":0,"rows":1}',
        '{"type":"resize","columns":true,"rows":1}',
        json.dumps({"type": "credit", "bytes": WINDOW_BYTES + 1}),
        '{"type":"start"}',
        '{"type":[]}',
    ],
)
def test_what_is_no_frame_is_refused(frame: str | bytes) -> None:
    with pytest.raises(FrameMalformed):
        word_of(frame)


def test_a_start_says_what_is_wanted() -> None:
    text = '{"type":"start","command":["ls","-l"],"terminal":{"columns":3,"rows":4},"input":true,"user":"0"}'
    wanted = start_of(text, ExecStart).wanted()
    assert wanted == CommandWanted(("ls", "-l"), user="0", terminal=TerminalSize(3, 4), input=True)
    assert start_of('{"type":"start"}', ConsoleStart).wanted().terminal == TerminalSize()


@pytest.mark.parametrize(
    "text", ["{}", '{"type":"start"}', '{"type":"start","command":"ls"}', '{"type":"start","command":[],"detach":1}']
)
def test_a_start_that_is_wrong_is_refused_by_name(text: str) -> None:
    with pytest.raises(FrameMalformed):
        start_of(text, ExecStart)


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (CommandWanted(()), "command"),
        (CommandWanted(("",)), "command"),
        (CommandWanted(("a\x00b",)), "command"),
        (CommandWanted(("\ud800",)), "command"),
        (CommandWanted(("x",) * 300), "command"),
        (CommandWanted(("x" * 70_000,)), "command"),
        (CommandWanted(("x",), {"A=": "1"}), "environment"),
        (CommandWanted(("x",), {"A": "\x00"}), "environment"),
        (CommandWanted(("x",), user="a b"), "user"),
        (CommandWanted(("x",), user="--privileged"), "user"),
        (CommandWanted(("x",), working_directory="etc"), "working_directory"),
        (CommandWanted(("x",), terminal=TerminalSize(0, 1)), "terminal"),
    ],
)
def test_a_command_that_no_engine_takes_never_reaches_one(wanted: CommandWanted, field: str) -> None:
    with pytest.raises(ChannelRequestInvalid) as refused:
        check_command(wanted)
    assert refused.value.facts["field"] == field


def test_an_address_that_means_every_interface_is_none_to_dial() -> None:
    assert dialable("10.0.0.1:8444") == "10.0.0.1:8444"
    assert dialable("[2001:db8::1]:8444") == "[2001:db8::1]:8444"
    assert [dialable(address) for address in ("0.0.0.0:8444", "[::]:8444", "")] == ["", "", ""]


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=200), min_size=1, max_size=150))
def test_the_trail_keeps_a_command_whole_or_its_hash_and_always_has_room_for_it(argv: list[str]) -> None:
    kept = audited_command(argv)
    assert kept.get("command", argv) == argv
    assert ("command" in kept) != ("command_sha256" in kept)
    assert len(json.dumps(kept)) < 2500
