"""What a regional that is read as a registry may fetch for somebody, and therefore serve: asked with the asker's own
registry token (control_plane/registry/rights.py decides), answered with content tokens for that regional.

Invariant: a token is minted only for a content that the very repository holds and the asker may pull from it; a
manifest's word is not enough, for it may name what is somebody else's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from common.digest import Digest
from common.errors import Denied, Invalid
from common.reference import check_repository_name
from control_plane.registry.service import RegistryService
from control_plane.swarm.access import BearerCheck, BearerRevoked
from control_plane.swarm.tokens import ContentTokens
from control_plane.tenants.access import ANONYMOUS, Principal

MOST_DIGESTS = 1000


class TooManyDigests(Invalid):
    code = "too_many_digests"


class RegistryTokenVerifier(Protocol):
    """`tenants.RegistryTokens`."""

    async def verify(self, token: str) -> Principal: ...


@dataclass(frozen=True, slots=True)
class EdgeRights:
    """`sizes` and `tokens` have the same digests. `public`: everybody may pull the repository."""

    tenant_id: str
    sizes: Mapping[Digest, int]
    tokens: Mapping[Digest, str]
    public: bool


class PullRights:
    def __init__(
        self,
        registry: RegistryService,
        registry_tokens: RegistryTokenVerifier,
        content_tokens: ContentTokens,
        bearers: BearerCheck,
    ) -> None:
        self._registry = registry
        self._registry_tokens = registry_tokens
        self._content_tokens = content_tokens
        self._bearers = bearers

    async def ask(
        self, bearer: str, idc: str, registry_token: str, repository: str, digests: Sequence[Digest]
    ) -> EdgeRights:
        """`bearer`: `regional/<id>`, genuine. Raises `BearerRevoked`, `NameInvalid`, `TooManyDigests`, and what
        `Rights.require` and the token refuse with.
        """
        if not bearer.startswith("regional/"):
            raise Denied(f"{bearer} is no regional", action="call its own service")
        if not await self._bearers.may_read(bearer):
            raise BearerRevoked(f"{bearer} was revoked", action="enrol it again with a new join token")
        if len(digests) > MOST_DIGESTS:
            raise TooManyDigests(f"{len(digests)} digests in one question", action=f"ask for {MOST_DIGESTS} at most")
        check_repository_name(repository)
        principal = await self._registry_tokens.verify(registry_token) if registry_token else ANONYMOUS
        tenant_id, sizes = await self._registry.contents.linked(principal, repository, digests)
        tokens = {digest: self._content_tokens.mint(bearer, idc, tenant_id, digest) for digest in sizes}
        return EdgeRights(tenant_id, sizes, tokens, await self._registry.contents.public(repository))
