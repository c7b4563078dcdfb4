"""HTTP for a tenant's robots and groups."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Body, Response

from control_plane.tenants.access import Permission
from control_plane.tenants.groups import GroupService
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.tenants.robot_schemas import (
    GroupBody,
    GroupView,
    NewRobotKeyView,
    RobotBody,
    RobotChangeBody,
    RobotView,
    RotationBody,
)
from control_plane.tenants.robots import RobotService
from control_plane.web.envelope import Envelope, Listing
from control_plane.web.paging import PageQuery

# Answers that carry keys must not be kept by anybody on the way.
_NO_STORE = {"Cache-Control": "no-store"}


class RobotRoutes:
    def __init__(self, robots: RobotService) -> None:
        self._robots = robots

    def add_to(self, router: APIRouter) -> None:
        every, one = "/api/v1/tenants/{name}/robots", "/api/v1/tenants/{name}/robots/{robot}"
        router.add_api_route(every, self.list, methods=["GET"], tags=["robots"])
        router.add_api_route(every, self.create, methods=["POST"], tags=["robots"], status_code=201)
        router.add_api_route(one, self.get, methods=["GET"], tags=["robots"])
        router.add_api_route(one, self.change, methods=["PATCH"], tags=["robots"])
        router.add_api_route(one, self.delete, methods=["DELETE"], tags=["robots"], status_code=204)
        router.add_api_route(f"{one}/keys", self.rotate, methods=["POST"], tags=["robots"], status_code=201)
        router.add_api_route(
            f"{one}/keys/{{key_id}}", self.end_key, methods=["DELETE"], tags=["robots"], status_code=204
        )

    async def list(self, principal: CurrentPrincipal, name: str, page: PageQuery) -> Listing[RobotView]:
        """The tenant's robots, by name."""
        principal.require(Permission.TENANT_MANAGE, name)
        return Listing[RobotView].of(await self._robots.list(principal, name, page), RobotView.of)

    async def create(
        self, principal: CurrentPrincipal, name: str, body: RobotBody, response: Response
    ) -> Envelope[NewRobotKeyView]:
        """Make a robot. Its key is shown now and never again."""
        principal.require(Permission.TENANT_MANAGE, name)
        response.headers.update(_NO_STORE)
        made = await self._robots.create(
            principal,
            name,
            body.name,
            [scope.scope() for scope in body.scopes],
            description=body.description,
            expires_at=body.expires_at,
        )
        return Envelope(data=NewRobotKeyView.made(made))

    async def get(self, principal: CurrentPrincipal, name: str, robot: str) -> Envelope[RobotView]:
        """One robot, with its keys that have not ended."""
        principal.require(Permission.TENANT_MANAGE, name)
        return Envelope(data=RobotView.of(await self._robots.get(principal, name, robot)))

    async def change(
        self, principal: CurrentPrincipal, name: str, robot: str, body: RobotChangeBody
    ) -> Envelope[RobotView]:
        """Disable or enable a robot, change what it may or until when. Counts at once, for its tokens too."""
        principal.require(Permission.TENANT_MANAGE, name)
        return Envelope(data=RobotView.of(await self._robots.change(principal, name, robot, body.change())))

    async def delete(self, principal: CurrentPrincipal, name: str, robot: str) -> None:
        """End a robot and everything that was issued to it."""
        principal.require(Permission.TENANT_MANAGE, name)
        await self._robots.delete(principal, name, robot)

    async def rotate(
        self,
        principal: CurrentPrincipal,
        name: str,
        robot: str,
        response: Response,
        body: Annotated[RotationBody | None, Body()] = None,
    ) -> Envelope[NewRobotKeyView]:
        """Make another key; the ones before end, at once or after an overlap."""
        principal.require(Permission.TENANT_MANAGE, name)
        response.headers.update(_NO_STORE)
        hours = 0 if body is None else body.overlap_hours
        overlap = None if hours is None else timedelta(hours=hours)
        return Envelope(data=NewRobotKeyView.made(await self._robots.rotate(principal, name, robot, overlap)))

    async def end_key(self, principal: CurrentPrincipal, name: str, robot: str, key_id: str) -> None:
        """End one key at once."""
        principal.require(Permission.TENANT_MANAGE, name)
        await self._robots.end_key(principal, name, robot, key_id)


class GroupRoutes:
    def __init__(self, groups: GroupService) -> None:
        self._groups = groups

    def add_to(self, router: APIRouter) -> None:
        every, one = "/api/v1/tenants/{name}/groups", "/api/v1/tenants/{name}/groups/{group}"
        member = f"{one}/members/{{username}}"
        router.add_api_route(every, self.list, methods=["GET"], tags=["groups"])
        router.add_api_route(every, self.create, methods=["POST"], tags=["groups"], status_code=201)
        router.add_api_route(one, self.delete, methods=["DELETE"], tags=["groups"], status_code=204)
        router.add_api_route(member, self.put_member, methods=["PUT"], tags=["groups"])
        router.add_api_route(member, self.remove_member, methods=["DELETE"], tags=["groups"], status_code=204)

    async def list(self, principal: CurrentPrincipal, name: str, page: PageQuery) -> Listing[GroupView]:
        """The tenant's groups with their members, by name."""
        principal.require(Permission.TENANT_READ, name)
        return Listing[GroupView].of(await self._groups.list(principal, name, page), GroupView.of)

    async def create(self, principal: CurrentPrincipal, name: str, body: GroupBody) -> Envelope[GroupView]:
        """Make a group of members of the tenant."""
        principal.require(Permission.TENANT_MANAGE, name)
        return Envelope(data=GroupView.of(await self._groups.create(principal, name, body.name)))

    async def delete(self, principal: CurrentPrincipal, name: str, group: str) -> None:
        """Remove a group; what was granted to it is granted to nobody then."""
        principal.require(Permission.TENANT_MANAGE, name)
        await self._groups.delete(principal, name, group)

    async def put_member(
        self, principal: CurrentPrincipal, name: str, group: str, username: str
    ) -> Envelope[GroupView]:
        """Put a member of the tenant into the group."""
        principal.require(Permission.TENANT_MANAGE, name)
        return Envelope(data=GroupView.of(await self._groups.put_member(principal, name, group, username)))

    async def remove_member(self, principal: CurrentPrincipal, name: str, group: str, username: str) -> None:
        """Take somebody out of the group. What was granted to it is gone for him at once."""
        principal.require(Permission.TENANT_MANAGE, name)
        await self._groups.remove_member(principal, name, group, username)
