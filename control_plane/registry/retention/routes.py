"""HTTP for immutability rules (of tenants and of the platform) and retention policies."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, status

from control_plane.registry.retention.immutability import ImmutabilityRules
from control_plane.registry.retention.schemas import (
    DecisionView,
    ImmutabilityRuleBody,
    ImmutabilityRuleView,
    RetentionPolicyBody,
    RetentionPolicyView,
    RunView,
)
from control_plane.registry.retention.service import RetentionService
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.web.envelope import Envelope, Listing
from control_plane.web.paging import PageQuery, page_of

_RULES = "/immutability-rules"
_POLICIES = "/api/v1/tenants/{tenant}/retention-policies"
_Repository = Annotated[str | None, Query(description="only this repository", max_length=255)]


def build_router(rules: ImmutabilityRules, retention: RetentionService) -> APIRouter:
    router = APIRouter()
    _add_tenant_rules(router, rules)
    _add_platform_rules(router, rules)
    _add_policies(router, retention)
    _add_runs(router, retention)
    return router


def _add_tenant_rules(router: APIRouter, rules: ImmutabilityRules) -> None:
    path = f"/api/v1/tenants/{{tenant}}{_RULES}"

    @router.get(path, tags=["retention"])
    async def list_immutability_rules(
        principal: CurrentPrincipal, tenant: str, page: PageQuery
    ) -> Listing[ImmutabilityRuleView]:
        """Rules by which tags of the tenant neither move nor go, oldest first."""
        return Listing.of(page_of(await rules.list(principal, tenant), page), ImmutabilityRuleView.of)

    @router.post(path, status_code=status.HTTP_201_CREATED, tags=["retention"])
    async def add_immutability_rule(
        principal: CurrentPrincipal, tenant: str, body: ImmutabilityRuleBody
    ) -> Envelope[ImmutabilityRuleView]:
        """From now on a tag that matches is made once, and neither moves nor goes."""
        made = await rules.add(principal, tenant, body.repositories, body.to_model())
        return Envelope(data=ImmutabilityRuleView.of(made))

    @router.get(f"{path}/{{rule_id}}", tags=["retention"])
    async def get_immutability_rule(
        principal: CurrentPrincipal, tenant: str, rule_id: str
    ) -> Envelope[ImmutabilityRuleView]:
        """One rule of the tenant."""
        return Envelope(data=ImmutabilityRuleView.of(await rules.get(principal, tenant, rule_id)))

    @router.delete(f"{path}/{{rule_id}}", status_code=status.HTTP_204_NO_CONTENT, tags=["retention"])
    async def remove_immutability_rule(principal: CurrentPrincipal, tenant: str, rule_id: str) -> None:
        """Its tags may move and go again, unless another rule holds them."""
        await rules.remove(principal, tenant, rule_id)


def _add_platform_rules(router: APIRouter, rules: ImmutabilityRules) -> None:
    path = f"/api/v1{_RULES}"

    @router.get(path, tags=["retention"])
    async def list_platform_immutability_rules(
        principal: CurrentPrincipal, page: PageQuery
    ) -> Listing[ImmutabilityRuleView]:
        """Rules that hold in every tenant."""
        return Listing.of(page_of(await rules.list(principal, None), page), ImmutabilityRuleView.of)

    @router.post(path, status_code=status.HTTP_201_CREATED, tags=["retention"])
    async def add_platform_immutability_rule(
        principal: CurrentPrincipal, body: ImmutabilityRuleBody
    ) -> Envelope[ImmutabilityRuleView]:
        """For every tenant; `repositories` are patterns over whole names."""
        made = await rules.add(principal, None, body.repositories, body.to_model())
        return Envelope(data=ImmutabilityRuleView.of(made))

    @router.delete(f"{path}/{{rule_id}}", status_code=status.HTTP_204_NO_CONTENT, tags=["retention"])
    async def remove_platform_immutability_rule(principal: CurrentPrincipal, rule_id: str) -> None:
        """Remove a rule of the platform."""
        await rules.remove(principal, None, rule_id)


def _add_policies(router: APIRouter, retention: RetentionService) -> None:
    @router.get(_POLICIES, tags=["retention"])
    async def list_retention_policies(
        principal: CurrentPrincipal, tenant: str, page: PageQuery
    ) -> Listing[RetentionPolicyView]:
        """The tenant's, by name."""
        return Listing.of(page_of(await retention.policies(principal, tenant), page), RetentionPolicyView.of)

    @router.post(_POLICIES, status_code=status.HTTP_201_CREATED, tags=["retention"])
    async def add_retention_policy(
        principal: CurrentPrincipal, tenant: str, body: RetentionPolicyBody
    ) -> Envelope[RetentionPolicyView]:
        """Its first run comes one interval from now: time for a preview."""
        return Envelope(data=RetentionPolicyView.of(await retention.add(principal, tenant, body.to_draft())))

    @router.post(f"{_POLICIES}/-/preview", tags=["retention"])
    async def preview_retention_draft(
        principal: CurrentPrincipal,
        tenant: str,
        body: RetentionPolicyBody,
        page: PageQuery,
        repository: _Repository = None,
    ) -> Listing[DecisionView]:
        """What a run of this policy would do now with every image, and why. Stores and deletes nothing."""
        return Listing.of(
            await retention.preview(principal, tenant, body.to_draft(), repository, page), DecisionView.of
        )

    @router.get(f"{_POLICIES}/{{policy_id}}", tags=["retention"])
    async def get_retention_policy(
        principal: CurrentPrincipal, tenant: str, policy_id: str
    ) -> Envelope[RetentionPolicyView]:
        """One policy of the tenant."""
        return Envelope(data=RetentionPolicyView.of(await retention.policy(principal, tenant, policy_id)))

    @router.put(f"{_POLICIES}/{{policy_id}}", tags=["retention"])
    async def replace_retention_policy(
        principal: CurrentPrincipal, tenant: str, policy_id: str, body: RetentionPolicyBody
    ) -> Envelope[RetentionPolicyView]:
        """Everything but its name; the next run comes one interval from now."""
        changed = await retention.replace(principal, tenant, policy_id, body.to_draft())
        return Envelope(data=RetentionPolicyView.of(changed))

    @router.delete(f"{_POLICIES}/{{policy_id}}", status_code=status.HTTP_204_NO_CONTENT, tags=["retention"])
    async def remove_retention_policy(principal: CurrentPrincipal, tenant: str, policy_id: str) -> None:
        """With its history."""
        await retention.remove(principal, tenant, policy_id)


