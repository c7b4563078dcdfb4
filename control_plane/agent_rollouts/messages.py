"""What rollouts of the agent announce."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from control_plane.database.messages import Message


@dataclass(frozen=True, slots=True)
class AgentRolloutChanged(Message):
    """It began, went to its next wave, halted, went on, or is over."""

    topic: ClassVar[str] = "agent_rollouts.changed"
    rollout_id: str
    state: str
    wave: int
    reason: str
