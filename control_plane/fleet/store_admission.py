"""Who may come in: the question asked at the door, inside the transaction that lets them in."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from common.errors import Denied, Failure, Unauthenticated
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
    found = (await admitted_of(connection, [peer]))[0]
    if isinstance(found, Failure):
        raise found
    return found


async def admitted_of(connection: AsyncConnection, peers: Sequence[PeerIdentity]) -> list[Member | Failure]:
    """Who each of them is, or why it may not come in: what `admitted` raises."""
    members: dict[tuple[str, str], Member] = {}
    for kind in store_members.KINDS:
        ids = {peer.name.id for peer in peers if peer.name.kind == kind}
        members |= {(kind, one.id): one for one in await store_members.find_members(connection, kind, ids)}
    revoked_serials = await store_certificates.revoked_among(connection, {peer.serial for peer in peers})
    return [
        _judged(members.get((peer.name.kind, peer.name.id)), peer, peer.serial in revoked_serials) for peer in peers
    ]


def _judged(found: Member | None, peer: PeerIdentity, serial_revoked: bool) -> Member | Failure:
    if found is None or found.idc != peer.name.idc:
        return IdentityUnknown(f"nobody here is {peer.name.uri()}", action="enrol with a new join token")
    return revoked(found.label) if found.revoked_at is not None or serial_revoked else found


def revoked(label: str) -> IdentityWasRevoked:
    return IdentityWasRevoked(f"{label} was removed from the fleet", action="enrol it again with a new join token")
