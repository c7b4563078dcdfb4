"""One value as one word of a format; pure.

Invariant: what comes out is one line and reads back as exactly what went in, or LineBroken is raised.
"""

from __future__ import annotations

import json
import shlex
from typing import Any, ClassVar

import yaml

from common.errors import Invalid


class Quoted(str):
    """Text that is safe where it is put: made by a renderer or a quoting filter, never by a user."""

    __slots__ = ()


class LineBroken(Invalid):
    code = "answer_line_broken"


def one_line(value: str) -> str:
    if not value.isprintable():
        raise LineBroken("a value has characters that end or hide a line", action="use one line of printable text")
    return value


def shell(value: str) -> Quoted:
    """A word of sh. POSIX.1-2017, 2.2.2: between single quotes every letter is itself."""
    return Quoted(shlex.quote(one_line(value)))


def kickstart(value: str) -> Quoted:
    """An argument of a Kickstart command: the installer splits lines as Python's shlex does, `#` included."""
    return shell(value)


def preseed(value: str) -> Quoted:
    """The value at the end of a line of debconf-set-selections: all that follows is the value, but for blanks around it
    and for a backslash at its end, which would join the next line.
    """
    if value != value.strip() or value.endswith("\\"):
        raise LineBroken("a value of a preseed begins or ends with a blank, or ends with a backslash")
    return Quoted(one_line(value))


def as_json(value: Any) -> Quoted:
    """JSON of one line, which YAML 1.2 reads as the same; ASCII, so that no letter ends a line."""
    return Quoted(json.dumps(value, ensure_ascii=True, sort_keys=False))


def _represent_text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    plain = value.isascii() and value.replace("-", "").replace("_", "").isalnum() and not value[0].isdigit()
    style = None if plain and len(value) < 32 else "|" if _is_block(value) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


def _is_block(value: str) -> bool:
    """Scripts stay readable. A leading blank would be taken for indentation."""
    return value.endswith("\n") and value.isascii() and value[0] not in " \n\t" and "\t" not in value


class _Dumper(yaml.SafeDumper):
    """Texts that are not short and plain are put in double quotes, so what fills a placeholder cannot change their
    kind; lists stand further in than their key; nothing is shared by anchors.
    """

    yaml_representers: ClassVar[dict[Any, Any]] = {
        **yaml.SafeDumper.yaml_representers,
        str: _represent_text,
        Quoted: _represent_text,
    }

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def as_yaml(value: Any) -> Quoted:
    """Block style, keys in their given order; ASCII."""
    return Quoted(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=False, width=1_000_000))
