"""`/api/v1/replication`: other registries, rules that copy to and from them, and what became of it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, status

from control_plane.registry.replication.assembly import Replication
from control_plane.registry.replication.execution_schemas import ExecutionView, TaskView
from control_plane.registry.replication.model import State
from control_plane.registry.replication.schemas import (
    Credentials,
    EndpointBody,
    EndpointView,
    RuleBody,
    RuleUpdate,
    RuleView,
)
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.web.envelope import Envelope, Listing
from control_plane.web.paging import PageQuery

_Tenant = Annotated[str | None, Query(description="only this tenant's", max_length=255)]


def build_router(replication: Replication) -> APIRouter:
    router = APIRouter(prefix="/api/v1/replication", tags=["replication"])
    _add_endpoints(router, replication)
    _add_rules(router, replication)
    _add_executions(router, replication)
    return router


def _add_endpoints(router: APIRouter, replication: Replication) -> None:
    endpoints = replication.endpoints

    @router.get("/endpoints")
    async def list_endpoints(
        principal: CurrentPrincipal, page: PageQuery, tenant: _Tenant = None
    ) -> Listing[EndpointView]:
        """Those that one administers, in order of owner and name."""
        return Listing.of(await endpoints.list(principal, tenant, page), EndpointView.of)

    @router.post("/endpoints", status_code=status.HTTP_201_CREATED)
    async def create_endpoint(principal: CurrentPrincipal, body: EndpointBody) -> Envelope[EndpointView]:
        """Name another registry. The password is kept sealed and never shown."""
        return Envelope(data=EndpointView.of(await endpoints.create(principal, body.to_plan())))

    @router.get("/endpoints/{endpoint_id}")
    async def get_endpoint(principal: CurrentPrincipal, endpoint_id: str) -> Envelope[EndpointView]:
        """One registry, and what its last check said."""
        return Envelope(data=EndpointView.of(await endpoints.get(principal, endpoint_id)))

    @router.put("/endpoints/{endpoint_id}/credentials")
    async def set_credentials(
        principal: CurrentPrincipal, endpoint_id: str, body: Credentials
    ) -> Envelope[EndpointView]:
        """Others from now on; both empty: none. For another address, make another endpoint."""
        password = body.password.get_secret_value()
        changed = await endpoints.set_credentials(principal, endpoint_id, body.username, password)
        return Envelope(data=EndpointView.of(changed))

    @router.post("/endpoints/{endpoint_id}/check")
    async def check_endpoint(principal: CurrentPrincipal, endpoint_id: str) -> Envelope[EndpointView]:
        """Ask the registry whether it lets us in; `healthy` and `trouble` say what came of it."""
        return Envelope(data=EndpointView.of(await endpoints.check(principal, endpoint_id)))

    @router.delete("/endpoints/{endpoint_id}", status_code=status.HTTP_204_NO_CONTENT)
    async def remove_endpoint(principal: CurrentPrincipal, endpoint_id: str) -> None:
        """Only while no rule names it."""
        await endpoints.remove(principal, endpoint_id)


def _add_rules(router: APIRouter, replication: Replication) -> None:
    rules, executions = replication.rules, replication.executions

    @router.get("/rules")
    async def list_rules(principal: CurrentPrincipal, page: PageQuery, tenant: _Tenant = None) -> Listing[RuleView]:
        """Those that one administers, in order of owner and name."""
        return Listing.of(await rules.list(principal, tenant, page), RuleView.of)

    @router.post("/rules", status_code=status.HTTP_201_CREATED)
    async def create_rule(principal: CurrentPrincipal, body: RuleBody) -> Envelope[RuleView]:
        """What is copied, where it goes, and when."""
        return Envelope(data=RuleView.of(await rules.create(principal, body.to_plan())))

    @router.get("/rules/{rule_id}")
    async def get_rule(principal: CurrentPrincipal, rule_id: str) -> Envelope[RuleView]:
        """One rule."""
        return Envelope(data=RuleView.of(await rules.get(principal, rule_id)))

    @router.patch("/rules/{rule_id}")
    async def change_rule(principal: CurrentPrincipal, rule_id: str, body: RuleUpdate) -> Envelope[RuleView]:
        """What begins later follows the changed rule."""
        return Envelope(data=RuleView.of(await rules.change(principal, rule_id, body.to_change())))

    @router.delete("/rules/{rule_id}", status_code=status.HTTP_204_NO_CONTENT)
    async def remove_rule(principal: CurrentPrincipal, rule_id: str) -> None:
        """With the record of its executions. What was copied stays."""
        await rules.remove(principal, rule_id)

    @router.post("/rules/{rule_id}/run", status_code=status.HTTP_202_ACCEPTED)
    async def run_rule(principal: CurrentPrincipal, rule_id: str) -> Envelope[ExecutionView]:
        """Copy all that the rule takes; a run that is under way is joined."""
        return Envelope(data=ExecutionView.of(await executions.start(principal, rule_id)))


def _add_executions(router: APIRouter, replication: Replication) -> None:
    executions = replication.executions

    @router.get("/executions")
    async def list_executions(
        principal: CurrentPrincipal,
        page: PageQuery,
        tenant: _Tenant = None,
        rule_id: Annotated[str | None, Query(max_length=64)] = None,
    ) -> Listing[ExecutionView]:
        """The newest first."""
        return Listing.of(await executions.list(principal, tenant, rule_id, page), ExecutionView.of)

    @router.get("/executions/{execution_id}")
    async def get_execution(principal: CurrentPrincipal, execution_id: str) -> Envelope[ExecutionView]:
        """How it stands."""
        return Envelope(data=ExecutionView.of(await executions.get(principal, execution_id)))

    @router.get("/executions/{execution_id}/tasks")
    async def list_tasks(
        principal: CurrentPrincipal,
        execution_id: str,
        page: PageQuery,
        state: Annotated[State | None, Query()] = None,
    ) -> Listing[TaskView]:
        """What it copies, tag by tag."""
        return Listing.of(await executions.tasks(principal, execution_id, state, page), TaskView.of)

    @router.post("/executions/{execution_id}/stop", status_code=status.HTTP_202_ACCEPTED)
    async def stop_execution(principal: CurrentPrincipal, execution_id: str) -> Envelope[ExecutionView]:
        """Nothing more begins; what is under way ends soon, and what was copied stays."""
        return Envelope(data=ExecutionView.of(await executions.stop(principal, execution_id)))
