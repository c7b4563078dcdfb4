"""Certificates for peers of TLS swarms: who may have which, and for how long.

A host gets the names of the contents that it means and shows tokens for. A regional gets `*` of the tenant, because it
seeds whatever its IDC ordered, for any token of the tenant that was made for its IDC. Invariant: nothing is signed but
for a process that proved its identity, is not revoked, and shows a living token; no certificate outlives `life` or its
tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from common.bittorrent.credentials import EVERY_NAME
from common.clock import Clock
from common.content_token import ContentClaim
from common.errors import Denied, Failure, Invalid
from common.swarm_certificate import MAXIMUM_NAMES, CertificateRequest, CertificateRequestInvalid
from common.tls import Name
from control_plane.fleet.certificates import requested_key
from control_plane.swarm.access import BearerRevoked, ContentAccess
from control_plane.swarm.authorities import SwarmAuthorities

log = structlog.get_logger()


class NoSwarmRight(Denied):
    """No token of the request is good for whoever signed it."""

    code = "no_swarm_right"


class TenantsMixed(Invalid):
    """A certificate is of one tenant's authority; the tokens are of several."""

    code = "tenants_mixed"


@dataclass(frozen=True, slots=True)
class Minted:
    pem: bytes
    tenant_id: str
    names: tuple[str, ...]
    ends_at: datetime


class CertificateMint:
    """`fleet_authority`: the certificate that identities of hosts and regionals are signed by."""

    def __init__(
        self,
        access: ContentAccess,
        authorities: SwarmAuthorities,
        fleet_authority: x509.Certificate,
        clock: Clock,
        life: timedelta,
    ) -> None:
        self._access = access
        self._authorities = authorities
        self._fleet_authority = fleet_authority
        self._clock = clock
        self._life = life

    async def mint(self, request: CertificateRequest) -> Minted:
        """Tokens that are not good for the asker are left out. Raises `IdentityUnproven`, `CertificateRequestInvalid`,
        `TenantsMixed`; if no token is good, what is wrong with the first.
        """
        now = self._clock.now()
        asker = request.asker(self._fleet_authority, now)
        if not await self._access.is_member(f"{asker.kind}/{asker.id}", fresh=True):
            raise BearerRevoked(f"{asker.kind}/{asker.id} was revoked", action="enrol it again with a new join token")
        key = requested_key(request.csr_pem)
        claims = await self._claims(asker, request.tokens)
        tenants = {claim.tenant_id for claim in claims}
        if len(tenants) > 1:
            raise TenantsMixed("the tokens are of several tenants", action="ask once for each tenant")
        names, ends_at = _scope(asker, claims, request.names)
        return await self._sign(asker, tenants.pop(), names, key, now, min(ends_at, now + self._life))

    async def _claims(self, asker: Name, tokens: Sequence[str]) -> list[ContentClaim]:
        good: list[ContentClaim] = []
        refused: Failure | None = None
        for token in dict.fromkeys(tokens):
            try:
                claim = await self._access.claim_of(token)
                if not _may_use(asker, claim) or claim.expires_at <= self._clock.now():
                    raise NoSwarmRight(f"a token of {claim.bearer} is nothing for {asker.kind}/{asker.id}")
                good.append(claim)
            except Failure as failure:
                refused = refused or failure
        if not good:
            raise refused or NoSwarmRight("the request has no tokens")
        return good

    async def _sign(
        self,
        asker: Name,
        tenant_id: str,
        names: tuple[str, ...],
        key: ec.EllipticCurvePublicKey,
        now: datetime,
        ends_at: datetime,
    ) -> Minted:
        authority = await self._authorities.of(tenant_id)
        pem = authority.sign(names, key, now, ends_at)
        bearer = f"{asker.kind}/{asker.id}"
        log.info("swarm certificate signed", bearer=bearer, tenant=tenant_id, names=len(names), ends_at=ends_at)
        return Minted(pem, tenant_id, names, ends_at)


def _may_use(asker: Name, claim: ContentClaim) -> bool:
    """A regional may also show the tokens of hosts that asked it for a content."""
    own = claim.bearer == f"{asker.kind}/{asker.id}"
    return own or (asker.kind == "regional" and claim.idc == asker.idc)


def _scope(asker: Name, claims: Sequence[ContentClaim], meant: Sequence[str]) -> tuple[tuple[str, ...], datetime]:
    if asker.kind == "regional":
        return (EVERY_NAME,), max(claim.expires_at for claim in claims)
    names = {digest.hex for claim in claims for digest in claim.digests}
    if meant:
        names.intersection_update(meant)
        if not names:
            raise NoSwarmRight("the tokens of the request are for none of its names")
    if len(names) > MAXIMUM_NAMES:
        raise CertificateRequestInvalid(f"the tokens are for {len(names)} contents", action="name those that are meant")
    return tuple(sorted(names)), min(claim.expires_at for claim in claims)
