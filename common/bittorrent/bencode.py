"""Bencoding, strictly (BEP 3, "bencoding"): what `decode` accepts is exactly what `encode` writes.

Invariant: `encode(decode(data)) == data`, so an info-hash taken over decoded and encoded again bytes is the same hash.
Everything that has two spellings is refused: leading zeros, minus zero, unsorted or repeated keys, trailing bytes.
Size, depth, digits and the count of values are bounded before anything is built, because the bytes come from the
network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from common.errors import Invalid

Decoded: TypeAlias = "int | bytes | list[Decoded] | dict[bytes, Decoded]"
Encodable: TypeAlias = "int | bytes | bytearray | memoryview | Sequence[Encodable] | Mapping[bytes, Encodable]"

# 16 MiB is the metainfo of a 2 TiB file at 4 MiB pieces; a metainfo of ours nests four deep.
MAXIMUM_BYTES = 16 << 20
MAXIMUM_DEPTH = 16
# An empty list costs two bytes on the wire and 56 in memory: without this, 16 MiB could become half a gigabyte.
MAXIMUM_VALUES = 100_000
# 64 bit signed integers, as libtorrent keeps them, have at most 19 digits.
_MAXIMUM_DIGITS = 19
_INTEGERS = range(-(1 << 63), 1 << 63)
_DIGITS = frozenset(b"0123456789")


class BencodeInvalid(Invalid):
    """The bytes are not canonical bencoding, or the value has none."""

    code = "bencode_invalid"


def encode(value: Encodable) -> bytes:
    """Raises `BencodeInvalid` for types, integers or depths that `decode` would not give back."""
    parts: list[bytes] = []
    _encode(value, parts, 0)
    return b"".join(parts)


def decode(data: bytes, *, maximum_bytes: int = MAXIMUM_BYTES) -> Decoded:
    """Raises `BencodeInvalid`; it says at which byte."""
    if len(data) > maximum_bytes:
        raise BencodeInvalid(f"{len(data)} bytes of bencoding are more than the {maximum_bytes} allowed")
    value, end = _Decoder(data).value(0, 0)
    if end != len(data):
        raise _refuse(end, "bytes follow the end of the value")
    return value


def _encode(value: Encodable, parts: list[bytes], depth: int) -> None:
    if depth > MAXIMUM_DEPTH:
        raise BencodeInvalid(f"the value nests deeper than {MAXIMUM_DEPTH} levels")
    if isinstance(value, (bytes, bytearray, memoryview)):
        text = bytes(value)
        parts += (b"%d:" % len(text), text)
    elif isinstance(value, int) and not isinstance(value, bool):
        if value not in _INTEGERS:
            raise BencodeInvalid(f"the integer of {value.bit_length()} bits does not fit 64 bits")
        parts.append(b"i%de" % value)
    elif isinstance(value, Mapping):
        _encode_mapping(value, parts, depth)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        parts.append(b"l")
        for item in value:
            _encode(item, parts, depth + 1)
        parts.append(b"e")
    else:
        raise BencodeInvalid(f"a {type(value).__name__} has no bencoding", action="encode text as UTF-8 first")


def _encode_mapping(value: Mapping[bytes, Encodable], parts: list[bytes], depth: int) -> None:
    if not all(isinstance(key, bytes) for key in value):
        raise BencodeInvalid("a dictionary key is not bytes")
    parts.append(b"d")
    for key in sorted(value):
        parts += (b"%d:" % len(key), key)
        _encode(value[key], parts, depth + 1)
    parts.append(b"e")


class _Decoder:
    """Recursive descent, at most MAXIMUM_DEPTH deep. Each method returns a value and the offset behind it."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._values = 0

    def value(self, at: int, depth: int) -> tuple[Decoded, int]:
        self._values += 1
        if depth > MAXIMUM_DEPTH or self._values > MAXIMUM_VALUES:
            raise _refuse(at, f"more than {MAXIMUM_DEPTH} levels deep or than {MAXIMUM_VALUES} values")
        match self._data[at : at + 1]:
            case b"i":
                return self._integer(at + 1, b"e", signed=True)
            case b"l":
                return self._list(at + 1, depth)
            case b"d":
                return self._dictionary(at + 1, depth)
            case b"":
                raise _refuse(at, "the value is cut off")
            case _:
                return self._text(at)

    def _integer(self, at: int, end: bytes, *, signed: bool) -> tuple[int, int]:
        stop = self._data.find(end, at, at + _MAXIMUM_DIGITS + 2)
        if stop < 0:
            raise _refuse(at, "an integer has no end, or too many digits")
        digits = self._data[at:stop]
        negative = signed and digits[:1] == b"-"
        digits = digits[1:] if negative else digits
        leading_zero = digits[:1] == b"0" and (negative or len(digits) > 1)
        if not digits or not _DIGITS.issuperset(digits) or leading_zero:
            raise _refuse(at, "an integer is not in its shortest decimal form")
        number = -int(digits) if negative else int(digits)
        if number not in _INTEGERS:
            raise _refuse(at, "an integer does not fit 64 bits")
        return number, stop + 1

    def _text(self, at: int) -> tuple[bytes, int]:
        length, start = self._integer(at, b":", signed=False)
        if length > len(self._data) - start:
            raise _refuse(at, "a string is cut off")
        return self._data[start : start + length], start + length

    def _list(self, at: int, depth: int) -> tuple[list[Decoded], int]:
        items: list[Decoded] = []
        while self._data[at : at + 1] != b"e":
            item, at = self.value(at, depth + 1)
            items.append(item)
        return items, at + 1

    def _dictionary(self, at: int, depth: int) -> tuple[dict[bytes, Decoded], int]:
        items: dict[bytes, Decoded] = {}
        previous: bytes | None = None
        while self._data[at : at + 1] != b"e":
            key, behind = self._text(at)
            if previous is not None and key <= previous:
                raise _refuse(at, "a dictionary's keys are repeated or not in order")
            items[key], at = self.value(behind, depth + 1)
            previous = key
        return items, at + 1


def _refuse(at: int, why: str) -> BencodeInvalid:
    return BencodeInvalid(f"at byte {at}: {why}", offset=at)