def _add_runs(router: APIRouter, retention: RetentionService) -> None:
    runs = f"{_POLICIES}/{{policy_id}}/runs"

    @router.get(f"{_POLICIES}/{{policy_id}}/preview", tags=["retention"])
    async def preview_retention_policy(
        principal: CurrentPrincipal, tenant: str, policy_id: str, page: PageQuery, repository: _Repository = None
    ) -> Listing[DecisionView]:
        """What a run would do now with every image, and why. Deletes nothing."""
        return Listing.of(await retention.preview(principal, tenant, policy_id, repository, page), DecisionView.of)

    @router.get(runs, tags=["retention"])
    async def list_retention_runs(
        principal: CurrentPrincipal, tenant: str, policy_id: str, page: PageQuery
    ) -> Listing[RunView]:
        """Newest first, with what each deleted and kept."""
        return Listing.of(await retention.runs(principal, tenant, policy_id, page), RunView.of)

    @router.post(runs, status_code=status.HTTP_202_ACCEPTED, tags=["retention"])
    async def start_retention_run(principal: CurrentPrincipal, tenant: str, policy_id: str) -> Envelope[RunView]:
        """In the background; one that has not ended yet is answered with instead of a second."""
        return Envelope(data=RunView.of(await retention.start(principal, tenant, policy_id)))

    @router.post(f"{runs}/{{run_id}}/cancel", tags=["retention"])
    async def cancel_retention_run(
        principal: CurrentPrincipal, tenant: str, policy_id: str, run_id: str
    ) -> Envelope[RunView]:
        """It deletes nothing more; what it deleted stays deleted."""
        return Envelope(data=RunView.of(await retention.cancel(principal, tenant, policy_id, run_id)))
