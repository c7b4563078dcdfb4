"""Letting images out only with the signatures that a policy demands; what is asked on every pull.

An image passes if it is signed itself or an index that lists it is: who signs an index signs what it lists, by digest.
An index passes if it is signed itself or every image of it that is here is (docs/decisions/0016). What no runtime can
run passes: signatures must be readable before anything can be verified.

Invariant: a repository without a policy costs one look-up in a dictionary; a verdict, one more. Both are kept for at
most `Recent`'s 5 seconds and dropped at once by every push or deletion in the repository and every change of a policy
made in this process. An unreadable signature is no signature; a store or database that is away is `Unavailable`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from common.clock import Clock
from common.digest import Digest
from common.errors import Failure
from control_plane.blobs import BlobStore
from control_plane.database import Database, UnitOfWork
from control_plane.registry import repository_store
from control_plane.registry.collaborators import TenantDirectory
from control_plane.registry.manifests import ParsedManifest
from control_plane.registry.model import Manifest, Repository
from control_plane.registry.participants import NoUpstreams, Participant, Upstreams
from control_plane.registry.recent import Recent
from control_plane.registry.rights import Rights
from control_plane.registry.scopes import PUSH
from control_plane.registry.signatures import store
from control_plane.registry.signatures.evidence import EvidenceReader
from control_plane.registry.signatures.failures import SignatureRequired
from control_plane.registry.signatures.model import Proof, SignaturePolicy, TrustedKey, satisfied
from control_plane.tenants.access import Principal

log = structlog.get_logger()
_REMEMBERED = 20_000
_VERDICTS = 2_000
_MOST_INDEXES = 32
_DEPTH = 3
# An index with more images than this has to be signed itself.
_MOST_CHILDREN = 64


@dataclass(slots=True)
class _Known:
    """Of one repository. `verdicts` name the policy that an image does not satisfy, or None."""

    policies: tuple[SignaturePolicy, ...]
    keys: tuple[TrustedKey, ...] = ()
    repository_id: str = ""
    verdicts: dict[Digest, SignaturePolicy | None] = field(default_factory=dict)


class SignatureGate(Participant):
    """The `PullGate`, and the participant that drops verdicts when their ground changes."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        tenants: TenantDirectory,
        clock: Clock,
        upstreams: Upstreams | None = None,
    ) -> None:
        """`upstreams` are asked for signatures of what they brought, where those that are here do not suffice."""
        self._database = database
        self._upstreams = upstreams or NoUpstreams()
        self._clock = clock
        self._rights = Rights(database, tenants, clock)
        self._known: Recent[str, _Known] = Recent(clock, _REMEMBERED)
        self.evidence = EvidenceReader(database, blobs, clock)

    async def admit(self, principal: Principal, repository: str, manifest: Manifest) -> None:
        """Raises `SignatureRequired`, `Unavailable`."""
        known = self._known.get(repository) or await self._learn(repository)
        if not known.policies:
            return
        if manifest.digest not in known.verdicts:
            verdict = await self._verdict(repository, known, manifest)
            if len(known.verdicts) >= _VERDICTS:
                known.verdicts.clear()
            known.verdicts[manifest.digest] = verdict
        broken = known.verdicts[manifest.digest]
        if broken is None:
            return
        if all(policy.pushers_may_pull for policy in known.policies) and await self._rights.permits(
            principal, repository, PUSH
        ):
            return
        raise _refusal(repository, manifest.digest, broken)

    async def look_upstream(self, repository: str, digest: Digest) -> None:
        """Before what is attached to an image is shown. Who cannot be asked hides nothing that is here."""
        try:
            await self._upstreams.bring_evidence(repository, digest)
        except Failure as failure:
            log.warning("only what is here is shown", repository=repository, failure=str(failure))

    def forget_all(self) -> None:
        """After a committed change of keys or policies."""
        # Whoever computes at this moment writes into what nobody looks at any more.
        self._known = Recent(self._clock, _REMEMBERED)

    async def _learn(self, repository: str) -> _Known:
        recent = self._known
        begun = recent.begin()
        async with self._database.reading() as connection:
            found = await store.policies_for(connection, repository)
            policies = tuple(policy for policy in found if policy.covers(repository))
            known = _Known(policies)
            if policies:
                held = await repository_store.find_repository(connection, repository)
                wanted = {key_id for policy in policies for key_id in policy.key_ids}
                known.keys = tuple(await store.keys_of(connection, policies[0].tenant_id, wanted))
                known.repository_id = "" if held is None else held.repository_id
        recent.keep(repository, known, begun)
        return known

    async def _verdict(self, repository: str, known: _Known, manifest: Manifest) -> SignaturePolicy | None:
        if await self.evidence.cannot_run(manifest.payload):
            return None
        broken = await self._broken(repository, known, await self._with_indexes(known, manifest.digest))
        if broken is None:
            return None
        async with self._database.reading() as connection:
            children = await store.held_children(connection, known.repository_id, manifest.digest, _MOST_CHILDREN + 1)
        if not children or len(children) > _MOST_CHILDREN:
            return broken
        for digest, payload in children:
            if not await self.evidence.cannot_run(payload):
                missing = await self._broken(repository, known, [digest])
                if missing is not None:
                    return missing
        return None

    async def _broken(self, repository: str, known: _Known, candidates: Sequence[Digest]) -> SignaturePolicy | None:
        """The first policy that none of the candidates satisfies by itself."""
        left = list(known.policies)
        for digest in candidates:
            if left:
                left = await self._unsatisfied(left, repository, known, digest)
        for digest in candidates:
            if left and await self._upstreams.bring_evidence(repository, digest):
                left = await self._unsatisfied(left, repository, known, digest)
        return left[0] if left else None

    async def _unsatisfied(
        self, policies: Sequence[SignaturePolicy], repository: str, known: _Known, digest: Digest
    ) -> list[SignaturePolicy]:
        proofs: Sequence[Proof] = await self.evidence.proofs(known.repository_id, digest, known.keys)
        return [policy for policy in policies if not satisfied(policy, repository, proofs)]

    async def _with_indexes(self, known: _Known, digest: Digest) -> list[Digest]:
        """The image, and the indexes whose signature covers it."""
        found, newest = [digest], [digest]
        async with self._database.reading() as connection:
            for _ in range(_DEPTH):
                above = await store.indexes_with(connection, known.repository_id, newest, _MOST_INDEXES)
                newest = [each for each in above if each not in found]
                found += newest
                if not newest:
                    break
        return found

    # What follows drops what is known of a repository once a change of it is committed.

    async def manifest_added(
        self,
        unit: UnitOfWork,
        repository: Repository,
        manifest: Manifest,
        parsed: ParsedManifest,
        by: Principal | None,
    ) -> None:
        self._forget_after(unit, repository)

    async def manifest_removing(
        self, unit: UnitOfWork, repository: Repository, digest: Digest, tags: Sequence[str], by: Principal | None
    ) -> None:
        self._forget_after(unit, repository)

    async def tag_changing(
        self,
        unit: UnitOfWork,
        repository: Repository,
        tag: str,
        before: Digest | None,
        after: Digest | None,
        by: Principal | None,
    ) -> None:
        self._forget_after(unit, repository)

    async def repository_made(self, unit: UnitOfWork, repository: Repository, by: Principal | None) -> None:
        self._forget_after(unit, repository, also_policies=True)

    async def repository_removed(self, unit: UnitOfWork, repository: Repository) -> None:
        self._forget_after(unit, repository, also_policies=True)

    def _forget_after(self, unit: UnitOfWork, repository: Repository, *, also_policies: bool = False) -> None:
        async def forget() -> None:
            # To forget disowns every reading that is under way, so a push where no policy holds forgets nothing.
            known = self._known.get(repository.name)
            if also_policies or (known is not None and known.policies):
                self._known.forget(repository.name)

        unit.after_commit(forget)


def _refusal(repository: str, digest: Digest, policy: SignaturePolicy) -> SignatureRequired:
    keys = "a trusted key" if policy.needed == 1 else f"{policy.needed} trusted keys"
    return SignatureRequired(
        f"the policy {policy.name} demands that images of {repository} are signed by {keys}, and {digest} is not",
        action="sign it, for example with `cosign sign --key`, or pull an image that is signed",
        policy=policy.name,
        policy_id=policy.policy_id,
        repository=repository,
        digest=str(digest),
    )
