"""Who asks, for what, and what hosts say, for tests of instances."""

from __future__ import annotations

from typing import Any

from control_plane.instances.model import DesiredState, InstanceSpec, RunRequest
from control_plane.tenants.access import ANONYMOUS, Principal, Role
from proto.agent.v1 import agent_pb2
from proto.content.v1 import content_pb2

WEB = "acme/web:1.4"
ADMIN = Principal("u-0", "admin", platform_admin=True)
OPERATOR = Principal("u-1", "olga", roles={"acme": Role.OPERATOR})
VIEWER = Principal("u-2", "vic", roles={"acme": Role.VIEWER})
STRANGER = Principal("u-3", "gil", roles={"globex": Role.ADMIN})
PRINCIPALS = {"admin": ADMIN, "operator": OPERATOR, "viewer": VIEWER, "stranger": STRANGER, "nobody": ANONYMOUS}


def run_request(
    *hosts: str,
    name: str = "web",
    tenant: str = "acme",
    image: str = WEB,
    idc: str | None = None,
    all_hosts: bool = False,
    desired_state: DesiredState = DesiredState.RUNNING,
    **spec: Any,
) -> RunRequest:
    return RunRequest(tenant, name, image, InstanceSpec(**spec), desired_state, hosts, idc, all_hosts)


def said(
    instance_id: str,
    generation: int = 1,
    phase: agent_pb2.Phase.ValueType = agent_pb2.PHASE_RUNNING,
    health: agent_pb2.Health.ValueType = agent_pb2.HEALTH_NONE,
    detail: str = "",
) -> agent_pb2.InstanceReport:
    return agent_pb2.InstanceReport(
        instance_id=instance_id, generation=generation, phase=phase, health=health, detail=detail
    )


def holds(digest: str, size_bytes: int, held_bytes: int | None = None, **provenance: int) -> agent_pb2.ContentReport:
    """All of it and verified, unless `held_bytes` says otherwise."""
    return agent_pb2.ContentReport(
        digest=digest,
        tenant_id="t-acme",
        size_bytes=size_bytes,
        held_bytes=size_bytes if held_bytes is None else held_bytes,
        verified=held_bytes is None,
        provenance=content_pb2.Provenance(**provenance),
    )
