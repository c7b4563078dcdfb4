"""Content tokens for messages to hosts and regionals (common/content_token.py says what they are).

Invariant: within one 12-hour window the same question gives the same token: the expiry is the window's start plus 36
hours, and Ed25519 is deterministic (RFC 8032). So two snapshots of one generation are equal, and a fresh token always
lives 24 to 36 hours: longer than any disconnection that a host shall survive without asking.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from common.clock import Clock
from common.content_token import ContentClaim, sign
from common.digest import Digest
from control_plane.swarm.keys import ContentKeys

Mint = Callable[[Sequence[Digest]], str]

WINDOW = timedelta(hours=12)
LIFE = timedelta(hours=36)
# Signing takes about 0.04 ms; 1,000 hosts with 20 instances have 20,000 tokens, asked for again at every change.
_REMEMBERED = 200_000


class ContentTokens:
    """Mints tokens and remembers those of the current window."""

    def __init__(self, keys: ContentKeys, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock
        self._minted: dict[tuple[str, str, str, tuple[Digest, ...]], str] = {}
        self._minted_for: tuple[datetime, str] | None = None

    def mint(self, bearer: str, idc: str, tenant_id: str, digest: Digest) -> str:
        """`bearer`: `host/<id>` or `regional/<id>`; `idc`: the name of the IDC it stands in."""
        return self.minting(bearer, idc, tenant_id)((digest,))

    def minting(self, bearer: str, idc: str, tenant_id: str) -> Mint:
        """`mint` for one bearer and one tenant's contents, up to `content_token.MOST_DIGESTS` with each token, with the
        key and the window of now: for one message.
        """
        key = self._keys.signing()
        start = window_start(self._clock.now())
        if self._minted_for != (start, key.key_id) or len(self._minted) >= _REMEMBERED:
            self._minted, self._minted_for = {}, (start, key.key_id)
        minted, expires_at = self._minted, start + LIFE

        def mint(digests: Sequence[Digest]) -> str:
            question = (bearer, idc, tenant_id, tuple(digests))
            token = minted.get(question)
            if token is None:
                claim = ContentClaim(bearer, idc, tenant_id, question[3], expires_at)
                token = minted[question] = sign(claim, key.key_id, key.private)
            return token

        return mint

    def verifying_keys(self) -> Mapping[str, bytes]:
        """Public keys in PEM by key id, for Welcome and for our own routes."""
        return self._keys.verifying()


def window_start(now: datetime) -> datetime:
    """The last 00:00 or 12:00 UTC."""
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day + WINDOW * ((now - day) // WINDOW)
