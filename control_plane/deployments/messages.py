"""What deployments announce."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from control_plane.database.messages import Message


@dataclass(frozen=True, slots=True)
class DeploymentChanged(Message):
    """A deployment was made, changed or is being removed, or an instance of it was placed, moved or taken away."""

    topic: ClassVar[str] = "deployments.changed"
    deployment_id: str
    tenant_id: str
    name: str
    unplaced: int
