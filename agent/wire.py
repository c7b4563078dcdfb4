"""Between longshore.agent.v1 and our model; pure.

What comes down is checked here once: a digest, port or name that is not well formed makes that one assignment
unreadable (`Invalid`), never the whole set. Enum values of a newer control plane mean UNSPECIFIED (proto/README.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agent.model import (
    AdoptionWish,
    AgentUpdate,
    Assignment,
    Assignments,
    ContainerSpec,
    Content,
    ContentReport,
    DesiredState,
    Effort,
    HandOver,
    Health,
    HealthCheck,
    Image,
    InstanceReport,
    Mount,
    MoveReport,
    Phase,
    PortMapping,
    Provenance,
    RegionalEndpoint,
    TakeOver,
    Unreadable,
)
from agent.offence import Offence, OffenceKind
from common.digest import Digest
from common.errors import Failure, Invalid
from common.reference import check_repository_name
from proto.agent.v1 import agent_pb2, moves_pb2
from proto.content.v1 import content_pb2

_DESIRED: Mapping[int, DesiredState] = {
    agent_pb2.DESIRED_STATE_RUNNING: DesiredState.RUNNING,
    agent_pb2.DESIRED_STATE_STOPPED: DesiredState.STOPPED,
    agent_pb2.DESIRED_STATE_REMOVED: DesiredState.REMOVED,
    agent_pb2.DESIRED_STATE_HELD: DesiredState.HELD,
    agent_pb2.DESIRED_STATE_PAUSED: DesiredState.PAUSED,
}
_EFFORTS: Mapping[int, Effort] = {
    content_pb2.EFFORT_LOWER: Effort.LOWER,
    content_pb2.EFFORT_PAUSED: Effort.PAUSED,
}
_PHASES: Mapping[Phase, agent_pb2.Phase.ValueType] = {
    Phase.PENDING: agent_pb2.PHASE_PENDING,
    Phase.FETCHING: agent_pb2.PHASE_FETCHING,
    Phase.VERIFIED: agent_pb2.PHASE_VERIFIED,
    Phase.CREATING: agent_pb2.PHASE_CREATING,
    Phase.RUNNING: agent_pb2.PHASE_RUNNING,
    Phase.PAUSED: agent_pb2.PHASE_PAUSED,
    Phase.STOPPED: agent_pb2.PHASE_STOPPED,
    Phase.FAILED: agent_pb2.PHASE_FAILED,
    Phase.REMOVED: agent_pb2.PHASE_REMOVED,
}
_HEALTH: Mapping[Health, agent_pb2.Health.ValueType] = {
    Health.UNKNOWN: agent_pb2.HEALTH_UNSPECIFIED,
    Health.NONE: agent_pb2.HEALTH_NONE,
    Health.STARTING: agent_pb2.HEALTH_STARTING,
    Health.HEALTHY: agent_pb2.HEALTH_HEALTHY,
    Health.UNHEALTHY: agent_pb2.HEALTH_UNHEALTHY,
}
_OFFENCES: Mapping[OffenceKind, agent_pb2.OffenceKind.ValueType] = {
    OffenceKind.FALSE_BLOCK: agent_pb2.OFFENCE_KIND_FALSE_BLOCK,
    OffenceKind.FALSE_METAINFO: agent_pb2.OFFENCE_KIND_FALSE_METAINFO,
}
_DEFAULT_GRACE_SECONDS = 10


class AssignmentUnreadable(Invalid):
    code = "assignment_unreadable"


def assignments_from(generation: int, messages: Iterable[agent_pb2.Assignment]) -> Assignments:
    items: dict[str, Assignment] = {}
    unreadable: dict[str, Unreadable] = {}
    for message in messages:
        try:
            items[message.instance_id] = assignment_from(message)
        except Failure as failure:
            unreadable[message.instance_id] = Unreadable(message.generation, str(failure))
    return Assignments(generation, True, items, unreadable)


def assignment_from(message: agent_pb2.Assignment) -> Assignment:
    """Raises a failure of the branch `Invalid`."""
    return Assignment(
        instance_id=message.instance_id,
        generation=message.generation,
        tenant_id=message.tenant_id,
        tenant=message.tenant,
        name=message.name,
        desired_state=_DESIRED.get(message.desired_state, DesiredState.UNKNOWN),
        image=Image(
            repository=check_repository_name(message.image.repository),
            tag=message.image.tag,
            manifest=_content(message.image.manifest, message.image.token),
            contents=tuple(_content(content, message.image.token) for content in message.image.contents),
        ),
        container=_container(message.container),
        restart_nonce=message.restart_nonce,
        effort=_EFFORTS.get(message.effort, Effort.ORDINARY),
        stop_when_cut_off_seconds=message.stop_when_cut_off_seconds,
        adopt=AdoptionWish(message.adopt.container, message.adopt.recreate) if message.HasField("adopt") else None,
        agent_update=_agent_update(message.agent_update) if message.HasField("agent_update") else None,
        hand_over=_hand_over(message.hand_over) if message.HasField("hand_over") else None,
        take_over=_take_over(message.take_over) if message.HasField("take_over") else None,
    )


def _hand_over(message: moves_pb2.HandOver) -> HandOver:
    return HandOver(message.move_id, message.target_host_id)


def _take_over(message: moves_pb2.TakeOver) -> TakeOver:
    return TakeOver(message.move_id, message.source_host_id, tuple(message.addresses))


def _agent_update(message: agent_pb2.AgentUpdate) -> AgentUpdate:
    return AgentUpdate(message.order, message.version, message.healthy_seconds, message.patience_seconds)


def endpoints_from(message: agent_pb2.Regionals) -> tuple[RegionalEndpoint, ...]:
    return tuple(
        RegionalEndpoint(
            regional_id=endpoint.regional_id,
            content_url=endpoint.content_url.rstrip("/"),
            swarm_url=endpoint.swarm_url.rstrip("/"),
            peer_address=endpoint.peer_address,
        )
        for endpoint in message.endpoints
    )


def reports_message(
    sequence: int,
    instances: Iterable[InstanceReport],
    contents: Iterable[ContentReport],
    offences: Iterable[Offence] = (),
) -> agent_pb2.Reports:
    return agent_pb2.Reports(
        sequence=sequence,
        instances=[_instance_message(report) for report in instances],
        contents=[_content_message(report) for report in contents],
        offences=[_offence_message(offence) for offence in offences],
    )


def move_message(report: MoveReport) -> moves_pb2.MoveReport:
    return moves_pb2.MoveReport(move_id=report.move_id, addresses=report.addresses, copied_bytes=report.copied_bytes)


def reports_from(message: agent_pb2.Reports) -> list[InstanceReport | ContentReport | Offence]:
    """What `reports_message` made: our own journal. Raises `Invalid` for digests it did not make."""
    return [
        *(_instance_from(one) for one in message.instances),
        *(_content_from(one) for one in message.contents),
        *(_offence_from(one) for one in message.offences),
    ]


def _content(message: content_pb2.Content, shared: str) -> Content:
    """`shared`: the token for those that have none of their own."""
    return Content(Digest.parse(message.digest), message.size_bytes, message.media_type, message.token or shared)


def _container(message: agent_pb2.ContainerSpec) -> ContainerSpec:
    return ContainerSpec(
        command=tuple(message.command),
        entrypoint=tuple(message.entrypoint),
        environment=dict(message.environment),
        labels=dict(message.labels),
        ports=tuple(_port(port) for port in message.ports),
        mounts=tuple(Mount(one.volume, one.target, one.read_only, one.host_path) for one in message.mounts),
        cpus=message.cpus,
        memory_bytes=message.memory_bytes,
        health_check=_health_check(message.health_check) if message.HasField("health_check") else None,
        stop_grace_seconds=message.stop_grace_seconds or _DEFAULT_GRACE_SECONDS,
        cpu_set=message.cpu_set,
        disk_bytes=message.disk_bytes,
        network=message.network,
        hostname=message.hostname,
        user=message.user,
        working_dir=message.working_dir,
        privileged=message.privileged,
    )


def _port(message: agent_pb2.PortMapping) -> PortMapping:
    if not 0 < message.container_port < 1 << 16 or message.host_port >= 1 << 16:
        raise AssignmentUnreadable(
            f"port {message.host_port}:{message.container_port} does not exist", action="use ports from 1 to 65535"
        )
    protocol = message.protocol or "tcp"
    if protocol not in ("tcp", "udp"):
        raise AssignmentUnreadable(f"the port protocol {protocol[:20]!r} is unknown", action="use tcp or udp")
    return PortMapping(message.host_ip, message.host_port, message.container_port, protocol)


def _health_check(message: agent_pb2.HealthCheck) -> HealthCheck:
    return HealthCheck(
        test=tuple(message.test),
        interval_seconds=message.interval_seconds,
        timeout_seconds=message.timeout_seconds,
        retries=message.retries,
        start_period_seconds=message.start_period_seconds,
    )


def _instance_message(report: InstanceReport) -> agent_pb2.InstanceReport:
    return agent_pb2.InstanceReport(
        instance_id=report.instance_id,
        generation=report.generation,
        phase=_PHASES[report.phase],
        health=_HEALTH[report.health],
        detail=report.detail,
        runtime_id=report.runtime_id,
        restart_count=report.restart_count,
    )


def _content_message(report: ContentReport) -> agent_pb2.ContentReport:
    return agent_pb2.ContentReport(
        digest=str(report.digest),
        tenant_id=report.tenant_id,
        size_bytes=report.size_bytes,
        held_bytes=report.held_bytes,
        verified=report.verified,
        provenance=content_pb2.Provenance(
            from_centre_bytes=report.provenance.from_centre_bytes,
            from_regional_bytes=report.provenance.from_regional_bytes,
            from_peers_bytes=report.provenance.from_peers_bytes,
            reused_bytes=report.provenance.reused_bytes,
        ),
        detail=report.detail,
    )


def _offence_message(offence: Offence) -> agent_pb2.Offence:
    return agent_pb2.Offence(
        offence_id=offence.id,
        kind=_OFFENCES[offence.kind],
        tenant_id=offence.tenant_id,
        digest=str(offence.digest),
        source=offence.source,
        accused=offence.accused,
        occurred_at_ms=offence.occurred_at_ms,
    )


def _offence_from(message: agent_pb2.Offence) -> Offence:
    kinds = {number: kind for kind, number in _OFFENCES.items()}
    return Offence(
        id=message.offence_id,
        kind=kinds.get(message.kind, OffenceKind.FALSE_BLOCK),
        tenant_id=message.tenant_id,
        digest=Digest.parse(message.digest),
        source=message.source,
        accused=message.accused,
        occurred_at_ms=message.occurred_at_ms,
    )


def _instance_from(message: agent_pb2.InstanceReport) -> InstanceReport:
    phases = {number: phase for phase, number in _PHASES.items()}
    healths = {number: health for health, number in _HEALTH.items()}
    return InstanceReport(
        instance_id=message.instance_id,
        generation=message.generation,
        phase=phases.get(message.phase, Phase.PENDING),
        health=healths.get(message.health, Health.UNKNOWN),
        detail=message.detail,
        runtime_id=message.runtime_id,
        restart_count=message.restart_count,
    )


def _content_from(message: agent_pb2.ContentReport) -> ContentReport:
    provenance = message.provenance
    return ContentReport(
        digest=Digest.parse(message.digest),
        tenant_id=message.tenant_id,
        size_bytes=message.size_bytes,
        held_bytes=message.held_bytes,
        verified=message.verified,
        provenance=Provenance(
            provenance.from_centre_bytes,
            provenance.from_regional_bytes,
            provenance.from_peers_bytes,
            provenance.reused_bytes,
        ),
        detail=message.detail,
    )
