"""What the collection needs of those above it; `app` hands it in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from common.digest import Digest


class Wishes(Protocol):
    async def wanted(self, digests: Sequence[Digest]) -> set[Digest]:
        """Those that some machine is told to hold, whatever became of the manifest that named them."""
        ...


class NoWishes:
    async def wanted(self, digests: Sequence[Digest]) -> set[Digest]:
        return set()
