"""BitTorrent v2 metainfo of a single file (BEP 52): built deterministically from hashes, and parsed; pure.

Invariant: the same bytes, name, piece length and salt always give the same `encoded` and info-hash, and `parse` accepts
nothing else than what `build` writes: one file, v2 alone, private (BEP 27), no trackers, no keys that could change what
a client does. The salt makes info-hashes differ from tenant to tenant and unguessable; it proves nothing by itself.
With `ssl-cert`, the PEM certificate of the tenant's authority, peers speak TLS and show certificates of that authority
(in libtorrent's manual: "SSL torrents").
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass

from common.bittorrent import bencode, merkle
from common.bittorrent.bencode import BencodeInvalid, Decoded
from common.errors import Invalid

# >= 256 pieces keep the swarm's pipeline full (p2p bound: one extra piece time per doubling of peers); above 4 MiB a
# piece, a peer has nothing to give for too long, below 256 KiB a seeder spends half as much CPU again (measured).
MINIMUM_PIECE = 256 << 10
MAXIMUM_PIECE = 4 << 20
_ACCEPTED_PIECES = range(merkle.BLOCK, (16 << 20) + 1)
_MAXIMUM_LENGTH = 1 << 41
_SALT_BYTES = range(16, 65)
# libtorrent rewrites names that could leave the directory; ours it must take as they are.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
# One certificate, in RFC 7468's strict form; ours have some 650 bytes.
_AUTHORITY = re.compile(rb"-----BEGIN CERTIFICATE-----\n(?:[A-Za-z0-9+/=]{1,64}\n){1,64}-----END CERTIFICATE-----\n")


class MetainfoInvalid(Invalid):
    """The metainfo contradicts itself or is not of the one form that is used here; nothing was added."""

    code = "metainfo_invalid"


@dataclass(frozen=True, slots=True)
class Metainfo:
    """`info_hash` is the whole 32-byte v2 hash; trackers and handshakes carry its first 20 bytes.

    piece_layer: the 32-byte Merkle hash of each piece, in order; empty when the file has a single piece.
    encoded: the bencoded .torrent with piece layers and without trackers.
    authority_pem: whose certificates peers show each other over TLS; empty: they speak plainly.
    """

    info_hash: bytes
    name: str
    length: int
    piece_length: int
    pieces_root: bytes
    piece_layer: tuple[bytes, ...]
    encoded: bytes
    authority_pem: bytes = b""

    @property
    def piece_count(self) -> int:
        return -(-self.length // self.piece_length)

    def piece_size(self, index: int) -> int:
        """Bytes of that piece; the last one is what is left. IndexError outside the file."""
        if not 0 <= index < self.piece_count:
            raise IndexError(f"piece {index} of {self.piece_count}")
        return min(self.piece_length, self.length - index * self.piece_length)


def piece_length_for(length: int) -> int:
    """The piece length for a file of `length` bytes: about 1024 pieces, within 256 KiB and 4 MiB."""
    wanted = 1 << (max(-(-length // 1024), 1) - 1).bit_length()
    return min(max(wanted, MINIMUM_PIECE), MAXIMUM_PIECE)


def build(
    name: str,
    length: int,
    root: bytes,
    layer: Sequence[bytes],
    piece_length: int,
    salt: bytes,
    authority_pem: bytes = b"",
) -> Metainfo:
    """`root` and `layer` as `MerkleBuilder.finish` gives them; `salt`: 16 to 64 secret bytes, one for each tenant;
    `authority_pem` as in `Metainfo`.

    Raises `MetainfoInvalid`. The layer is not hashed here: it is the builder's own; `parse` checks foreign ones.
    """
    _check(name, length, root, layer, piece_length, salt)
    fields: dict[bytes, bencode.Encodable] = {
        b"file tree": {name.encode("ascii"): {b"": {b"length": length, b"pieces root": root}}},
        b"meta version": 2,
        b"name": name.encode("ascii"),
        b"piece length": piece_length,
        b"private": 1,
        b"salt": salt,
    }
    if authority_pem:
        _check_authority(authority_pem)
        fields[b"ssl-cert"] = authority_pem
    info = bencode.encode(fields)
    layers = bencode.encode({root: b"".join(layer)} if layer else {})
    return Metainfo(
        info_hash=hashlib.sha256(info).digest(),
        name=name,
        length=length,
        piece_length=piece_length,
        pieces_root=root,
        piece_layer=tuple(layer),
        encoded=b"d4:info" + info + b"12:piece layers" + layers + b"e",
        authority_pem=authority_pem,
    )


def parse(encoded: bytes) -> Metainfo:
    """Raises `MetainfoInvalid` unless `build` would have written these very bytes and the layer leads to the root."""
    try:
        outer = bencode.decode(encoded)
    except BencodeInvalid as error:
        raise MetainfoInvalid(f"the metainfo is not bencoded: {error.detail}") from error
    info = _dictionary(_dictionary(outer).get(b"info"))
    name = _text(info.get(b"name"))
    file = _dictionary(_dictionary(_dictionary(info.get(b"file tree")).get(name)).get(b""))
    root = _text(file.get(b"pieces root"))
    layer = _dictionary(_dictionary(outer).get(b"piece layers")).get(root, b"")
    metainfo = build(
        name.decode("ascii", "replace"),
        _number(file.get(b"length")),
        root,
        _split(_text(layer)),
        _number(info.get(b"piece length")),
        _text(info.get(b"salt")),
        _text(info.get(b"ssl-cert", b"")),
    )
    if metainfo.encoded != encoded:
        raise MetainfoInvalid("the metainfo has entries that have no place here", action="have it made again")
    if metainfo.piece_layer and merkle.layer_root(metainfo.piece_layer, metainfo.piece_length) != root:
        raise MetainfoInvalid("the piece layer does not lead to the pieces root", action="fetch it again")
    return metainfo


def verify_piece(metainfo: Metainfo, index: int, data: bytes | bytearray | memoryview) -> bool:
    """Whether `data` is that whole piece. Hashes: 4 MiB take 2 ms and more, so call it in a thread."""
    if not 0 <= index < metainfo.piece_count or len(data) != metainfo.piece_size(index):
        return False
    expected = metainfo.piece_layer[index] if metainfo.piece_layer else metainfo.pieces_root
    return hmac.compare_digest(merkle.piece_root(data, metainfo.piece_length, metainfo.length), expected)


def _check(name: str, length: int, root: bytes, layer: Sequence[bytes], piece_length: int, salt: bytes) -> None:
    if not _NAME.fullmatch(name):
        raise MetainfoInvalid(f"{name[:80]!r} cannot name a torrent's file", action="use letters, digits and ._-")
    if not 0 < length <= _MAXIMUM_LENGTH:
        raise MetainfoInvalid(f"a torrent cannot hold a file of {length} bytes", length=length)
    if piece_length not in _ACCEPTED_PIECES or piece_length & (piece_length - 1):
        raise MetainfoInvalid(f"a piece length of {piece_length} bytes is not a power of two from 16 KiB to 16 MiB")
    if len(salt) not in _SALT_BYTES:
        raise MetainfoInvalid(f"a salt of {len(salt)} bytes is not within 16 and 64 bytes")
    pieces = -(-length // piece_length)
    if len(layer) != (pieces if pieces > 1 else 0):
        raise MetainfoInvalid(f"the piece layer has {len(layer)} hashes for a file of {pieces} pieces")
    if any(len(value) != merkle.HASH_BYTES for value in (root, *layer)):
        raise MetainfoInvalid("a hash of the tree does not have 32 bytes")


def _check_authority(authority_pem: bytes) -> None:
    if not _AUTHORITY.fullmatch(authority_pem):
        raise MetainfoInvalid("the swarm's authority is not one certificate in PEM", action="have it made again")


def _split(layer: bytes) -> tuple[bytes, ...]:
    return tuple(layer[at : at + merkle.HASH_BYTES] for at in range(0, len(layer), merkle.HASH_BYTES))


def _dictionary(value: Decoded | None) -> dict[bytes, Decoded]:
    if not isinstance(value, dict):
        raise MetainfoInvalid("the metainfo lacks a dictionary that every v2 torrent of one file has")
    return value


def _text(value: Decoded | None) -> bytes:
    if not isinstance(value, bytes):
        raise MetainfoInvalid("the metainfo lacks a string that every v2 torrent of one file has")
    return value


def _number(value: Decoded | None) -> int:
    if not isinstance(value, int):
        raise MetainfoInvalid("the metainfo lacks a number that every v2 torrent of one file has")
    return value
