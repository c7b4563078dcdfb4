"""Wire models of tenants, users and credentials: what bodies may hold and what answers show.

Invariant: no answer shows a secret, except the ones that are made by the very request.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from control_plane.tenants.access import Principal, Role
from control_plane.tenants.api_keys import NewApiKey
from control_plane.tenants.model import ApiKey, Login, Member, Tenant, User
from control_plane.tenants.passwords import MAX_PASSWORD_LENGTH

# Control characters never belong into a name, and PostgreSQL refuses NUL in text.
Label = Annotated[str, StringConstraints(max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")]
# SecretStr: an exception that carries the body does not carry it into a log.
Password = Annotated[SecretStr, Field(min_length=1, max_length=MAX_PASSWORD_LENGTH)]
Token = Annotated[SecretStr, Field(min_length=1, max_length=1024)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LoginBody(_Body):
    username: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    password: Password


class RefreshBody(_Body):
    refresh_token: Token


class LogoutBody(_Body):
    refresh_token: Token | None = None


class OwnPasswordBody(_Body):
    current_password: Password
    new_password: Password


class LoginView(BaseModel):
    access_token: str
    refresh_token: str
    token_type: str = "Bearer"  # noqa: S105  the scheme's name
    expires_in: Annotated[int, Field(description="seconds that the access token is good for")]

    @classmethod
    def of(cls, login: Login) -> LoginView:
        return cls(access_token=login.access_token, refresh_token=login.refresh_token, expires_in=login.expires_in)


class PrincipalView(BaseModel):
    id: str | None
    name: str
    platform_admin: bool
    limited: Annotated[bool, Field(description="it speaks with less than its user's rights")]
    roles: dict[str, Role]

    @classmethod
    def of(cls, principal: Principal) -> PrincipalView:
        return cls(
            id=principal.user_id,
            name=principal.name,
            platform_admin=principal.platform_admin,
            limited=principal.limited,
            roles=dict(principal.roles),
        )


class UserBody(_Body):
    username: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    password: Password
    display_name: Label = ""
    email: Label | None = None
    platform_admin: bool = False


class UserStateBody(_Body):
    disabled: bool | None = None
    platform_admin: bool | None = None


class PasswordBody(_Body):
    password: Password


class UserView(BaseModel):
    id: str
    username: str
    display_name: str
    email: str | None
    platform_admin: bool
    disabled: bool
    created_at: AwareDatetime

    @classmethod
    def of(cls, user: User) -> UserView:
        return cls(
            id=user.id,
            username=user.name,
            display_name=user.display_name,
            email=user.email,
            platform_admin=user.platform_admin,
            disabled=user.disabled,
            created_at=user.created_at,
        )


class ApiKeyBody(_Body):
    name: Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]*$")]
    tenant: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    role: Role | None = None
    expires_at: AwareDatetime | None = None


class ApiKeyView(BaseModel):
    id: str
    name: str
    tenant: str | None
    role: Role | None
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    last_used_at: AwareDatetime | None

    @classmethod
    def of(cls, key: ApiKey) -> ApiKeyView:
        return cls(
            id=key.id,
            name=key.name,
            tenant=key.tenant,
            role=key.role,
            created_at=key.created_at,
            expires_at=key.expires_at,
            last_used_at=key.last_used_at,
        )


class NewApiKeyView(ApiKeyView):
    key: Annotated[str, Field(description="the key itself: shown now and never again")]

    @classmethod
    def made(cls, made: NewApiKey) -> NewApiKeyView:
        return cls(**ApiKeyView.of(made.key).model_dump(), key=made.text)


class TenantBody(_Body):
    name: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    display_name: Label = ""


class TenantView(BaseModel):
    id: str
    name: str
    display_name: str
    created_at: AwareDatetime

    @classmethod
    def of(cls, tenant: Tenant) -> TenantView:
        return cls(id=tenant.id, name=tenant.name, display_name=tenant.display_name, created_at=tenant.created_at)


class RoleBody(_Body):
    role: Role


class MemberView(BaseModel):
    user: str
    role: Role
    since: AwareDatetime

    @classmethod
    def of(cls, member: Member) -> MemberView:
        return cls(user=member.user, role=member.role, since=member.since)
