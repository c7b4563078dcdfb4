"""Wire models of robots and groups. No answer shows a secret, except the ones that are made by the very request."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from control_plane.tenants.access import RobotScope
from control_plane.tenants.model import Group
from control_plane.tenants.robot_model import MAX_ROBOT_SCOPES, Robot, RobotKey
from control_plane.tenants.robots import NewRobotKey, RobotChange
from control_plane.tenants.schemas import Label

ShortName = Annotated[str, StringConstraints(min_length=1, max_length=64)]
_OVERLAP_HOURS = 24 * 30


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RobotScopeBody(_Body):
    repository: Annotated[
        str, StringConstraints(min_length=3, max_length=255), Field(description="a name; * stands for any characters")
    ]
    actions: Annotated[list[Literal["pull", "push", "delete"]], Field(min_length=1, max_length=3)]

    def scope(self) -> RobotScope:
        return RobotScope(self.repository, frozenset(self.actions))


Scopes = Annotated[list[RobotScopeBody], Field(min_length=1, max_length=MAX_ROBOT_SCOPES)]


class RobotBody(_Body):
    name: ShortName
    description: Label = ""
    scopes: Scopes
    expires_at: AwareDatetime | None = None


class RobotChangeBody(_Body):
    """What is absent stays; `expires_at: null` takes the expiry away."""

    description: Label | None = None
    scopes: Scopes | None = None
    disabled: bool | None = None
    expires_at: AwareDatetime | None = None

    def change(self) -> RobotChange:
        return RobotChange(
            description=self.description,
            scopes=None if self.scopes is None else [scope.scope() for scope in self.scopes],
            disabled=self.disabled,
            expires_at=self.expires_at,
            never_expires="expires_at" in self.model_fields_set and self.expires_at is None,
        )


class RotationBody(_Body):
    overlap_hours: Annotated[
        float | None,
        Field(ge=0, le=_OVERLAP_HOURS, description="how long the keys before go on working; null leaves them"),
    ] = 0


class RobotKeyView(BaseModel):
    id: str
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    last_used_at: AwareDatetime | None

    @classmethod
    def of(cls, key: RobotKey) -> RobotKeyView:
        return cls(id=key.id, created_at=key.created_at, expires_at=key.expires_at, last_used_at=key.last_used_at)


class RobotView(BaseModel):
    name: str
    login: Annotated[str, Field(description="the user name for `docker login`")]
    description: str
    scopes: list[RobotScopeBody]
    disabled: bool
    created_by: str
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    last_used_at: AwareDatetime | None
    keys: list[RobotKeyView]

    @classmethod
    def of(cls, robot: Robot) -> RobotView:
        return cls(
            name=robot.name,
            login=robot.login,
            description=robot.description,
            scopes=[
                RobotScopeBody.model_validate({"repository": scope.pattern, "actions": sorted(scope.actions)})
                for scope in robot.scopes
            ],
            disabled=robot.disabled,
            created_by=robot.created_by,
            created_at=robot.created_at,
            expires_at=robot.expires_at,
            last_used_at=robot.last_used_at,
            keys=[RobotKeyView.of(key) for key in robot.keys],
        )


class NewRobotKeyView(RobotView):
    key: Annotated[str, Field(description="the key itself: shown now and never again")]

    @classmethod
    def made(cls, made: NewRobotKey) -> NewRobotKeyView:
        return cls(**RobotView.of(made.robot).model_dump(), key=made.text)


class GroupBody(_Body):
    name: ShortName


class GroupView(BaseModel):
    name: str
    members: list[str]
    created_at: AwareDatetime

    @classmethod
    def of(cls, group: Group) -> GroupView:
        return cls(name=group.name, members=list(group.members), created_at=group.created_at)
