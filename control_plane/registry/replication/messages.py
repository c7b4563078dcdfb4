"""What replication announces. `endpoint` is the other registry's name, `reference` a tag or digest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from control_plane.database.messages import Message


@dataclass(frozen=True, slots=True)
class Replicated(Message):
    """An image was copied (or deleted there, if `deleted`). Not announced for what was there already."""

    topic: ClassVar[str] = "registry.replicated"
    tenant_id: str
    rule: str
    direction: str
    endpoint: str
    repository: str
    destination: str
    reference: str
    bytes: int
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class ReplicationFailed(Message):
    """It was given up; `error` says why."""

    topic: ClassVar[str] = "registry.replication_failed"
    tenant_id: str
    rule: str
    direction: str
    endpoint: str
    repository: str
    destination: str
    reference: str
    error: str
