"""The text that turns a new machine into a known one: `LSJOIN-1-<CA hash>-<token id>-<secret>`; pure.

The hash of the control plane's CA travels with the secret, so that first contact is not trust on first use: whoever
stands between cannot show another CA. The secret is worth one identity, once, for ten minutes.
"""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from dataclasses import dataclass

from common.errors import Invalid

_FORM = re.compile(r"LSJOIN-1-([0-9a-f]{64})-([0-9a-f]{32})-([a-z2-7]{8,128})")


class JoinTokenMalformed(Invalid):
    """What was given is no join token at all; a well-formed one may still be unknown, used or expired."""

    code = "join_token_malformed"


@dataclass(frozen=True, slots=True)
class JoinToken:
    """`ca_hash`: SHA-256 of the CA certificate's DER, hex. `id` is a UUID in canonical form."""

    ca_hash: str
    id: str
    secret: bytes

    def __str__(self) -> str:
        secret = base64.b32encode(self.secret).decode().rstrip("=").lower()
        return f"LSJOIN-1-{self.ca_hash}-{uuid.UUID(self.id).hex}-{secret}"

    def __repr__(self) -> str:  # never the secret: representations reach logs
        return f"JoinToken({self.id})"

    @classmethod
    def parse(cls, text: str) -> JoinToken:
        """Raises `JoinTokenMalformed`; the message never repeats the text, which may hold a secret."""
        found = _FORM.fullmatch(text.strip())
        try:
            if found is None:
                raise ValueError
            encoded = found[3].upper()
            secret = base64.b32decode(encoded + "=" * (-len(encoded) % 8))
        except (ValueError, binascii.Error):
            raise JoinTokenMalformed(
                "this is not a join token", action="paste the whole text that begins with LSJOIN-1-"
            ) from None
        return cls(found[1], str(uuid.UUID(found[2])), secret)
