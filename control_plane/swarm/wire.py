"""Our words in longshore.content.v1; pure."""

from __future__ import annotations

from collections.abc import Mapping

from control_plane.swarm.model import Effort
from proto.content.v1 import content_pb2

EFFORTS: Mapping[Effort, content_pb2.Effort.ValueType] = {
    Effort.ORDINARY: content_pb2.EFFORT_UNSPECIFIED,
    Effort.LOWER: content_pb2.EFFORT_LOWER,
    Effort.PAUSED: content_pb2.EFFORT_PAUSED,
}
