"""Glob patterns over repository names and tags; pure.

`*` is any text within one component of a name, `?` one character, `[a-z]` one of a set, and `**` as a whole component
any number of components. A tag has one component.

Invariant: matching costs at most pattern times name, whatever was written: components become regular expressions whose
stars are atomic groups (fnmatch of Python 3.11 and newer), and components are matched by dynamic programming.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from common.errors import Invalid

MAX_PATTERNS = 64
MAX_LENGTH = 255
# What names and tags are made of, and the signs of patterns.
_WRITABLE = re.compile(r"[A-Za-z0-9._\-/*?\[\]!]+")
_ANYTHING = "**"


class PatternInvalid(Invalid):
    code = "pattern_invalid"


@dataclass(frozen=True, slots=True)
class Pattern:
    text: str
    components: tuple[re.Pattern[str] | None, ...]

    def matches(self, name: str) -> bool:
        # `reached[n]`: the components so far can stand for the first n of the name.
        parts = name.split("/")
        reached = [True] + [False] * len(parts)
        for component in self.components:
            if component is None:
                first = reached.index(True) if True in reached else len(reached)
                reached = [place >= first for place in range(len(reached))]
            else:
                reached = [False] + [
                    before and component.match(part) is not None for before, part in zip(reached, parts, strict=False)
                ]
        return reached[-1]


@dataclass(frozen=True, slots=True)
class Patterns:
    """Any of them."""

    any_of: tuple[Pattern, ...]

    def match(self, name: str) -> bool:
        return any(pattern.matches(name) for pattern in self.any_of)


def compile_patterns(texts: Iterable[str]) -> Patterns:
    """Raises `PatternInvalid`."""
    return Patterns(tuple(_compiled(text) for text in check_patterns(tuple(texts))))


def check_patterns(texts: Sequence[str]) -> tuple[str, ...]:
    """`texts` themselves; raises `PatternInvalid`."""
    if len(texts) > MAX_PATTERNS:
        raise PatternInvalid(f"there are {len(texts)} patterns", action=f"use at most {MAX_PATTERNS}")
    for text in texts:
        if len(text) > MAX_LENGTH or not _WRITABLE.fullmatch(text):
            raise PatternInvalid(
                f"{text[:80]!r} is not a pattern",
                action=f"use up to {MAX_LENGTH} characters of names and tags, with * ? [] and ** as a whole component",
            )
        if any(_ANYTHING in part and part != _ANYTHING for part in text.split("/")):
            raise PatternInvalid(f"{text[:80]!r} has ** beside other characters", action="write * or a/**/b")
        _compiled(text)
    return tuple(texts)


@functools.lru_cache(maxsize=4096)
def _compiled(text: str) -> Pattern:
    return Pattern(text, tuple(_component(part) for part in text.split("/")))


def _component(part: str) -> re.Pattern[str] | None:
    return None if part == _ANYTHING else re.compile(fnmatch.translate(part))
