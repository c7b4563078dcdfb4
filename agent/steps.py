"""What the agent can do next for one instance; data, made by the planner and carried out by the reconciler.

Every step may be repeated without harm: after a crash the planner looks again and finds it done or to be done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from agent.model import Assignment, Content
from common.digest import Digest


@dataclass(frozen=True, slots=True)
class PullAhead:
    """Bring the image into the engine while its layers still come, once the contents in `first` are held."""

    repository: str
    manifest: Digest
    first: tuple[Content, ...]


@dataclass(frozen=True, slots=True)
class FetchContents:
    """`ahead`: a hint, so that unpacking overlaps the download; what it achieved is seen in the next observation."""

    tenant_id: str
    contents: tuple[Content, ...]
    ahead: PullAhead | None = None


@dataclass(frozen=True, slots=True)
class PullImage:
    """Into the engine, from the agent's own mirror."""

    repository: str
    manifest: Digest


@dataclass(frozen=True, slots=True)
class CreateContainer:
    """`successor_of`: engine id of an adopted container, whose settings that no specification names it takes over."""

    assignment: Assignment
    successor_of: str = ""


@dataclass(frozen=True, slots=True)
class TakeOverInstance:
    """Copy what stands on another host, as `assignment.take_over` says; it stands here too, then."""

    assignment: Assignment


@dataclass(frozen=True, slots=True)
class AdoptContainer:
    """Count somebody else's container as ours from now on; nothing in the engine changes. `spec_hash` is empty if it is
    adopted in order to be replaced.
    """

    runtime_id: str
    generation: int
    spec_hash: str


@dataclass(frozen=True, slots=True)
class StartContainer:
    """Also honours a restart that was asked for meanwhile."""

    runtime_id: str
    spec_hash: str
    restart_nonce: int


@dataclass(frozen=True, slots=True)
class RestartContainer:
    runtime_id: str
    grace_seconds: int
    restart_nonce: int


@dataclass(frozen=True, slots=True)
class StopContainer:
    runtime_id: str
    grace_seconds: int


@dataclass(frozen=True, slots=True)
class PauseContainer:
    runtime_id: str


@dataclass(frozen=True, slots=True)
class ResumeContainer:
    runtime_id: str


@dataclass(frozen=True, slots=True)
class RenameContainer:
    """Put an older container aside so that its successor can have the name."""

    runtime_id: str
    name: str


@dataclass(frozen=True, slots=True)
class RemoveContainer:
    """`refused_spec` is set when it is removed because it would not stay up and its predecessor comes back."""

    runtime_id: str
    refused_spec: str = ""


Step: TypeAlias = (
    FetchContents
    | PullImage
    | CreateContainer
    | TakeOverInstance
    | AdoptContainer
    | StartContainer
    | RestartContainer
    | StopContainer
    | PauseContainer
    | ResumeContainer
    | RenameContainer
    | RemoveContainer
)
