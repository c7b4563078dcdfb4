"""Modules of a kernel: which ones are needed, and the indexes by which busybox's modprobe finds them; pure.

What depmod would find out stands in each module's `.modinfo` section as `name=value` and a zero byte (the kernel's
scripts/mod/modpost.c writes it), so no depmod of the right architecture is needed.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

_FIELD = re.compile(rb"(depends|alias|softdep)=([\x20-\x7e]*)\0")
_HEADER = struct.Struct("<40xQ10xHHH")
_SECTION = struct.Struct("<IIQQQQ24x")


@dataclass(frozen=True, slots=True)
class Module:
    """`name` with `_` for `-`, as the kernel calls it; `path` below `kernel/`. `wishes`: used if they are there."""

    name: str
    path: str
    content: bytes
    needs: tuple[str, ...]
    wishes: tuple[str, ...]
    aliases: tuple[str, ...]


def read(path: str, content: bytes) -> Module:
    """`path` below `kernel/`; `content` not compressed."""
    fields: dict[bytes, list[str]] = {}
    for key, value in _FIELD.findall(_section(content, b".modinfo")):
        fields.setdefault(key, []).append(value.decode())
    needs = [_name(each) for line in fields.get(b"depends", []) for each in line.split(",") if each]
    wishes = [
        _name(each) for line in fields.get(b"softdep", []) for each in line.split() if each not in ("pre:", "post:")
    ]
    name = _name(PurePosixPath(path).name.split(".ko")[0])
    return Module(name, path, content, tuple(needs), tuple(wishes), tuple(fields.get(b"alias", [])))


def chosen(modules: Iterable[Module], wanted: Sequence[str]) -> list[Module]:
    """`wanted`: names, and folders below `kernel/`. With all that they need; sorted by name. A name that this kernel
    has not is passed over: not all architectures have all.
    """
    by_name = {each.name: each for each in modules}
    names = {_name(each) for each in wanted if "/" not in each}
    folders = tuple(f"{each}/" for each in wanted if "/" in each)
    found: dict[str, Module] = {}
    due = [each for each in by_name.values() if each.name in names or each.path.startswith(folders)]
    while due:
        module = due.pop()
        if module.name not in found:
            found[module.name] = module
            due += [by_name[name] for name in (*module.needs, *module.wishes) if name in by_name]
    return sorted(found.values(), key=lambda each: each.name)


def indexes(modules: Sequence[Module]) -> Mapping[str, bytes]:
    """`modules.dep` and `modules.alias` of files that lie beside them as `NAME.ko`."""
    by_name = {each.name: each for each in modules}
    lines = [f"{each.name}.ko: {' '.join(f'{name}.ko' for name in _all_needs(each, by_name))}\n" for each in modules]
    aliases = [f"alias {alias} {each.name}\n" for each in modules for alias in each.aliases]
    softly = [
        f"softdep {each.name} pre: {' '.join(there)}\n"
        for each in modules
        if (there := [name for name in each.wishes if name in by_name])
    ]
    return {
        "modules.dep": "".join(lines).encode(),
        "modules.alias": "".join(aliases).encode(),
        "modules.softdep": "".join(softly).encode(),
    }


def _section(content: bytes, wanted: bytes) -> bytes:
    """Of an ELF file for 64 bits; empty: it has none (System V gABI, chapter 4)."""
    offset, size, count, names = _HEADER.unpack_from(content)
    sections = [_SECTION.unpack_from(content, offset + number * size) for number in range(count)]
    texts = sections[names][4]
    for section in sections:
        at = texts + section[0]
        if content[at : at + len(wanted) + 1] == wanted + b"\0":
            return content[section[4] : section[4] + section[5]]
    return b""


def _all_needs(module: Module, by_name: Mapping[str, Module]) -> list[str]:
    """Transitively; each before what it needs itself, as depmod writes it."""
    found: list[str] = []
    for name in module.needs:
        if name in by_name:
            later = [name, *_all_needs(by_name[name], by_name)]
            found = [each for each in found if each not in later] + later
    return found


def _name(text: str) -> str:
    return text.replace("-", "_")
