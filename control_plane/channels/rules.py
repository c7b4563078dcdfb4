"""What may be asked of a channel, checked before the host hears of it; and what the audit trail keeps of a command;
pure. Limits are ours unless a source is named.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from control_plane.channels.model import ChannelRequestInvalid, CommandWanted, TerminalSize

_MOST_WORDS = 256
_MOST_BYTES = 64 << 10  # of all words; Linux takes 128 KiB of one (MAX_ARG_STRLEN)
_MOST_VARIABLES = 64
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,254}")
# name, uid, or uid:gid, as the engines read it.
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,63})?")
_LARGEST_SIZE = 4096
# An entry's details are dropped beyond 4096 bytes (audit.model), and lists are cut at 100.
_AUDITED_BYTES = 2048
_AUDITED_WORDS = 100


def check_command(wanted: CommandWanted) -> None:
    """Raises `ChannelRequestInvalid`, naming the field."""
    if not wanted.argv or not wanted.argv[0]:
        raise _wrong("command", "names no program")
    _check_texts("command", wanted.argv)
    if len(wanted.argv) > _MOST_WORDS or sum(len(word.encode()) for word in wanted.argv) > _MOST_BYTES:
        raise _wrong("command", f"has more than {_MOST_WORDS} words or {_MOST_BYTES >> 10} KiB")
    _check_environment(wanted.environment)
    if wanted.user and not _USER.fullmatch(wanted.user):
        raise _wrong("user", "is no name, uid or uid:gid")
    if wanted.working_directory:
        if not wanted.working_directory.startswith("/") or len(wanted.working_directory) > 1024:
            raise _wrong("working_directory", "is no absolute path of at most 1024 characters")
        _check_texts("working_directory", [wanted.working_directory])
    if wanted.terminal is not None:
        check_size(wanted.terminal)


def check_size(size: TerminalSize) -> None:
    """Raises `ChannelRequestInvalid`."""
    if not (0 < size.columns <= _LARGEST_SIZE and 0 < size.rows <= _LARGEST_SIZE):
        raise _wrong("terminal", f"is not from 1 x 1 to {_LARGEST_SIZE} x {_LARGEST_SIZE}")


def dialable(address: str) -> str:
    """`address` (host:port); "" where its host means every interface of whoever dials it."""
    host = address.rpartition(":")[0].strip("[]")
    return "" if host in ("", "0.0.0.0", "::") else address


def audited_command(argv: Sequence[str]) -> dict[str, Any]:
    """The command as the trail keeps it: whole, or its beginning with the hash of the whole."""
    words, size = list(argv), len(json.dumps(list(argv)))
    if len(words) <= _AUDITED_WORDS and size <= _AUDITED_BYTES:
        return {"command": words}
    whole = json.dumps(words, ensure_ascii=False).encode("utf-8", "replace")
    beginning = " ".join(words).encode("ascii", "replace")[: _AUDITED_BYTES // 2].decode()
    return {
        "command_begins": beginning,
        "command_words": len(words),
        "command_sha256": hashlib.sha256(whole).hexdigest(),
    }


def _check_environment(environment: Mapping[str, str]) -> None:
    _check_texts("environment", environment.values())
    if len(environment) > _MOST_VARIABLES or sum(len(v.encode()) for v in environment.values()) > _MOST_BYTES:
        raise _wrong("environment", f"has more than {_MOST_VARIABLES} variables or {_MOST_BYTES >> 10} KiB")
    if not all(_VARIABLE.fullmatch(name) for name in environment):
        raise _wrong("environment", "has a name that is none")


def _check_texts(name: str, texts: Iterable[str]) -> None:
    # JSON can say what UTF-8 cannot: one half of a surrogate pair.
    if any("\x00" in text or any("\ud800" <= letter <= "\udfff" for letter in text) for text in texts):
        raise _wrong(name, "has a NUL character or half a character")


def _wrong(name: str, problem: str) -> ChannelRequestInvalid:
    return ChannelRequestInvalid(f"{name} {problem}", action=f"mend {name} and ask again", field=name)
