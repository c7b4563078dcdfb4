"""The authority of each tenant's swarms: made at first need, its key sealed in the database.

Invariant: every replica signs with the same authority of a tenant, whichever of them made it: the row decides. Its
certificate is part of the tenant's info-hashes, so it is never replaced.
"""

from __future__ import annotations

from typing import Protocol

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from common.errors import Internal
from common.tls import private_key_pem
from control_plane.database import Database
from control_plane.swarm import authorities_store
from control_plane.swarm.authorities_store import StoredTenantAuthority
from control_plane.swarm.certificates import TenantAuthority, new_tenant_authority

log = structlog.get_logger()


class Sealer(Protocol):
    """`control_plane.sealing.SealedBox`."""

    def seal(self, plaintext: bytes, identity: str) -> bytes: ...

    def open(self, sealed: bytes, identity: str) -> bytes: ...


class TenantAuthorityBroken(Internal):
    """What the sealed key opens to is not the key of the certificate beside it."""

    code = "tenant_authority_broken"


class SwarmAuthorities:
    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer
        self._opened: dict[str, TenantAuthority] = {}

    async def of(self, tenant_id: str) -> TenantAuthority:
        """Raises what the sealer does if the key does not open, and `TenantAuthorityBroken`."""
        known = self._opened.get(tenant_id)
        if known is not None:
            return known
        async with self._database.reading() as connection:
            stored = await authorities_store.find(connection, tenant_id)
        if stored is None:
            stored = await self._make(tenant_id)
        opened = self._opened[tenant_id] = self._open(tenant_id, stored)
        return opened

    async def certificate_of(self, tenant_id: str) -> bytes:
        """What the tenant's metainfo carries. Raises as `of`."""
        return (await self.of(tenant_id)).pem

    async def _make(self, tenant_id: str) -> StoredTenantAuthority:
        key = ec.generate_private_key(ec.SECP256R1())
        made = new_tenant_authority(key, self._database.clock.now())
        sealed = self._sealer.seal(private_key_pem(key), _place(tenant_id))
        async with self._database.transaction() as unit:
            row = StoredTenantAuthority(made.pem, sealed)
            await authorities_store.add(unit.connection, tenant_id, row, unit.clock.now())
            # Another replica may have been quicker: what is stored counts.
            stored = await authorities_store.find(unit.connection, tenant_id)
        if stored is None:
            raise Internal("a swarm authority cannot be stored", action="look at the database's log")
        log.info("swarm authority opened", tenant=tenant_id, made_here=stored == row)
        return stored

    def _open(self, tenant_id: str, stored: StoredTenantAuthority) -> TenantAuthority:
        key = load_pem_private_key(self._sealer.open(stored.sealed_key_pem, _place(tenant_id)), password=None)
        certificate = x509.load_pem_x509_certificate(stored.certificate_pem)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise TenantAuthorityBroken(
                f"the key of the swarm authority of tenant {tenant_id} is not its certificate's",
                action="restore the database",
            )
        return TenantAuthority(stored.certificate_pem, key)


def _place(tenant_id: str) -> str:
    return f"swarm_authorities/{tenant_id}"
