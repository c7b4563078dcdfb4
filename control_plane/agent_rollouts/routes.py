"""`/api/v1/agent-rollouts`: everybody who is signed in may look, the platform admin changes things."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, status

from control_plane.agent_rollouts.reading import AgentRolloutReading
from control_plane.agent_rollouts.schemas import (
    HostStandingBody,
    RolloutBody,
    RolloutShown,
    host_standing_body,
    rollout_shown,
)
from control_plane.agent_rollouts.service import AgentRolloutService
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.web.envelope import Envelope, Listing
from control_plane.web.paging import PageQuery

_Ended = Annotated[bool, Query(description="also those that are over")]


def build_router(service: AgentRolloutService, reading: AgentRolloutReading) -> APIRouter:
    router = APIRouter(prefix="/api/v1/agent-rollouts", tags=["agent rollouts"])

    @router.post("", status_code=status.HTTP_201_CREATED)
    async def begin(principal: CurrentPrincipal, body: RolloutBody) -> Envelope[RolloutShown]:
        """Have hosts run another version of the agent: a canary first, then some, then all. Instances go on."""
        return Envelope[RolloutShown](data=rollout_shown(await service.begin(principal, body.request())))

    @router.get("")
    async def listed(principal: CurrentPrincipal, page: PageQuery, ended: _Ended = False) -> Listing[RolloutShown]:
        """Newest first."""
        return Listing[RolloutShown].of(await reading.page(principal, page, ended=ended), rollout_shown)

    @router.get("/{rollout_id}")
    async def one(principal: CurrentPrincipal, rollout_id: str) -> Envelope[RolloutShown]:
        """One rollout, and why it halted if it did."""
        return Envelope[RolloutShown](data=rollout_shown(await reading.get(principal, rollout_id)))

    @router.get("/{rollout_id}/hosts")
    async def hosts(principal: CurrentPrincipal, rollout_id: str, page: PageQuery) -> Listing[HostStandingBody]:
        """The hosts that were told, wave by wave, with what they say."""
        return Listing[HostStandingBody].of(await reading.hosts(principal, rollout_id, page), host_standing_body)

    @router.post("/{rollout_id}/resume")
    async def resume(principal: CurrentPrincipal, rollout_id: str) -> Envelope[RolloutShown]:
        """Go on after it halted: hosts that failed try again."""
        return Envelope[RolloutShown](data=rollout_shown(await service.resume(principal, rollout_id)))

    @router.delete("/{rollout_id}")
    async def cancel(principal: CurrentPrincipal, rollout_id: str) -> Envelope[RolloutShown]:
        """Tell no further host. Those that were told keep what they run; to go back, begin one with the older image."""
        return Envelope[RolloutShown](data=rollout_shown(await service.cancel(principal, rollout_id)))

    return router
