"""Who may come in: the question asked at the door, inside the transaction that lets them in."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from common.errors import Denied, Unauthenticated
from control_plane.fleet import store_certificates, store_members
from control_plane.fleet.model import Member
from control_plane.rpc.peers import PeerIdentity


class IdentityUnknown(Unauthenticated):
    """The certificate is genuine, but nobody of that name is in the database."""

    code = "identity_unknown"


class IdentityWasRevoked(Denied):
    code = "identity_revoked"


async def admitted(connection: AsyncConnection, peer: PeerIdentity) -> Member:
    """Who `peer` is. Raises `IdentityUnknown`, `IdentityWasRevoked`.

    Asked anew each time and never cached: one look-up by primary key is cheap beside a TLS handshake, and a revocation
    holds from the moment it commits, on every replica.
    """
    found = await store_members.find_member(connection, peer.name.kind, peer.name.id)
    if found is None or found.idc != peer.name.idc:
        raise IdentityUnknown(f"nobody here is {peer.name.uri()}", action="enrol with a new join token")
    if found.revoked_at is not None or await store_certificates.is_revoked(connection, peer.serial):
        raise revoked(found.label)
    return found


def revoked(label: str) -> IdentityWasRevoked:
    return IdentityWasRevoked(f"{label} was removed from the fleet", action="enrol it again with a new join token")
