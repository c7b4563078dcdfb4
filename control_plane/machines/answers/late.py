"""The placeholders of one rendering, as values that renderers put into documents; pure."""

from __future__ import annotations

from dataclasses import dataclass

from common.late_words import LateWord, placeholder
from control_plane.machines.answers.quoting import Quoted


@dataclass(frozen=True, slots=True)
class Late:
    """`nonce`: 32 random hexadecimal digits, of this rendering alone."""

    nonce: str

    def word(self, word: LateWord) -> Quoted:
        return Quoted(placeholder(self.nonce, word))

    def document(self, name: str) -> Quoted:
        """The URL of one of this machine's documents."""
        return Quoted(f"{self.word(LateWord.DOCUMENTS)}/{name}")

    def at(self, location: str) -> Quoted:
        """The URL of a location that passed its rule: a path lies at the regional."""
        return Quoted(f"{self.word(LateWord.BASE_URL)}{location}" if location.startswith("/") else location)

    def ends(self) -> str:
        """A word that no script contains: what ends a here-document."""
        return f"end-{self.nonce}"
