"""One look at the host, from which alone the next steps are planned; frozen, pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.model import Container
from agent.runtimes.orders import Stranger
from common.digest import Digest


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at the host.

    held: digests that are verified in the cache.
    has_engine: whether this host is to run anything at all.
    containers: None when the engine does not answer (`engine_detail` says why).
    images: manifest digests that the engine holds.
    restarts: the restart nonce that each instance's container has honoured.
    refused: by instance, a spec hash that the engine refused or that would not stay up, while it must not be tried.
    strangers: containers of nobody that may be adopted; looked for only while an assignment has no container.
    adopted_once: instances that adopted a container already: what became of it since, they adopt no other.
    """

    held: frozenset[Digest] = frozenset()
    has_engine: bool = True
    containers: tuple[Container, ...] | None = None
    images: frozenset[Digest] = frozenset()
    restarts: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    engine_detail: str = ""
    strangers: tuple[Stranger, ...] = ()
    adopted_once: frozenset[str] = frozenset()
