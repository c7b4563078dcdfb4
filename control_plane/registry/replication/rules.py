"""Use cases around rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from common.clock import Clock
from common.identifiers import new_id
from control_plane.database import Database
from control_plane.registry.collaborators import TenantDirectory
from control_plane.registry.replication import access, endpoint_store, rule_store
from control_plane.registry.replication.failures import EndpointUnknown, NameTaken, RuleUnknown, TooMany
from control_plane.registry.replication.model import PLATFORM, Direction, Rule
from control_plane.registry.replication.selection import Filter, Naming
from control_plane.tenants.access import Principal
from control_plane.web.paging import Page, PageRequest

MAX_RULES = 200


@dataclass(frozen=True, slots=True)
class RulePlan:
    """`tenant` None: the platform's."""

    tenant: str | None
    name: str
    endpoint_id: str
    direction: Direction
    source: Filter
    naming: Naming = field(default_factory=Naming)
    on_event: bool = False
    every_hours: float | None = None
    cron: str | None = None
    time_zone: str = "UTC"
    also_delete: bool = False
    override: bool = True
    referrers: bool = True
    bytes_per_second: int | None = None
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class RuleChange:
    """What is absent stays. `source`, `naming` and `options` name single fields."""

    source: Mapping[str, Any] = field(default_factory=dict)
    naming: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


class RuleService:
    def __init__(self, database: Database, tenants: TenantDirectory, clock: Clock) -> None:
        self._database = database
        self._tenants = tenants
        self._clock = clock

    async def create(self, principal: Principal, plan: RulePlan) -> Rule:
        """Raises `Denied`, `NotFound`, `EndpointUnknown` (also for somebody else's), `PatternInvalid`, `CronInvalid`,
        `RuleInvalid`, `NameTaken`, `TooMany`.
        """
        owner = await access.owner_id(self._tenants, principal, plan.tenant)
        now = self._clock.now()
        rule = Rule(
            rule_id=new_id(self._clock),
            tenant_id=owner,
            tenant=plan.tenant or PLATFORM,
            name=plan.name,
            endpoint_id=plan.endpoint_id,
            direction=plan.direction,
            source=plan.source,
            naming=plan.naming,
            on_event=plan.on_event,
            every_hours=plan.every_hours,
            cron=plan.cron,
            time_zone=plan.time_zone,
            also_delete=plan.also_delete,
            override=plan.override,
            referrers=plan.referrers,
            bytes_per_second=plan.bytes_per_second,
            enabled=plan.enabled,
            created_at=now,
            created_by=principal.name,
        ).checked()
        rule = replace(rule, next_run_at=rule.first_run(now))
        async with self._database.transaction() as unit:
            endpoint = await endpoint_store.find(unit.connection, rule.endpoint_id, hold=True)
            if endpoint is None or endpoint.tenant_id != owner:
                raise EndpointUnknown(
                    f"there is no endpoint {rule.endpoint_id[:80]}", action="see `longshore replication endpoint list`"
                )
            if await rule_store.count(unit.connection, owner) >= MAX_RULES:
                raise TooMany(f"there are {MAX_RULES} rules already", action="remove one that is not needed")
            if not await rule_store.add(unit.connection, rule):
                raise NameTaken(f"there is a rule {plan.name} already", action="choose another name")
        return rule

    async def get(self, principal: Principal, rule_id: str) -> Rule:
        """Raises `RuleUnknown`, `Denied`."""
        async with self._database.reading() as connection:
            return permitted(principal, await rule_store.find(connection, rule_id), rule_id)

    async def list(self, principal: Principal, tenant: str | None, page: PageRequest) -> Page[Rule]:
        owners = access.visible(principal, tenant)
        async with self._database.reading() as connection:
            found, total = await rule_store.page(connection, owners, page.offset, page.limit)
        return Page(found, total, page)

    async def change(self, principal: Principal, rule_id: str, change: RuleChange) -> Rule:
        """Tasks that are under way go on; what begins later follows the changed rule. Raises `RuleUnknown`, `Denied`,
        `PatternInvalid`, `CronInvalid`, `RuleInvalid`.
        """
        async with self._database.transaction() as unit:
            before = permitted(principal, await rule_store.find(unit.connection, rule_id, hold=True), rule_id)
            rule = replace(
                before,
                source=replace(before.source, **change.source),
                naming=replace(before.naming, **change.naming),
                **change.options,
            ).checked()
            now = self._clock.now()
            if rule.schedule != before.schedule:
                rule = replace(rule, next_run_at=rule.scheduled(now))
            await rule_store.change(unit.connection, rule)
        return rule

    async def remove(self, principal: Principal, rule_id: str) -> None:
        """With its executions; what is under way stops. What was copied stays. Raises `RuleUnknown`, `Denied`."""
        async with self._database.transaction() as unit:
            permitted(principal, await rule_store.find(unit.connection, rule_id, hold=True), rule_id)
            await rule_store.remove(unit.connection, rule_id)


def permitted(principal: Principal, found: Rule | None, rule_id: str) -> Rule:
    """Raises `RuleUnknown`, `Denied`."""
    unknown = RuleUnknown(f"there is no rule {rule_id[:80]}", action="see `longshore replication rule list`")
    access.check(principal, None if found is None else found.tenant, unknown)
    if found is None:
        raise unknown
    return found
