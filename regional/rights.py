"""The tokens with which one content may be fetched from the centre: those of orders, and those of whoever asks for it.

Pure. A token that the centre refused is not tried again; a renewed one is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from common.errors import Denied
from regional.model import ContentKey


class NoRight(Denied):
    """Every token for this content was refused; the next full set of orders brings new ones."""

    code = "no_right_to_fetch"


# More tokens than this for one content are of bearers who ask again and again; the newest ones are as good.
_KEPT = 16


@dataclass
class Rights:
    _tokens: dict[ContentKey, str] = field(default_factory=dict)
    _refused: set[str] = field(default_factory=set)

    def offer(self, key: ContentKey, token: str) -> None:
        """The newest token of a tenant replaces its older one, except by one that was refused before."""
        if token in self._refused:
            return
        self._tokens[key] = token
        while len(self._tokens) > _KEPT:
            del self._tokens[next(iter(self._tokens))]

    def refuse(self, token: str) -> None:
        self._tokens = {key: kept for key, kept in self._tokens.items() if kept != token}
        if len(self._refused) >= _KEPT:
            self._refused.pop()
        self._refused.add(token)

    def best(self) -> tuple[ContentKey, str]:
        """Raises `NoRight`."""
        for key, token in self._tokens.items():
            return key, token
        raise NoRight(
            "the centre refused every token for this content",
            action="wait for the regional to attach again; it then receives new tokens",
        )
