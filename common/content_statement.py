"""What a control plane states of one tenant's content: the bytes that this digest names are the bytes of this torrent.

A digest (OCI) and a Merkle root (BEP 52) cannot be computed from one another without the bytes, so whoever hands out a
metainfo could send a swarm after other bytes than those that were asked for; the whole digest would tell, but only at
the end. The statement ties both before the first byte. Its form is DSSE's (github.com/secure-systems-lab/dsse): what is
signed is the pre-authentication encoding of type and payload, so that no signature over something else that our keys
ever made (content tokens are JWTs: base64url and dots) fits here, nor this one there. One Ed25519 signature (RFC 8032).

Invariant: `StatementVerifier.accept` returns a metainfo only if a key of the newest set signed, for the very tenant and
digest asked for, the length, piece length, pieces root and info-hash that the metainfo has; and each statement has one
spelling. A statement has no end of its own, as the fact that it states has none: its key has. It is signed anew at each
request to the centre; who passed one on and lost the key asks the centre again (docs/decisions/0022).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from common.bittorrent import metainfo as torrents
from common.bittorrent.metainfo import Metainfo
from common.digest import Digest
from common.errors import Failure, Invalid

# The HTTP header that carries a statement beside its metainfo.
HEADER = "Longshore-Statement"
PAYLOAD_TYPE = "application/vnd.longshore.content-statement.v1+json"
# A statement has some 700 characters; a header line of more than 8 KiB would not pass most servers.
_MAXIMUM_CHARACTERS = 4096
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ASK_AGAIN = "ask another source; the whole content is still verified by its digest"


class StatementInvalid(Invalid):
    """There is no statement, or it cannot be read."""

    code = "statement_invalid"


class StatementUnsigned(StatementInvalid):
    """No key that is known here signed it."""

    code = "statement_unsigned"


class StatementFalse(StatementInvalid):
    """It is genuine and speaks of something else than what came with it or was asked for."""

    code = "statement_false"


@dataclass(frozen=True, slots=True)
class ContentStatement:
    """Lengths in bytes; `pieces_root` and `info_hash` are BEP 52's, 32 bytes each."""

    tenant_id: str
    digest: Digest
    length: int
    piece_length: int
    pieces_root: bytes
    info_hash: bytes

    def encode(self) -> bytes:
        """JSON with sorted keys and no spaces: the one spelling."""
        return json.dumps(
            {
                "digest": str(self.digest),
                "info_hash": self.info_hash.hex(),
                "length": self.length,
                "piece_length": self.piece_length,
                "pieces_root": self.pieces_root.hex(),
                "tenant": self.tenant_id,
            },
            sort_keys=True,
            separators=(",", ":"),
        ).encode("ascii")


@dataclass(frozen=True, slots=True)
class ClaimedMetainfo:
    """What a source sent. Nothing of it is believed before `StatementVerifier.accept`."""

    statement: str
    encoded: bytes


@dataclass(frozen=True, slots=True)
class SignedMetainfo:
    """A metainfo with the statement that it came with, to be passed on unchanged."""

    statement: str
    metainfo: Metainfo

    def pack(self) -> bytes:
        """For a file of our own."""
        return self.statement.encode("ascii") + b"\n" + self.metainfo.encoded

    @classmethod
    def unpack(cls, packed: bytes) -> SignedMetainfo:
        """What `pack` wrote; no signature is checked: own files are believed. Raises `Invalid`."""
        statement, separator, encoded = packed.partition(b"\n")
        if not separator or not statement.isascii():
            raise StatementInvalid("the file holds no metainfo with its statement", action="it is asked for again")
        return cls(statement.decode("ascii"), torrents.parse(encoded))


def statement_of(tenant_id: str, digest: Digest, metainfo: Metainfo) -> ContentStatement:
    return ContentStatement(
        tenant_id, digest, metainfo.length, metainfo.piece_length, metainfo.pieces_root, metainfo.info_hash
    )


def sign(statement: ContentStatement, key_id: str, key: Ed25519PrivateKey) -> str:
    """`<key id>.<payload>.<signature>`, the last two in base64url without padding: it goes into a header line."""
    payload = statement.encode()
    return f"{key_id}.{_base64(payload)}.{_base64(key.sign(pre_authentication(PAYLOAD_TYPE, payload)))}"


