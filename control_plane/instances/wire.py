"""Between our words and longshore.agent.v1: assignments down, reports up; pure.

Reports come from outside: texts are cut to what a column takes, counters to 63 bits, and a phase that this version does
not know makes the report none at all.
"""

from __future__ import annotations

from functools import lru_cache

from common.content_token import MOST_DIGESTS
from common.digest import Digest
from common.identifiers import is_id
from control_plane.instances.model import (
    AdoptionWish,
    DesiredState,
    Health,
    HealthCheck,
    HeldImage,
    ImageContent,
    Instance,
    InstanceImage,
    InstanceSpec,
    Phase,
)
from control_plane.instances.observations import Observation
from control_plane.swarm.tokens import Mint
from proto.agent.v1 import agent_pb2
from proto.content.v1 import content_pb2

_DESIRED = {
    DesiredState.RUNNING: agent_pb2.DESIRED_STATE_RUNNING,
    DesiredState.STOPPED: agent_pb2.DESIRED_STATE_STOPPED,
    DesiredState.REMOVED: agent_pb2.DESIRED_STATE_REMOVED,
    DesiredState.HELD: agent_pb2.DESIRED_STATE_HELD,
    DesiredState.PAUSED: agent_pb2.DESIRED_STATE_PAUSED,
}
_PHASES = {
    agent_pb2.PHASE_PENDING: Phase.PENDING,
    agent_pb2.PHASE_FETCHING: Phase.FETCHING,
    agent_pb2.PHASE_VERIFIED: Phase.VERIFIED,
    agent_pb2.PHASE_CREATING: Phase.CREATING,
    agent_pb2.PHASE_RUNNING: Phase.RUNNING,
    agent_pb2.PHASE_PAUSED: Phase.PAUSED,
    agent_pb2.PHASE_STOPPED: Phase.STOPPED,
    agent_pb2.PHASE_FAILED: Phase.FAILED,
    agent_pb2.PHASE_REMOVED: Phase.REMOVED,
}
_HEALTH = {
    agent_pb2.HEALTH_NONE: Health.NONE,
    agent_pb2.HEALTH_STARTING: Health.STARTING,
    agent_pb2.HEALTH_HEALTHY: Health.HEALTHY,
    agent_pb2.HEALTH_UNHEALTHY: Health.UNHEALTHY,
}
MAXIMUM_DETAIL = 2000
_MAXIMUM_RUNTIME_ID = 255
MAXIMUM_COUNT = (1 << 63) - 1


def assignment_of(instance: Instance, mint: Mint, *, together: bool) -> agent_pb2.Assignment:
    """`mint` gives tokens for contents of this instance's tenant, for the host that receives it; `together`: one for
    all of them (`fleet.desired.Asked`).
    """
    made = agent_pb2.Assignment(
        instance_id=instance.id,
        generation=instance.generation,
        tenant_id=instance.tenant_id,
        tenant=instance.tenant,
        name=instance.name,
        desired_state=_DESIRED[instance.desired_state],
        container=_container(instance.spec),
        restart_nonce=instance.restart_nonce,
        adopt=_adoption(instance.spec.adopt),
        stop_when_cut_off_seconds=instance.spec.stop_when_cut_off_seconds,
    )
    _show_image(made.image, instance.image, mint, together=together)
    return made


def desired_state_message(desired_state: DesiredState) -> agent_pb2.DesiredState.ValueType:
    return _DESIRED[desired_state]


def held_assignment(held: HeldImage, mint: Mint, *, together: bool) -> agent_pb2.Assignment:
    """An image that the host holds and runs nothing of, as if it were an instance that is only held."""
    made = agent_pb2.Assignment(
        instance_id=held.id,
        generation=held.generation,
        tenant_id=held.tenant_id,
        tenant=held.tenant,
        name=held.name,
        desired_state=_DESIRED[DesiredState.HELD],
        container=_container(InstanceSpec()),
    )
    _show_image(made.image, held.image, mint, together=together)
    return made


def observation_of(report: agent_pb2.InstanceReport) -> Observation | None:
    """None if this version does not know the phase, or if what it names is no instance id at all."""
    phase = _PHASES.get(report.phase)
    if phase is None or not is_id(report.instance_id):
        return None
    return Observation(
        instance_id=report.instance_id,
        generation=min(report.generation, MAXIMUM_COUNT),
        phase=phase,
        health=_HEALTH.get(report.health, Health.UNKNOWN),
        detail=storable(report.detail, MAXIMUM_DETAIL),
        runtime_id=storable(report.runtime_id, _MAXIMUM_RUNTIME_ID),
        restart_count=min(report.restart_count, MAXIMUM_COUNT),
    )


def storable(text: str, longest: int) -> str:
    """PostgreSQL takes no NUL in text."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")[:longest]


def _show_image(shown: agent_pb2.Image, image: InstanceImage, mint: Mint, *, together: bool) -> None:
    template, digests = _template(image)
    shown.CopyFrom(template)
    alone = frozenset(digests[MOST_DIGESTS:] if together else digests)
    if together:
        shown.token = mint(digests[:MOST_DIGESTS])
    if alone:
        for message, content in zip((shown.manifest, *shown.contents), (image.manifest, *image.contents), strict=True):
            if content.digest in alone:
                message.token = mint((content.digest,))


# A fleet runs few images on many hosts: a message of 22 contents takes 24 microseconds to make, and 1 to copy.
@lru_cache(maxsize=1_000)
def _template(image: InstanceImage) -> tuple[agent_pb2.Image, tuple[Digest, ...]]:
    """The message without tokens, to be copied only; and the digests of all contents, each once."""
    template = agent_pb2.Image(
        repository=image.repository,
        tag=image.tag,
        manifest=_content(image.manifest),
        contents=[_content(content) for content in image.contents],
    )
    return template, tuple(content.digest for content in image.all_contents())


def _content(content: ImageContent) -> content_pb2.Content:
    return content_pb2.Content(digest=str(content.digest), size_bytes=content.size_bytes, media_type=content.media_type)


def _container(spec: InstanceSpec) -> agent_pb2.ContainerSpec:
    return agent_pb2.ContainerSpec(
        command=spec.command,
        entrypoint=spec.entrypoint,
        environment=spec.environment,
        labels=spec.labels,
        ports=[
            agent_pb2.PortMapping(
                host_ip=port.host_ip,
                host_port=port.host_port,
                container_port=port.container_port,
                protocol=port.protocol,
            )
            for port in spec.ports
        ],
        mounts=[
            agent_pb2.Mount(
                volume=mount.volume, target=mount.target, read_only=mount.read_only, host_path=mount.host_path
            )
            for mount in spec.mounts
        ],
        cpus=spec.cpus,
        memory_bytes=spec.memory_bytes,
        health_check=_health_check(spec.health_check),
        stop_grace_seconds=spec.stop_grace_seconds,
        cpu_set=spec.cpu_set,
        disk_bytes=spec.disk_bytes,
        network=spec.network,
        hostname=spec.hostname,
        user=spec.user,
        working_dir=spec.working_dir,
        privileged=spec.privileged,
    )


def _adoption(wish: AdoptionWish | None) -> agent_pb2.AdoptionWish | None:
    return None if wish is None else agent_pb2.AdoptionWish(container=wish.container, recreate=wish.recreate)


def _health_check(check: HealthCheck | None) -> agent_pb2.HealthCheck | None:
    if check is None:
        return None
    return agent_pb2.HealthCheck(
        test=check.test,
        interval_seconds=check.interval_seconds,
        timeout_seconds=check.timeout_seconds,
        retries=check.retries,
        start_period_seconds=check.start_period_seconds,
    )
