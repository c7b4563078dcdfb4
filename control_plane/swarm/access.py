"""Who may read content at the centre: the bearer of a genuine token, as long as it is not revoked.

A token outlives a revocation by up to 36 hours at regionals that are cut off; at the centre a revoked host or regional
is refused within `_REMEMBERED_SECONDS`. The fleet is asked through `BearerCheck` and remembered, because one image on
1,000 hosts is tens of thousands of range requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from common.clock import Clock
from common.content_token import ContentClaim, ContentVerifier
from common.digest import Digest
from common.errors import Denied, Unauthenticated
from control_plane.swarm.tokens import ContentTokens

_REMEMBERED_SECONDS = 10.0
_REMEMBERED_BEARERS = 100_000


class BearerRevoked(Denied):
    """The host or regional was revoked after its token was signed."""

    code = "bearer_revoked"


class BearerCheck(Protocol):
    """`fleet.hosts.Members`: whether `host/<id>` or `regional/<id>` exists and is not revoked."""

    async def may_read(self, bearer: str) -> bool: ...


class ContentAccess:
    def __init__(self, tokens: ContentTokens, bearers: BearerCheck, clock: Clock) -> None:
        self._tokens = tokens
        self._bearers = bearers
        self._clock = clock
        self._verifier = ContentVerifier(clock)
        self._keys: Mapping[str, bytes] = {}
        self._answers: dict[str, tuple[float, bool]] = {}

    async def claim(self, authorization: str | None, digest: Digest) -> ContentClaim:
        """What the `Authorization` header is good for. Raises `Unauthenticated` (also `TokenInvalid`, `TokenExpired`),
        `TokenForOther`, `BearerRevoked`.
        """
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("reading content needs a content token", action="send Authorization: Bearer <token>")
        return await self.claim_of(token.strip(), digest)

    async def claim_of(self, token: str, digest: Digest | None = None) -> ContentClaim:
        """What a token is good for, of any content if `digest` is None. Raises as `claim`."""
        keys = self._tokens.verifying_keys()
        if keys is not self._keys:
            self._verifier.replace_keys(keys)
            self._keys = keys
        claim = self._verifier.verify(token, digest)
        if not await self.is_member(claim.bearer):
            raise BearerRevoked(f"{claim.bearer} was revoked", action="enrol it again with a new join token")
        return claim

    async def is_member(self, bearer: str, *, fresh: bool = False) -> bool:
        """Whether `host/<id>` or `regional/<id>` exists and was not revoked, some seconds ago or (`fresh`) by now."""
        now = self._clock.monotonic()
        known = self._answers.get(bearer)
        if known is not None and now < known[0] and not fresh:
            return known[1]
        answer = await self._bearers.may_read(bearer)
        if len(self._answers) >= _REMEMBERED_BEARERS:
            self._answers.clear()
        self._answers[bearer] = (now + _REMEMBERED_SECONDS, answer)
        return answer
