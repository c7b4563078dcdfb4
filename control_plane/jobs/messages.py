"""What the jobs announce."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from control_plane.database.messages import Message


@dataclass(frozen=True, slots=True)
class JobEnded(Message):
    """`state` is done, failed or cancelled."""

    topic: ClassVar[str] = "jobs.ended"
    job_id: str
    kind: str
    state: str
