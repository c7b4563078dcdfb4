"""The tokens with which one content may be fetched from the centre: those of orders, and those of whoever asks for it.

Pure. Orders' tokens come first: they are this regional's own. A token that the centre refused is not tried again; a
renewed one is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from common.errors import Denied
from regional.model import ContentKey


class NoRight(Denied):
    """Every token for this content was refused; the next full set of orders brings new ones."""

    code = "no_right_to_fetch"


# Of many who ask for one content, the newest few have tokens as good as all others.
_KEPT = 16


@dataclass
class Rights:
    _ordered: dict[ContentKey, str] = field(default_factory=dict)
    _demanded: dict[str, ContentKey] = field(default_factory=dict)
    _refused: dict[str, None] = field(default_factory=dict)

    def offer(self, key: ContentKey, token: str, *, ordered: bool = False) -> None:
        """An order's newest token replaces its older one."""
        if token in self._refused:
            return
        if ordered:
            self._ordered[key] = token
        else:
            self._demanded.pop(token, None)
            self._demanded[token] = key
            _bound(self._demanded)

    def refuse(self, token: str) -> None:
        self._ordered = {key: kept for key, kept in self._ordered.items() if kept != token}
        self._demanded.pop(token, None)
        self._refused[token] = None
        _bound(self._refused)

    def best(self) -> tuple[ContentKey, str]:
        """Raises `NoRight`."""
        for key, token in self._ordered.items():
            return key, token
        for token in reversed(self._demanded):
            return self._demanded[token], token
        raise NoRight(
            "the centre refused every token for this content",
            action="wait for the regional to attach again; it then receives new tokens",
        )


def _bound(kept: dict[str, ContentKey] | dict[str, None]) -> None:
    while len(kept) > _KEPT:
        del kept[next(iter(kept))]
