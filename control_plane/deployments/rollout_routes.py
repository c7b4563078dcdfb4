"""`/api/v1/deployments/{deployment}/-/...`: another image or specification, how its rollout is, and what was before.

Included before the deployments' own routes: a deployment is named by `tenant/name` too, so theirs take any longer path.
"""

from __future__ import annotations

from fastapi import APIRouter

from control_plane.deployments.reading import DeploymentReading
from control_plane.deployments.rollout_schemas import (
    HistoryBody,
    ImageBody,
    ReviseBody,
    RolloutBody,
    UndoBody,
    history_body,
    rollout_body,
)
from control_plane.deployments.rollouts import RolloutService
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.web.envelope import Envelope

_OF_ONE = "/deployments/{deployment:path}/-"


def build_router(service: RolloutService, reading: DeploymentReading) -> APIRouter:
    router = APIRouter(prefix="/api/v1", tags=["deployments"])
    _add_revising(router, service)
    _add_steering(router, service)

    @router.get(f"{_OF_ONE}/rollout")
    async def rollout(principal: CurrentPrincipal, deployment: str) -> Envelope[RolloutBody]:
        """How far the last rollout of a deployment is, and what it waits for."""
        return Envelope(data=rollout_body(await reading.get(principal, deployment)))

    @router.get(f"{_OF_ONE}/revisions")
    async def revisions(principal: CurrentPrincipal, deployment: str) -> Envelope[HistoryBody]:
        """What a deployment runs and ran: the last twenty revisions, the newest first."""
        return Envelope(data=history_body(await service.history(principal, deployment)))

    return router


def _add_revising(router: APIRouter, service: RolloutService) -> None:
    @router.put(f"{_OF_ONE}/image", status_code=202)
    async def set_image(principal: CurrentPrincipal, deployment: str, body: ImageBody) -> Envelope[RolloutBody]:
        """Another image, rolled out at a pace. The tag is resolved now; the same digests change nothing."""
        return Envelope(data=rollout_body(await service.revise(principal, deployment, body.wish())))

    @router.put(f"{_OF_ONE}/spec", status_code=202)
    async def set_spec(principal: CurrentPrincipal, deployment: str, body: ReviseBody) -> Envelope[RolloutBody]:
        """Another specification, the whole of it, and an image if one is given; rolled out at a pace."""
        return Envelope(data=rollout_body(await service.revise(principal, deployment, body.wish())))


def _add_steering(router: APIRouter, service: RolloutService) -> None:
    @router.post(f"{_OF_ONE}/rollout/pause")
    async def pause(principal: CurrentPrincipal, deployment: str) -> Envelope[RolloutBody]:
        """Tell nobody more. Who was told goes on. 409: nothing is under way."""
        return Envelope(data=rollout_body(await service.pause(principal, deployment)))

    @router.post(f"{_OF_ONE}/rollout/resume")
    async def resume(principal: CurrentPrincipal, deployment: str) -> Envelope[RolloutBody]:
        """Go on; failures until now are forgiven. 409: nothing is under way."""
        return Envelope(data=rollout_body(await service.resume(principal, deployment)))

    @router.post(f"{_OF_ONE}/rollout/undo", status_code=202)
    async def undo(principal: CurrentPrincipal, deployment: str, body: UndoBody | None = None) -> Envelope[RolloutBody]:
        """Back to a former revision, as a new one and at the same pace. 409: there is none."""
        to = None if body is None else body.to
        return Envelope(data=rollout_body(await service.undo(principal, deployment, to)))
