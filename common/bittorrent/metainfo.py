"""BitTorrent v2 metainfo of a single file (BEP 52): built deterministically while the bytes stream by, and parsed; pure.

Invariant: the same bytes, name and salt always give the same info-hash.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metainfo:
    """`info_hash` is the whole 32-byte v2 hash; trackers and handshakes carry its first 20 bytes.

    piece_layer: the 32-byte Merkle hash of each piece, in order; empty when the file has a single piece.
    encoded: the bencoded .torrent with piece layers and without trackers.
    """

    info_hash: bytes
    name: str
    length: int
    piece_length: int
    pieces_root: bytes
    piece_layer: tuple[bytes, ...]
    encoded: bytes
