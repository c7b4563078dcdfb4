"""What quota announces, in the unit of work that changed it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from control_plane.database.messages import Message


@dataclass(frozen=True, slots=True)
class QuotaNearlyFull(Message):
    """The stored bytes of a tenant or a user (`kind`) have reached 80 or 90 percent of the limit, once per crossing."""

    topic: ClassVar[str] = "registry.quota_nearly_full"
    kind: str
    subject_id: str
    percent: int
    used_bytes: int
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class QuotaChanged(Message):
    """An administrator set the limits of a tenant or a user (`kind`); None is no limit, `own` false the defaults."""

    topic: ClassVar[str] = "registry.quota_changed"
    kind: str
    subject_id: str
    own: bool
    max_storage_bytes: int | None
    max_image_count: int | None
    max_image_size_bytes: int | None
