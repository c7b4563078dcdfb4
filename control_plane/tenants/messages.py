"""What tenants announce."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from control_plane.database.messages import Message


@dataclass(frozen=True, slots=True)
class TenantCreated(Message):
    topic: ClassVar[str] = "tenants.tenant_created"
    tenant_id: str
    tenant: str


@dataclass(frozen=True, slots=True)
class TenantDeleted(Message):
    topic: ClassVar[str] = "tenants.tenant_deleted"
    tenant_id: str
    tenant: str


@dataclass(frozen=True, slots=True)
class MemberChanged(Message):
    """`role` None: no longer a member."""

    topic: ClassVar[str] = "tenants.member_changed"
    tenant_id: str
    user_id: str
    role: str | None


@dataclass(frozen=True, slots=True)
class UserCreated(Message):
    topic: ClassVar[str] = "tenants.user_created"
    user_id: str
    user: str


@dataclass(frozen=True, slots=True)
class UserChanged(Message):
    """Disabled, enabled, given another password or other rights: what was issued before may no longer count."""

    topic: ClassVar[str] = "tenants.user_changed"
    user_id: str
    disabled: bool
    platform_admin: bool
