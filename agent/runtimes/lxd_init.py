"""What LXD hands to LXC as it is (`raw.lxc`): the first process of an instance, its host name, variables without a
value; pure.

Invariant: a line of ours never becomes two, and a word never two words, whatever a tenant wrote. LXC 5.0.2 splits
`lxc.init.cmd` at blanks, also inside of quotes (measured), so words with either are refused.
"""

from __future__ import annotations

import re

from agent.model import ContainerSpec
from agent.runtimes.failures import EngineCannot

RAW = "raw.lxc"
_PLAIN = re.compile(r"[A-Za-z0-9_./:=@%+,-]+")
_ARGUMENT = re.compile(r"[!$%&()*+,./0-9:;<=>?@A-Z\[\]^_`a-z{|}~-]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HOSTNAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9.-]{0,61}[a-zA-Z0-9])?")
_USER = re.compile(r"(\d+)(?::(\d+))?")
_COMMAND, _FOLDER, _HOST = "lxc.init.cmd", "lxc.init.cwd", "lxc.uts.name"
_VALUE = re.compile(r"\s*(?P<key>[a-z0-9_.]+)\s*=\s*(?P<value>.*?)\s*")

Lines = tuple[tuple[str, str], ...]


def lines_of(spec: ContainerSpec) -> Lines:
    """Keys and values. Raises `EngineCannot` for words that cannot be handed on."""
    found = []
    if argv := (*spec.entrypoint, *spec.command):
        found.append((_COMMAND, " ".join(_word(word, _ARGUMENT, "part of a command") for word in argv)))
    if spec.working_dir:
        found.append((_FOLDER, _word(spec.working_dir, _PLAIN, "working directory")))
    if spec.user:
        _word(spec.user, _USER, "user (LXD wants numbers)")
        uid, _, gid = spec.user.partition(":")
        found += [("lxc.init.uid", uid), ("lxc.init.gid", gid or uid)]
    if spec.hostname:
        found.append((_HOST, _word(spec.hostname, _HOSTNAME, "host name")))
    # LXD drops a variable that has no value.
    empty = [key for key, value in sorted(spec.environment.items()) if not value]
    found += [("lxc.environment", f"{_word(key, _VARIABLE, 'name of a variable')}=") for key in empty]
    return tuple(found)


def merged(inherited: str, ours: Lines) -> str:
    """`raw.lxc` with our lines in place of those that say the same."""
    keys = {key for key, _ in ours}
    kept = [line for line in inherited.split("\n") if line.strip() and _key_in(line) not in keys]
    return "\n".join([*kept, *(f"{key}={value}" for key, value in ours)])


def command_in(raw: str) -> tuple[str, ...]:
    """The first process that `raw.lxc` names; empty: the image's init."""
    for line in raw.split("\n"):
        if _key_in(line) == _COMMAND and (matched := _VALUE.fullmatch(line)):
            return tuple(matched["value"].split())
    return ()


def beyond(raw: str) -> str:
    """The lines that no specification can say."""
    return "\n".join(line for line in raw.split("\n") if line.strip() and _key_in(line) != _COMMAND)


def _key_in(line: str) -> str:
    matched = _VALUE.fullmatch(line)
    return matched["key"] if matched else ""


def _word(word: str, allowed: re.Pattern[str], what: str) -> str:
    if not allowed.fullmatch(word):
        raise EngineCannot(
            f"an LXD instance cannot have this {what}: {word[:80]!r}", action="put it into a script of the image"
        )
    return word
