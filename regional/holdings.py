"""Held contents that nobody ordered, as the centre is told of them: whoever holds a blob can give it back
(common/returning.py), also when it was only pulled through.

Invariant: bounded, the newest first: of more than `_MOST` contents the longest known are taken back. What left is taken
back too; if the process ends before that is said, the centre asks once in vain.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from common.digest import Digest
from regional.edge import Edge
from regional.metainfos import Metainfos
from regional.model import ContentKey, OrderState, Phase
from regional.orders import OrderBook
from regional.shelf import Shelf

# A report is some 200 bytes: 100 KB when an attachment begins.
_MOST = 500


class Holdings:
    """`changed` is told each content of which the centre has to hear."""

    def __init__(self, edge: Edge, shelf: Shelf, metainfos: Metainfos, book: OrderBook) -> None:
        self._edge = edge
        self._shelf = shelf
        self._metainfos = metainfos
        self._told: OrderedDict[Digest, set[ContentKey]] = OrderedDict()
        self.changed: Callable[[ContentKey], None] = lambda _: None
        book.unordered, book.released = self._moved, self._released

    async def start(self) -> None:
        """Call once, when the orders are known."""
        tenants: dict[Digest, list[ContentKey]] = {}
        for key in self._metainfos.known():
            tenants.setdefault(key.digest, []).append(key)
        for digest in self._shelf.recent()[-_MOST:]:
            for key in tenants.get(digest, ()):
                # Known before it is reported, so that the centre never hears a smaller number than before.
                await self._edge.crossings.load(key)
                self._add(key)

    def keys(self) -> list[ContentKey]:
        """What the centre shall know of."""
        return [key for keys in self._told.values() for key in keys]

    def state(self, key: ContentKey) -> OrderState:
        """Of one that was told; nothing is held of it if it left."""
        size = self._edge.held_bytes(key.digest) if key in self._told.get(key.digest, ()) else 0
        phase = Phase.HELD if size else Phase.WAITING
        return OrderState(key, size, size, phase, self._edge.crossings.count(key))

    def _moved(self, digest: Digest) -> None:
        if self._edge.holds(digest) == (digest in self._told):
            return
        if digest in self._told:
            self._take_back(digest)
            return
        for key in self._metainfos.of(digest):
            self._add(key)

    def _released(self, key: ContentKey) -> None:
        if self._edge.holds(key.digest):
            self._add(key)

    def _add(self, key: ContentKey) -> None:
        self._told.setdefault(key.digest, set()).add(key)
        self._told.move_to_end(key.digest)
        self.changed(key)
        if len(self._told) > _MOST:
            self._take_back(next(iter(self._told)))

    def _take_back(self, digest: Digest) -> None:
        for key in self._told.pop(digest):
            self.changed(key)