def pre_authentication(payload_type: str, payload: bytes) -> bytes:
    """DSSE's PAE: lengths in decimal before what they measure, so that no two pairs have one encoding."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def parse(payload: bytes) -> ContentStatement:
    """Raises `StatementInvalid` unless `encode` would have written these very bytes."""
    try:
        fields = json.loads(payload)
        statement = ContentStatement(
            tenant_id=_text(fields["tenant"]),
            digest=Digest.parse(_text(fields["digest"])),
            length=_number(fields["length"]),
            piece_length=_number(fields["piece_length"]),
            pieces_root=_hash(fields["pieces_root"]),
            info_hash=_hash(fields["info_hash"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError, Failure) as error:
        raise StatementInvalid(f"the statement cannot be read: {str(error)[:100]}", action=_ASK_AGAIN) from error
    if statement.encode() != payload:
        raise StatementInvalid("the statement has a spelling that is not ours", action=_ASK_AGAIN)
    return statement


class StatementVerifier:
    """Checks statements against the keys last received. An empty set of keys verifies nothing."""

    def __init__(self) -> None:
        self._keys: Mapping[str, Ed25519PublicKey] = {}

    def replace_keys(self, public_keys_pem: Mapping[str, bytes]) -> None:
        keys: dict[str, Ed25519PublicKey] = {}
        for key_id, pem in public_keys_pem.items():
            key = load_pem_public_key(pem)
            if isinstance(key, Ed25519PublicKey):
                keys[key_id] = key
        self._keys = keys

    def knows_key_of(self, statement: str) -> bool:
        """Whether the key that it names is one of the newest set: others would refuse it now."""
        return statement.partition(".")[0] in self._keys

    def verify(self, statement: str) -> ContentStatement:
        """Raises `StatementInvalid`, `StatementUnsigned`. Says nothing yet about what it is good for."""
        key_id, payload, signature = _opened(statement)
        key = self._keys.get(key_id)
        if key is None:
            raise StatementUnsigned(f"the statement names the key {key_id}, which is not known", action=_ASK_AGAIN)
        try:
            key.verify(signature, pre_authentication(PAYLOAD_TYPE, payload))
        except InvalidSignature as error:
            raise StatementUnsigned("the statement's signature is false", action=_ASK_AGAIN) from error
        return parse(payload)

    def accept(
        self, claimed: ClaimedMetainfo, tenant_id: str, digest: Digest, length: int | None = None
    ) -> SignedMetainfo:
        """The metainfo, if it is that of this tenant's content (and has `length` bytes, where that is known).

        Hashes the piece layer: call it in a thread. Raises `StatementInvalid`, `StatementUnsigned`, `StatementFalse`
        and `MetainfoInvalid`; nothing of what was claimed may be used then.
        """
        stated = self.verify(claimed.statement)
        if (stated.tenant_id, stated.digest) != (tenant_id, digest):
            raise StatementFalse(
                f"the statement is about {stated.digest} of tenant {stated.tenant_id}, not what was asked for",
                action=_ASK_AGAIN,
            )
        if length is not None and stated.length != length:
            raise StatementFalse(
                f"the statement is about {stated.length} bytes, the content has {length}", action=_ASK_AGAIN
            )
        metainfo = torrents.parse(claimed.encoded)
        if statement_of(tenant_id, digest, metainfo) != stated:
            raise StatementFalse(f"the metainfo is not the one that is stated for {digest}", action=_ASK_AGAIN)
        return SignedMetainfo(claimed.statement, metainfo)


def _opened(statement: str) -> tuple[str, bytes, bytes]:
    parts = statement.split(".")
    if len(parts) != 3 or len(statement) > _MAXIMUM_CHARACTERS or not _KEY_ID.fullmatch(parts[0]):
        what = "there is no signed statement" if not statement else "the statement is not of our form"
        raise StatementInvalid(what, action=_ASK_AGAIN)
    return parts[0], _bytes(parts[1]), _bytes(parts[2])


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _bytes(text: str) -> bytes:
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise StatementInvalid("the statement is not in base64url", action=_ASK_AGAIN) from error
    if _base64(data) != text:
        raise StatementInvalid("the statement's base64url is not in its one form", action=_ASK_AGAIN)
    return data


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is missing")
    return value


def _number(value: Any) -> int:
    if type(value) is not int or value <= 0:
        raise TypeError("a positive number is missing")
    return value


def _hash(value: Any) -> bytes:
    data = bytes.fromhex(_text(value))
    if len(data) != 32:
        raise ValueError(f"a hash of {len(data)} bytes")
    return data
