"""Certificates of tenants' swarms for tests: authorities, and credentials good and bad."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import ec

from common.bittorrent.credentials import Credentials
from common.clock import SystemClock
from common.tls import private_key_pem
from control_plane.swarm.certificates import TenantAuthority, new_tenant_authority

HOUR = timedelta(hours=1)


def authority(now: datetime | None = None) -> TenantAuthority:
    return new_tenant_authority(ec.generate_private_key(ec.SECP256R1()), now or SystemClock().now())


def credentials(
    signer: TenantAuthority, names: Sequence[str], *, life: timedelta = HOUR, now: datetime | None = None
) -> Credentials:
    """Made at `now`, good for `life` from then on; a `life` below zero is over already."""
    key = ec.generate_private_key(ec.SECP256R1())
    made_at = now or SystemClock().now()
    begins_at = made_at if life > timedelta(0) else made_at + 2 * life
    return Credentials(signer.sign(names, key.public_key(), begins_at, made_at + life), private_key_pem(key))
