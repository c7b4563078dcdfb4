"""What may go wrong between us and a container engine.

The difference that matters: `EngineAway` says nothing about the request (try again), `EngineRefused` says that the
request itself will not do, `EngineCannot` that no request of this kind ever will on this engine.
"""

from __future__ import annotations

from common.errors import Conflict, Denied, NotFound, Unavailable


class EngineAway(Unavailable):
    code = "engine_away"


class EngineRefused(Conflict):
    code = "engine_refused"


class EngineCannot(EngineRefused):
    """`Capabilities` said so beforehand."""

    code = "engine_cannot"


class NotOurs(Denied):
    code = "container_not_ours"


class ContainerUnknown(NotFound):
    code = "container_unknown"


class SnapshotUnknown(NotFound):
    code = "snapshot_unknown"
