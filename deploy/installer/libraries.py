"""Which shared libraries a program needs, read from its ELF file; pure (System V gABI, chapters 4 and 5)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from deploy.installer.errors import PackageIncomplete

_LOAD, _DYNAMIC = 1, 2
_NEEDED, _STRINGS = 1, 5
_HEADER = struct.Struct("<32xQ14xHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_PAIR = struct.Struct("<qQ")


def needed(program: bytes) -> list[str]:
    """Names of libraries; none for a static one, a script, or anything that is not for 64 bits."""
    if program[:6] != b"\x7fELF\x02\x01":
        return []
    offset, size, count = _HEADER.unpack_from(program)
    segments = [_SEGMENT.unpack_from(program, offset + number * size) for number in range(count)]
    dynamic = next((each for each in segments if each[0] == _DYNAMIC), None)
    if dynamic is None:
        return []
    pairs = list(_PAIR.iter_unpack(program[dynamic[2] : dynamic[2] + dynamic[5] // _PAIR.size * _PAIR.size]))
    address = next(value for tag, value in pairs if tag == _STRINGS)
    base = next(each for each in segments if each[0] == _LOAD and each[3] <= address < each[3] + each[5])
    strings = base[2] + address - base[3]
    names = [strings + value for tag, value in pairs if tag == _NEEDED]
    return [program[at : program.index(b"\0", at)].decode() for at in names]


def closure(programs: Iterable[bytes], libraries: Mapping[str, bytes], loader: str) -> dict[str, bytes]:
    """Those of `libraries` (by the name that programs need) that are needed, with `loader` if there are any. Raises
    `PackageIncomplete`.
    """
    found: dict[str, bytes] = {}
    due = [name for program in programs for name in needed(program)]
    if due:
        due.append(loader)
    while due:
        name = due.pop()
        if name in found:
            continue
        if name not in libraries:
            raise PackageIncomplete(f"no package brings the library {name}", action="add its package to the recipe")
        found[name] = libraries[name]
        due += needed(found[name])
    return found
