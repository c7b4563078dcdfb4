"""The right of one process to read some of a tenant's blobs: signed by the control plane, checked offline by its
public key.

A token is a JWT (RFC 7519) signed with Ed25519 (RFC 8037), bound to bearer, tenant and digests, so that it is worth
nothing to another host, for another tenant or for another blob, and regionals can check it while the centre is away.
It authorises HTTP reads of the contents and of their metainfos, and tracker announces. A host has one for all contents
of an image: a signature costs 40 microseconds, and 1,000 hosts with twenty contents each would wait for 20,000.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from common.clock import Clock
from common.digest import Digest
from common.errors import Denied, Invalid, Unauthenticated

AUDIENCE = "longshore:content"
# A token of 32 digests has 3.6 kB and travels in headers and announce URLs, of which servers take 8 kB.
MOST_DIGESTS = 32
_ALGORITHM = "EdDSA"
_JWS = jwt.PyJWS(algorithms=[_ALGORITHM])


class TokenExpired(Unauthenticated):
    code = "token_expired"


class TokenInvalid(Unauthenticated):
    code = "token_invalid"


class TokenForOther(Denied):
    """A genuine token that was made for another blob."""

    code = "token_for_other"


@dataclass(frozen=True, slots=True)
class ContentClaim:
    """`bearer` is `host/<id>` or `regional/<id>`; `idc` is where it stands, for provenance. `digests`: 1 to
    `MOST_DIGESTS`.
    """

    bearer: str
    idc: str
    tenant_id: str
    digests: tuple[Digest, ...]
    expires_at: datetime


def sign(claim: ContentClaim, key_id: str, key: Ed25519PrivateKey) -> str:
    payload = {
        "aud": AUDIENCE,
        "sub": claim.bearer,
        "idc": claim.idc,
        "ten": claim.tenant_id,
        # Alone it is a text, which every version reads (docs/decisions/0056-one-token-for-an-image.md).
        "dig": str(claim.digests[0]) if len(claim.digests) == 1 else [str(digest) for digest in claim.digests],
        "exp": int(claim.expires_at.timestamp()),
    }
    # Not `jwt.encode`, which looks through the claims first: these are ours, and thousands are signed at a time.
    body = json.dumps(payload, separators=(",", ":")).encode()
    return _JWS.encode(body, key, algorithm=_ALGORITHM, headers={"kid": key_id})


class ContentVerifier:
    """Checks tokens against the keys last received. An empty set of keys verifies nothing."""

    def __init__(self, clock: Clock, leeway: timedelta = timedelta(minutes=5)) -> None:
        self._clock = clock
        self._leeway = leeway
        self._keys: dict[str, Ed25519PublicKey] = {}

    def replace_keys(self, public_keys_pem: Mapping[str, bytes]) -> None:
        keys: dict[str, Ed25519PublicKey] = {}
        for key_id, pem in public_keys_pem.items():
            key = load_pem_public_key(pem)
            if isinstance(key, Ed25519PublicKey):
                keys[key_id] = key
        self._keys = keys

    def verify(self, token: str, digest: Digest | None = None) -> ContentClaim:
        """`digest`: of what is asked for. Raises `TokenInvalid`, `TokenExpired`, `TokenForOther`."""
        try:
            key = self._keys.get(jwt.get_unverified_header(token).get("kid", ""))
            if key is None:
                raise TokenInvalid(
                    "the content token was signed by an unknown key", action="attach again for a new one"
                )
            claims = jwt.decode(
                token,
                key,
                algorithms=[_ALGORITHM],
                audience=AUDIENCE,
                # The clock is ours, not the library's: expiry is checked below.
                options={"require": ["exp", "sub", "ten", "dig"], "verify_exp": False},
            )
        except jwt.PyJWTError as error:
            raise TokenInvalid("the content token is not genuine", action="attach again for a new one") from error
        found = ContentClaim(
            bearer=str(claims["sub"]),
            idc=str(claims.get("idc", "")),
            tenant_id=str(claims["ten"]),
            digests=_digests(claims["dig"]),
            expires_at=datetime.fromtimestamp(int(claims["exp"]), tz=self._clock.now().tzinfo),
        )
        if self._clock.now() > found.expires_at + self._leeway:
            raise TokenExpired(
                f"the content token expired at {found.expires_at:%Y-%m-%dT%H:%M:%SZ}",
                action="attach again for a new one",
            )
        if digest is not None and digest not in found.digests:
            others = f" and {len(found.digests) - 1} others" if len(found.digests) > 1 else ""
            raise TokenForOther(
                f"the content token is for {found.digests[0]}{others}",
                action="use the token of the content you ask for",
            )
        return found


def _digests(said: object) -> tuple[Digest, ...]:
    """Raises `TokenInvalid`: what is signed was made by us, perhaps by a newer version."""
    texts = said if isinstance(said, list) else [said]
    if not 0 < len(texts) <= MOST_DIGESTS:
        raise TokenInvalid(f"the content token names {len(texts)} contents", action="attach again for a new one")
    try:
        return tuple(Digest.parse(str(text)) for text in texts)
    except Invalid as error:
        raise TokenInvalid("the content token names no contents", action="attach again for a new one") from error
