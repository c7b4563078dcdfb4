"""Anchors and checkpoints are sealed with the master key: whoever can write to the database alone can forge neither."""

from __future__ import annotations

from datetime import datetime

from common.errors import Failure
from control_plane.audit.chain import canonical, time_text
from control_plane.audit.model import Anchor, Checkpoint, Link
from control_plane.sealing import SealedBox


class Seals:
    def __init__(self, box: SealedBox) -> None:
        self._box = box

    def anchor(self, link: Link, moment: datetime) -> Anchor:
        return Anchor(link, moment, self._box.seal(_anchored(link, moment), _anchor_place(link)))

    def checkpoint(self, link: Link, export: str, moment: datetime, by: str) -> Checkpoint:
        seal = self._box.seal(_let_go(link, export, moment, by), _checkpoint_place(link))
        return Checkpoint(link, export, moment, by, seal)

    def opens_anchor(self, anchor: Anchor) -> bool:
        return self._opens(anchor.seal, _anchor_place(anchor.link), _anchored(anchor.link, anchor.made_at))

    def opens_checkpoint(self, made: Checkpoint) -> bool:
        said = _let_go(made.link, made.export, made.made_at, made.made_by)
        return self._opens(made.seal, _checkpoint_place(made.link), said)

    def _opens(self, seal: bytes, place: str, said: bytes) -> bool:
        try:
            return self._box.open(seal, place) == said
        except Failure:
            return False


def _anchor_place(link: Link) -> str:
    return f"audit_anchors/{link.sequence}"


def _checkpoint_place(link: Link) -> str:
    return f"audit_checkpoints/{link.sequence}"


def _anchored(link: Link, moment: datetime) -> bytes:
    return canonical({"sequence": link.sequence, "hash": link.hash, "made_at": time_text(moment)})


def _let_go(link: Link, export: str, moment: datetime, by: str) -> bytes:
    return canonical(
        {
            "sequence": link.sequence,
            "hash": link.hash,
            "export": export,
            "made_at": time_text(moment),
            "made_by": by,
        }
    )
