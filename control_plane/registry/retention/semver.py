"""Tags as semantic versions (semver.org 2.0.0), with or without a leading `v`; pure.

A tag cannot hold a `+`, so there is no build part.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_NUMBER = r"(?:0|[1-9][0-9]{0,17})"
_IDENTIFIER = rf"(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION = re.compile(rf"v?({_NUMBER})\.({_NUMBER})\.({_NUMBER})(?:-({_IDENTIFIER}(?:\.{_IDENTIFIER})*))?")


@dataclass(frozen=True, slots=True)
class Version:
    major: int
    minor: int
    patch: int
    prerelease: tuple[str, ...] = ()

    @property
    def precedence(self) -> tuple[object, ...]:
        """Sorts as clause 11 says: a release after its pre-releases, numbers before words, fewer fields first."""
        fields = tuple((0, int(word), "") if word.isdigit() else (1, 0, word) for word in self.prerelease)
        return (self.major, self.minor, self.patch, not self.prerelease, fields)


def version_of(tag: str) -> Version | None:
    """None for a tag that is none."""
    matched = _VERSION.fullmatch(tag)
    if matched is None:
        return None
    major, minor, patch, prerelease = matched.groups()
    return Version(int(major), int(minor), int(patch), tuple(prerelease.split(".")) if prerelease else ())
