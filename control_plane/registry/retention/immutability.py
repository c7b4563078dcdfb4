"""Tags that may be made once: the rules, and the participant that holds everybody to them.

Invariant: the rules are read in the transaction that would move or delete the tag, so no cache can be behind, and
whoever asks (a person, a job, retention, replication) meets the same answer. Making a new tag and pushing again what it
names already are always allowed, and cost nothing. A rule id counts only within its own tenant (Harbor's
CVE-2022-31669 was this check missing).
"""

from __future__ import annotations

from collections.abc import Sequence

from common.clock import Clock
from common.digest import Digest
from common.identifiers import is_id, new_id
from control_plane.database import Database, UnitOfWork
from control_plane.registry.collaborators import TenantDirectory
from control_plane.registry.model import Repository
from control_plane.registry.participants import Participant
from control_plane.registry.retention import store
from control_plane.registry.retention.access import TenantNamed, owner_of
from control_plane.registry.retention.failures import RuleInvalid, RuleUnknown, TagImmutable
from control_plane.registry.retention.model import PLATFORM, ImmutabilityRule, TagSelector
from control_plane.tenants.access import Permission, Principal

_MOST_RULES = 200


class Immutability(Participant):
    def __init__(self) -> None:
        """It has no state: the rules are rows."""

    async def tag_changing(
        self,
        unit: UnitOfWork,
        repository: Repository,
        tag: str,
        before: Digest | None,
        after: Digest | None,
        by: Principal | None,
    ) -> None:
        if before is None:
            return
        rules = await store.rules_of(unit.connection, repository.tenant_id, with_platform=True)
        rule = next((each for each in rules if each.holds(repository.name, tag)), None)
        if rule is None:
            return
        whose = "the platform's rule" if rule.tenant_id == PLATFORM else "the rule"
        raise TagImmutable(
            f"the tag {tag} of {repository.name} is immutable by {whose} {rule.rule_id}",
            action="push under another tag" if after is not None else "remove the rule first",
            rule=rule.rule_id,
            repository=repository.name,
            tag=tag,
        )


class ImmutabilityRules:
    """Use cases around the rules. `tenant` None means those of the platform."""

    def __init__(self, database: Database, tenants: TenantDirectory, clock: Clock) -> None:
        self._database = database
        self._tenants = tenants
        self._clock = clock

    async def list(self, principal: Principal, tenant: TenantNamed) -> Sequence[ImmutabilityRule]:
        """Oldest first. Raises `NotFound`, `Denied`, `Unauthenticated`."""
        owner = await owner_of(self._tenants, principal, tenant, Permission.TENANT_READ)
        async with self._database.reading() as connection:
            return await store.rules_of(connection, owner)

    async def get(self, principal: Principal, tenant: TenantNamed, rule_id: str) -> ImmutabilityRule:
        """Raises `RuleUnknown` also for another tenant's."""
        owner = await owner_of(self._tenants, principal, tenant, Permission.TENANT_READ)
        async with self._database.reading() as connection:
            found = await store.find_rule(connection, owner, rule_id) if is_id(rule_id) else None
        if found is None:
            raise _unknown(rule_id)
        return found

    async def add(
        self, principal: Principal, tenant: TenantNamed, repositories: Sequence[str], selector: TagSelector
    ) -> ImmutabilityRule:
        """Raises `RuleInvalid`, `PatternInvalid`. Tags that exist are held from now on."""
        owner = await owner_of(self._tenants, principal, tenant, Permission.TENANT_MANAGE)
        rule = ImmutabilityRule(
            new_id(self._clock), owner, tuple(repositories), selector, principal.name, self._clock.now()
        )
        rule.check()
        async with self._database.transaction() as unit:
            if len(await store.rules_of(unit.connection, owner)) >= _MOST_RULES:
                raise RuleInvalid(f"there are {_MOST_RULES} rules already", action="remove one, or join patterns")
            await store.add_rule(unit.connection, rule)
        return rule

    async def remove(self, principal: Principal, tenant: TenantNamed, rule_id: str) -> None:
        """Raises `RuleUnknown` also for another tenant's."""
        owner = await owner_of(self._tenants, principal, tenant, Permission.TENANT_MANAGE)
        async with self._database.transaction() as unit:
            if not (is_id(rule_id) and await store.remove_rule(unit.connection, owner, rule_id)):
                raise _unknown(rule_id)


def _unknown(rule_id: str) -> RuleUnknown:
    return RuleUnknown(f"there is no immutability rule {rule_id[:64]}", action="list the rules of this tenant")
