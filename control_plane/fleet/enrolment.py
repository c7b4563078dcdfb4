"""How a stranger becomes a member, and how a member stays one: join token and certificates, in one transaction each.

Invariant: a certificate is recorded before it leaves the process, so whatever is out there can be revoked. Nothing is
spent and nothing changes unless the whole request is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from common.clock import Clock
from common.errors import Conflict, Denied
from common.identifiers import new_id
from common.join_token import JoinToken
from common.tls import IdentityKind, Name
from control_plane.database import Database, UnitOfWork
from control_plane.fleet import store_certificates, store_idcs, store_join_tokens, store_members
from control_plane.fleet.authority import Authority
from control_plane.fleet.certificates import Issued, requested_key
from control_plane.fleet.join_tokens import check_spendable
from control_plane.fleet.messages import MemberEnrolled, SessionReplaced
from control_plane.fleet.model import Member, Regional, StoredJoinToken, check_addresses, check_name
from control_plane.fleet.store_admission import admitted
from control_plane.rpc.peers import PeerIdentity, key_hash

log = structlog.get_logger()

_VERSION_LENGTH = 64


class NameTaken(Conflict):
    """Another machine has this name, and the token does not speak for it."""

    code = "name_taken"


@dataclass(frozen=True, slots=True)
class Application:
    """What a stranger says. `kind` may be empty; the token decides."""

    join_token: str
    csr_pem: bytes
    name: str
    addresses: Sequence[str]
    version: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Enrolled:
    identity_id: str
    name: str
    idc: str
    issued: Issued


class Enrolment:
    def __init__(self, database: Database, authority: Authority, clock: Clock) -> None:
        self._database = database
        self._authority = authority
        self._clock = clock

    @property
    def ca_pem(self) -> bytes:
        return self._authority.ca_pem

    async def enrol(self, wanted: Application) -> Enrolled:
        """Spend a join token. Repeating it with the same key within the token's life gives the same identity again.

        Raises `JoinTokenMalformed`, `RequestInvalid`, `AddressInvalid`, `NameInvalid`, `NameTaken`, and what
        `check_spendable` raises.
        """
        shown = JoinToken.parse(wanted.join_token)
        key = requested_key(wanted.csr_pem)
        addresses = check_addresses(wanted.addresses)
        async with self._database.transaction() as unit:
            token = check_spendable(
                await store_join_tokens.find_token(unit.connection, shown.id),
                shown,
                self._authority.ca_hash,
                key_hash(key),
                wanted.kind,
                self._clock.now(),
            )
            reported = _reported(token.kind, wanted.version, addresses)
            member_id, name = await self._member_of(unit, token, wanted.name, key_hash(key), reported)
            identity = Name(token.idc, token.kind, member_id)
            issued = self._authority.issue(identity, key, addresses if token.kind == "regional" else ())
            await store_certificates.record(unit.connection, token.kind, member_id, issued)
            await store_join_tokens.mark_used(
                unit.connection, token.id, issued.key_hash, member_id, token.used_at or self._clock.now()
            )
            await unit.announce(MemberEnrolled(token.kind, member_id))
        log.info("member enrolled", kind=token.kind, idc=token.idc, name=name, id=member_id, join_token=token.id)
        return Enrolled(member_id, name, token.idc, issued)

    async def renew(self, peer: PeerIdentity, csr_pem: bytes, addresses: Sequence[str]) -> Issued:
        """A fresh certificate for who `peer` is. No addresses: those known. Raises `RequestInvalid`,
        `AddressInvalid`, and what `admitted` raises.
        """
        key = requested_key(csr_pem)
        given = check_addresses(addresses)
        async with self._database.transaction() as unit:
            member = await admitted(unit.connection, peer)
            known: Sequence[str] = ()
            if isinstance(member, Regional):
                known = given or member.addresses
                if tuple(known) != tuple(member.addresses):
                    await store_members.change(unit.connection, "regional", member.id, addresses=list(known))
            issued = self._authority.issue(peer.name, key, known)
            await store_certificates.record(unit.connection, peer.name.kind, member.id, issued)
        log.info("certificate renewed", member=member.label, expires_at=issued.expires_at.isoformat())
        return issued

    async def _member_of(
        self, unit: UnitOfWork, token: StoredJoinToken, wished: str, key: str, reported: dict[str, Any]
    ) -> tuple[str, str]:
        """Id and name of who the token makes the caller: somebody new, or somebody known who comes again."""
        if token.identity_id is not None:
            known = await store_members.find_member(unit.connection, token.kind, token.identity_id, locked=True)
            if known is None or known.revoked_at is not None:
                raise Denied(f"the {token.kind} was removed", action="make a new join token")
            await store_members.change(unit.connection, token.kind, known.id, **reported)
            return known.id, known.name
        name = check_name(token.name or wished, f"a {token.kind}")
        # One after the other in an IDC: of two that wish for one name at once, the second sees the first.
        await store_idcs.find_idc(unit.connection, token.idc, locked=True)
        holder = await store_members.find_by_name(unit.connection, token.kind, token.idc, name)
        if holder is not None and holder.revoked_at is None:
            return await self._again(unit, token, holder, key, reported), name
        if holder is not None:
            # The name is free again; the row stays for history under a name that nobody can wish for.
            await store_members.change(unit.connection, token.kind, holder.id, name=f"{holder.name}~{holder.id}")
        new = new_id(self._clock)
        await store_members.insert_member(
            unit.connection, token.kind, new, token.idc_id, name, self._clock.now(), reported
        )
        return new, name

    async def _again(
        self, unit: UnitOfWork, token: StoredJoinToken, holder: Member, key: str, reported: dict[str, Any]
    ) -> str:
        """The same machine (its key shows it), or one that an operator named: it takes the place over, and whoever
        had it is out.
        """
        same_machine = await store_certificates.has_key(unit.connection, token.kind, holder.id, key)
        if token.name is None and not same_machine:
            raise NameTaken(
                f"there is a {holder.label} already",
                action=f"choose another name, or make a join token with --name {holder.name} to replace it",
            )
        if not same_machine:
            await store_certificates.revoke_all(unit.connection, token.kind, holder.id, self._clock.now())
            reported = {**reported, "session_id": None}
            await unit.announce(SessionReplaced(token.kind, holder.id, ""))
        await store_members.change(unit.connection, token.kind, holder.id, **reported)
        return holder.id


def _reported(kind: IdentityKind, version: str, addresses: Sequence[str]) -> dict[str, Any]:
    reported: dict[str, Any] = {"version": version[:_VERSION_LENGTH]}
    return reported | {"addresses": list(addresses)} if kind == "regional" else reported
