"""Use cases around trusted keys and signature policies of a tenant, and showing what is attached to an image.

Invariant: every id is looked up within the tenant whose right was checked; a policy names keys of its own tenant only,
and a key that a policy names cannot be removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from common.clock import Clock
from common.digest import Digest
from common.errors import NotFound
from common.identifiers import is_id, new_id
from control_plane.database import Database, UnitOfWork
from control_plane.registry import repository_store
from control_plane.registry.access import unknown_repository
from control_plane.registry.collaborators import TenantDirectory
from control_plane.registry.failures import ManifestUnknown
from control_plane.registry.rights import Rights
from control_plane.registry.scopes import PULL
from control_plane.registry.signatures import store
from control_plane.registry.signatures.evidence import EvidenceReader
from control_plane.registry.signatures.failures import (
    KeyExists,
    KeyInUse,
    KeyInvalid,
    KeyUnknown,
    PolicyInvalid,
    PolicyNameTaken,
    PolicyUnknown,
)
from control_plane.registry.signatures.gate import SignatureGate
from control_plane.registry.signatures.keys import read_key
from control_plane.registry.signatures.model import AttachedArtifact, SignaturePolicy, TrustedKey
from control_plane.tenants.access import Permission, Principal

_MOST_KEYS = 200
_MOST_POLICIES = 100


class SignatureService:
    def __init__(
        self, database: Database, tenants: TenantDirectory, rights: Rights, gate: SignatureGate, clock: Clock
    ) -> None:
        self._database = database
        self._tenants = tenants
        self._rights = rights
        self._gate = gate
        self._evidence: EvidenceReader = gate.evidence
        self._clock = clock

    async def keys(self, principal: Principal, tenant: str) -> Sequence[TrustedKey]:
        """By name. Raises `NotFound`, `Denied`, `Unauthenticated`, as every call here."""
        owner = await self._owner(principal, tenant, Permission.TENANT_READ)
        async with self._database.reading() as connection:
            return await store.keys_of(connection, owner)

    async def add_key(self, principal: Principal, tenant: str, name: str, pem: str) -> TrustedKey:
        """Raises `KeyInvalid`, `KeyExists`."""
        owner = await self._owner(principal, tenant, Permission.TENANT_MANAGE)
        if not name.strip() or len(name) > 63 or "\x00" in name:
            raise KeyInvalid("the key has no name of 1 to 63 characters", action="give it one")
        read = read_key(pem)
        key = TrustedKey(
            key_id=new_id(self._clock),
            tenant_id=owner,
            name=name,
            kind=read.kind,
            pem=read.pem,
            fingerprint=read.fingerprint,
            created_by=principal.name,
            created_at=self._clock.now(),
        )
        async with self._database.transaction() as unit:
            if len(await store.keys_of(unit.connection, owner)) >= _MOST_KEYS:
                raise KeyInvalid(f"the tenant has {_MOST_KEYS} keys already", action="remove one")
            if not await store.add_key(unit.connection, key):
                raise KeyExists(
                    f"there is a key {name!r}, or this key under another name", action="list the keys of the tenant"
                )
        return key

    async def remove_key(self, principal: Principal, tenant: str, key_id: str) -> None:
        """Raises `KeyUnknown`, `KeyInUse`."""
        owner = await self._owner(principal, tenant, Permission.TENANT_MANAGE)
        async with self._database.transaction() as unit:
            if not (is_id(key_id) and await store.hold_key(unit.connection, owner, key_id)):
                raise KeyUnknown(f"there is no trusted key {key_id[:64]}", action="list the keys of the tenant")
            users = [each for each in await store.policies_of(unit.connection, owner) if key_id in each.key_ids]
            if users:
                raise KeyInUse(
                    f"the policy {users[0].name} needs the key {key_id}", action="change or remove the policy first"
                )
            await store.remove_key(unit.connection, owner, key_id)
        self._gate.forget_all()

    async def policies(self, principal: Principal, tenant: str) -> Sequence[SignaturePolicy]:
        """By name."""
        owner = await self._owner(principal, tenant, Permission.TENANT_READ)
        async with self._database.reading() as connection:
            return await store.policies_of(connection, owner)

    async def policy(self, principal: Principal, tenant: str, policy_id: str) -> SignaturePolicy:
        """Raises `PolicyUnknown`."""
        owner = await self._owner(principal, tenant, Permission.TENANT_READ)
        async with self._database.reading() as connection:
            found = await store.find_policy(connection, owner, policy_id) if is_id(policy_id) else None
        if found is None:
            raise _unknown_policy(policy_id)
        return found

    async def add_policy(self, principal: Principal, tenant: str, draft: SignaturePolicy) -> SignaturePolicy:
        """`draft` without ids; holds from this moment. Raises `PolicyInvalid`, `PolicyNameTaken`, `KeyUnknown`."""
        owner = await self._owner(principal, tenant, Permission.TENANT_MANAGE)
        policy = replace(draft, policy_id=new_id(self._clock), tenant_id=owner)
        policy.check()
        async with self._database.transaction() as unit:
            await self._check_keys(unit, policy)
            if len(await store.policies_of(unit.connection, owner)) >= _MOST_POLICIES:
                raise PolicyInvalid(f"the tenant has {_MOST_POLICIES} policies already", action="remove one")
            if not await store.add_policy(unit.connection, policy):
                raise PolicyNameTaken(f"there is a policy {policy.name!r} already", action="choose another name")
        self._gate.forget_all()
        return policy

    async def replace_policy(
        self, principal: Principal, tenant: str, policy_id: str, draft: SignaturePolicy
    ) -> SignaturePolicy:
        """Everything but id and name. Raises like `add_policy`, and `PolicyUnknown`."""
        owner = await self._owner(principal, tenant, Permission.TENANT_MANAGE)
        async with self._database.transaction() as unit:
            found = await store.find_policy(unit.connection, owner, policy_id) if is_id(policy_id) else None
            if found is None:
                raise _unknown_policy(policy_id)
            policy = replace(draft, policy_id=policy_id, tenant_id=owner, name=found.name)
            policy.check()
            await self._check_keys(unit, policy)
            await store.put_policy(unit.connection, policy)
        self._gate.forget_all()
        return policy

    async def remove_policy(self, principal: Principal, tenant: str, policy_id: str) -> None:
        """Raises `PolicyUnknown`."""
        owner = await self._owner(principal, tenant, Permission.TENANT_MANAGE)
        async with self._database.transaction() as unit:
            if not (is_id(policy_id) and await store.remove_policy(unit.connection, owner, policy_id)):
                raise _unknown_policy(policy_id)
        self._gate.forget_all()

    async def attachments(self, principal: Principal, repository: str, digest: Digest) -> Sequence[AttachedArtifact]:
        """Oldest first, at most `evidence.MAX_ATTACHED`; verified with every trusted key of the owning tenant. Raises
        what `Rights.require` does, `RepositoryUnknown`, `ManifestUnknown`.
        """
        await self._rights.require(principal, repository, PULL)
        async with self._database.reading() as connection:
            held = await repository_store.find_repository(connection, repository)
            if held is None:
                raise unknown_repository(repository)
            if not await store.has_manifest(connection, held.repository_id, digest):
                raise ManifestUnknown(f"{repository} has no manifest {digest}", action="check the digest")
            keys = {key.key_id: key for key in await store.keys_of(connection, held.tenant_id)}
        await self._gate.look_upstream(repository, digest)
        attached = await self._evidence.attached(held.repository_id, digest)
        signers: dict[Digest, list[TrustedKey]] = {}
        for proof in await self._evidence.proofs_in(attached, digest, list(keys.values())):
            known = signers.setdefault(proof.artifact, [])
            if keys[proof.key_id] not in known:
                known.append(keys[proof.key_id])
        return [
            AttachedArtifact(
                digest=each.digest,
                kind=artifact.kind,
                form=artifact.form,
                size_bytes=sum(layer.size for layer in artifact.layers),
                pushed_at=each.pushed_at,
                tag=each.tag,
                verified_by=tuple(signers.get(each.digest, ())),
            )
            for each, artifact in attached
        ]

    async def tenant_going(self, unit: UnitOfWork, tenant_id: str) -> str | None:
        """For `tenants`, when one is deleted: its keys and policies go with it and keep nobody from deleting it."""
        await store.forget_tenant(unit.connection, tenant_id)

        async def forget() -> None:
            self._gate.forget_all()

        unit.after_commit(forget)
        return None

    async def _check_keys(self, unit: UnitOfWork, policy: SignaturePolicy) -> None:
        held = {key.key_id for key in await store.keys_of(unit.connection, policy.tenant_id, policy.key_ids, hold=True)}
        missing = [key_id for key_id in policy.key_ids if key_id not in held]
        if missing:
            raise KeyUnknown(f"there is no trusted key {missing[0][:64]}", action="list the keys of the tenant")

    async def _owner(self, principal: Principal, tenant: str, permission: Permission) -> str:
        principal.require(permission, tenant)
        found = (await self._tenants.ids_of([tenant])).get(tenant)
        if found is None:
            raise NotFound(f"there is no tenant {tenant[:80]!r}", action="check the name with `longshore tenant list`")
        return found


def _unknown_policy(policy_id: str) -> PolicyUnknown:
    return PolicyUnknown(f"there is no signature policy {policy_id[:64]}", action="list the policies of this tenant")
