"""Signs what this control plane knows of a content (common/content_statement.py says what a statement is).

Invariant: a statement is made of a stored description, which exists only for bytes whose digest came out right
(describe.py), and is signed when it is asked for, with the key that signs now. So none outlives its key at the centre,
and nothing signed has to be kept or signed again when keys rotate; regionals, which keep what they were sent, ask again
when its key has left the set of their newest Welcome. One signature costs 0.1 ms.
"""

from __future__ import annotations

from common.content_statement import ContentStatement, sign
from control_plane.swarm.keys import ContentKeys
from control_plane.swarm.model import StoredMetainfo


class Statements:
    def __init__(self, keys: ContentKeys) -> None:
        self._keys = keys

    def sign(self, described: StoredMetainfo) -> str:
        """The value of the header that goes with the metainfo."""
        key = self._keys.signing()
        return sign(_stated(described), key.key_id, key.private)


def _stated(described: StoredMetainfo) -> ContentStatement:
    return ContentStatement(
        tenant_id=described.tenant_id,
        digest=described.digest,
        length=described.length,
        piece_length=described.piece_length,
        pieces_root=described.pieces_root,
        info_hash=described.info_hash,
    )
