"""Foreign text in scripts of loaders; pure.

Invariant: whatever a name, an argument or a serial number holds, a script has no command more and none less.
"""

from __future__ import annotations

from common.errors import Invalid

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:()%+/_-")


class ArgumentsInvalid(Invalid):
    """Kernel arguments that a loader's script cannot hold."""

    code = "boot_arguments_invalid"


def shown(text: str) -> str:
    """For people before a screen: what could mean anything to a loader is a question mark."""
    return "".join(letter if letter in _PLAIN else "?" for letter in text)[:300]


def words_of(arguments: str) -> list[str]:
    """Kernel arguments, one each. Raises `ArgumentsInvalid`."""
    if not arguments.isprintable():
        raise ArgumentsInvalid("kernel arguments hold line breaks or control characters", action="write one plain line")
    return arguments.split()
