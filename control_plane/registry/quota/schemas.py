"""Quota on the wire."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from control_plane.registry.quota.model import Drift, Limits
from control_plane.registry.quota.service import Named

_MOST = 2**63 - 1


class LimitsBody(BaseModel):
    """What is left out or null is not limited."""

    model_config = ConfigDict(extra="forbid")

    max_storage_bytes: int | None = Field(default=None, ge=0, le=_MOST, description="blobs, each once, and manifests")
    max_image_count: int | None = Field(default=None, ge=0, le=_MOST, description="repositories")
    max_image_size_bytes: int | None = Field(
        default=None, ge=0, le=_MOST, description="layers and configuration of one"
    )

    def limits(self) -> Limits:
        return Limits(self.max_storage_bytes, self.max_image_count, self.max_image_size_bytes)


class QuotaView(BaseModel):
    """`subject` is a tenant or a user. `available_bytes` is what may still be pushed now; null is no limit."""

    subject: str
    name: str
    own_limits: bool = Field(description="false: the platform's defaults are in force")
    max_storage_bytes: int | None
    max_image_count: int | None
    max_image_size_bytes: int | None
    used_bytes: int
    reserved_bytes: int = Field(description="taken by uploads that are under way")
    available_bytes: int | None
    image_count: int

    @classmethod
    def of(cls, named: Named) -> QuotaView:
        account, limits = named.account, named.account.limits
        taken = account.used_bytes + account.reserved_bytes
        return cls(
            subject=account.subject.kind.value,
            name=named.name,
            own_limits=account.own,
            max_storage_bytes=limits.storage_bytes,
            max_image_count=limits.images,
            max_image_size_bytes=limits.image_bytes,
            used_bytes=account.used_bytes,
            reserved_bytes=account.reserved_bytes,
            available_bytes=None if limits.storage_bytes is None else max(0, limits.storage_bytes - taken),
            image_count=account.images,
        )


class DriftView(BaseModel):
    """Recorded minus true, before it was mended; all zero unless the program has a mistake."""

    used_bytes: int
    reserved_bytes: int
    image_count: int
    charges: int = Field(description="blobs that were charged wrongly")

    @classmethod
    def of(cls, drift: Drift) -> DriftView:
        return cls(
            used_bytes=drift.used_bytes,
            reserved_bytes=drift.reserved_bytes,
            image_count=drift.images,
            charges=drift.charges,
        )
