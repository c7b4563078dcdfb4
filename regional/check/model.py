"""What a check found; pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """`step`: what was tried, `dhcp bios`; `words`: what happened; `action`: what to do, empty if all is well."""

    step: str
    level: Level
    words: str
    action: str = ""

    def line(self) -> str:
        shown = f"{self.level.upper():8}{self.step:18}{self.words}"
        return shown if not self.action else f"{shown}\n{'':26}do: {self.action}"


@dataclass(frozen=True, slots=True)
class Load:
    """A file that firmware was told to load: by TFTP from `host`, or from the URL `name` where `host` is empty."""

    host: str
    name: str

    @property
    def by_http(self) -> bool:
        return not self.host


def ok(step: str, words: str) -> Finding:
    return Finding(step, Level.OK, words)


def wrong(step: str, words: str, action: str) -> Finding:
    return Finding(step, Level.WRONG, words, action)


def warning(step: str, words: str, action: str) -> Finding:
    return Finding(step, Level.WARNING, words, action)


def is_url(name: str) -> bool:
    return urlsplit(name).scheme in ("http", "https")
