"""Tenants, users and their credentials as values; pure.

Invariant: a secret is never part of a value here, only what is derived from it, and that stays out of `repr`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from common.errors import Invalid
from common.reference import NameInvalid, check_repository_name
from control_plane.tenants.access import Principal, RepositoryScope, Role, lesser

# The first components of our own addresses: a repository under such a name could not be told from them.
RESERVED_TENANTS = frozenset({"admin", "api", "v2"})
MAX_TENANT_NAME = 64
# Names within a tenant: of groups and robots.
SHORT_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
SHORT_NAME_RULE = "use up to 64 lower-case letters, digits and . _ -, with a letter or digit at both ends"
_USER_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._@+-]{0,62}[a-z0-9])?")


class TenantNameInvalid(Invalid):
    code = "tenant_name_invalid"


class UserNameInvalid(Invalid):
    code = "user_name_invalid"


class GroupNameInvalid(Invalid):
    code = "group_name_invalid"


class RegistryNameTaken(Invalid):
    """The registry's audience is the API's: a registry token would pass as an access token."""

    code = "registry_name_taken"


@dataclass(frozen=True, slots=True)
class TenantSettings:
    """`issuer` and the two audiences stand in tokens; changing one ends every login."""

    issuer: str = "longshore"
    audience: str = "longshore:api"
    registry_service: str = "longshore"
    access_lifetime: timedelta = timedelta(hours=24)
    refresh_lifetime: timedelta = timedelta(days=7)
    registry_lifetime: timedelta = timedelta(minutes=15)
    registry_login_lifetime: timedelta = timedelta(days=90)
    standing_lifetime: timedelta = timedelta(seconds=30)
    basic_lifetime: timedelta = timedelta(seconds=60)
    login_failures: int = 10
    login_window: timedelta = timedelta(minutes=5)
    minimum_password_length: int = 8
    hashing_slots: int = 4

    def __post_init__(self) -> None:
        if self.registry_service == self.audience:
            raise RegistryNameTaken(
                f"the registry service is named {self.audience!r} like the API",
                action="give the registry service another name",
            )


@dataclass(frozen=True, slots=True)
class Tenant:
    id: str
    name: str
    display_name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class User:
    """`token_generation` counts up when everything issued before must stop working: tokens carry it."""

    id: str
    name: str
    display_name: str
    email: str | None
    password_hash: str = field(repr=False)
    platform_admin: bool
    disabled: bool
    token_generation: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Member:
    user: str
    role: Role
    since: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """What a user is allowed at this moment. `revoked` are the ids of access tokens that were ended before their time;
    None means that they are too many to carry, and the table must be asked. `groups` are ids.
    """

    user_id: str
    name: str
    platform_admin: bool
    disabled: bool
    token_generation: int
    roles: Mapping[str, Role]
    revoked: frozenset[str] | None = frozenset()
    groups: frozenset[str] = frozenset()

    def principal(self, key_id: str | None = None) -> Principal:
        return Principal(
            self.user_id, self.name, self.platform_admin, dict(self.roles), groups=self.groups, key_id=key_id
        )

    def limited_to(self, tenant: str | None, role: Role | None, key_id: str | None = None) -> Principal:
        """The principal of an API key: without limits the user itself, with any of them never the platform admin."""
        if tenant is None and role is None:
            return self.principal(key_id)
        held: dict[str, Role] = dict(self.roles)
        if tenant is not None:
            own = Role.ADMIN if self.platform_admin else self.roles.get(tenant)
            held = {tenant: own} if own is not None else {}
        capped = {name: lesser(own, role) if role is not None else own for name, own in held.items()}
        return Principal(
            self.user_id,
            self.name,
            roles=capped,
            limited=True,
            groups=self.groups,
            tenant=tenant,
            at_most=role,
            key_id=key_id,
        )


@dataclass(frozen=True, slots=True)
class ApiKey:
    """`tenant` and `role` limit what it may do, if given. `tenant` is a name."""

    id: str
    user_id: str
    name: str
    secret_hash: str = field(repr=False)
    tenant: str | None
    role: Role | None
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class Group:
    """Users of one tenant, to whom repositories of the tenant can be granted together."""

    id: str
    name: str
    members: tuple[str, ...]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class SigningKeyRow:
    """`sequence` orders keys by age; `verifies_until` is None for the one that signs."""

    id: str
    sequence: int
    sealed_private_pem: bytes = field(repr=False)
    public_pem: str
    created_at: datetime
    verifies_until: datetime | None


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What a genuine access token says. It is not yet known whether its user still stands behind it."""

    id: str
    user_id: str
    generation: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """One link of a family: each use makes the next one, and a second use ends the family."""

    id: str
    family_id: str
    user_id: str
    secret_hash: str = field(repr=False)
    generation: int
    access_id: str
    access_expires_at: datetime
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class RegistryLogin:
    """A refresh token of a registry client. `key_id`: of the API key or the robot's key that it was made with; for a
    password `generation` is the user's by then. `client`: what the client called itself.
    """

    id: str
    user_id: str
    key_id: str | None
    robot: bool
    generation: int
    secret_hash: str = field(repr=False)
    client: str
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class Login:
    """What a login or refresh hands out; the tokens exist nowhere else in this form."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: int


@dataclass(frozen=True, slots=True)
class RegistryToken:
    """What a genuine registry token says, before it is asked whether who it was made for still stands behind it.

    `key_id` is the key that asked for it, a robot's if `robot`; without one the user did. None of both: anonymous.
    """

    user_id: str | None
    generation: int
    key_id: str | None
    robot: bool
    scopes: tuple[RepositoryScope, ...]
    expires_at: datetime


def check_tenant_name(name: str) -> str:
    """`name` itself; raises `TenantNameInvalid` unless it can be the first component of a repository's name."""
    try:
        check_repository_name(f"{name}/x")
    except NameInvalid:
        fits = False
    else:
        fits = "/" not in name and len(name) <= MAX_TENANT_NAME
    if not fits:
        raise TenantNameInvalid(
            f"{name[:80]!r} cannot name a tenant",
            action=f"use up to {MAX_TENANT_NAME} lower-case letters and digits with single separators . _ -",
        )
    if name in RESERVED_TENANTS:
        raise TenantNameInvalid(f"the tenant name {name!r} is reserved", action="choose another name")
    return name


def check_user_name(name: str) -> str:
    """`name` itself; raises `UserNameInvalid`. No colon: Basic authentication (RFC 7617) ends the name there."""
    if not _USER_NAME.fullmatch(name):
        raise UserNameInvalid(
            f"{name[:80]!r} cannot name a user",
            action="use up to 64 lower-case letters, digits and . _ @ + -, with a letter or digit at both ends",
        )
    return name


def check_group_name(name: str) -> str:
    """`name` itself; raises `GroupNameInvalid`."""
    if not SHORT_NAME.fullmatch(name):
        raise GroupNameInvalid(f"{name[:80]!r} cannot name a group", action=SHORT_NAME_RULE)
    return name
