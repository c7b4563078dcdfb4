"""What may be asked of a deployment, checked before anything is written; pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from control_plane.deployments.model import Deployment, DeploymentRequest, Pace, Revision, RolloutInvalid
from control_plane.fleet.placement.fitting import misfit
from control_plane.fleet.placement.model import NoRoom, Offer, PlacementInvalid, Resources, Rules
from control_plane.fleet.placement.selectors import check_rules
from control_plane.instances.model import InstanceSpec
from control_plane.instances.rules import check_name, check_spec

# Shorter, and a host that only restarts would lose its instances to others; an exclusive one needs its margin besides.
SHORTEST_RESCHEDULE = 120
_LONGEST_RESCHEDULE = 30 * 86400
_MOST_SLOTS = 10_000
_LONGEST_HEALTHY = 3600
_LONGEST_NAME = 58  # `-9999` behind it still makes a name of an instance


def check(request: DeploymentRequest) -> None:
    """Raises `InstanceNameInvalid`, `SpecInvalid`, `PlacementInvalid`."""
    check_name(request.name)
    if len(request.name) > _LONGEST_NAME:
        raise _wrong("name", "the name is too long", f"use {_LONGEST_NAME} characters: its instances get a number more")
    check_spec(request.spec)
    if request.spec.adopt is not None and request.spec.adopt.container:
        raise _wrong("adopt.container", "one container is on one host", "adopt it as an instance of that host")
    check_rules(request.rules)
    after = request.reschedule_after_seconds
    if after and not SHORTEST_RESCHEDULE <= after <= _LONGEST_RESCHEDULE:
        raise _wrong(
            "reschedule_after_seconds",
            f"{after} seconds are no time to wait for a host",
            f"give {SHORTEST_RESCHEDULE} to {_LONGEST_RESCHEDULE}, or 0 to wait for ever",
        )
    if after and request.rules.count is None:
        raise _wrong("reschedule_after_seconds", "one on every host has no other place", "leave it out")
    if after and request.spec.mounts and not request.state_may_be_lost:
        raise _wrong(
            "reschedule_after_seconds",
            "what is in its volumes would be lost with the host",
            "leave it out, or allow that with state_may_be_lost",
        )
    if request.exclusive and not after:
        raise _wrong("exclusive", "it never gets another place", "give reschedule_after_seconds, or leave it out")
    ports = [port for port in request.spec.ports if port.host_port]
    if ports and request.rules.per_host > 1:
        raise _wrong("per_host", "two instances cannot have the same port of a host", "leave out host_port or per_host")


def request_of(
    known: Deployment, *, rules: Rules | None = None, spec: InstanceSpec | None = None, image: str = ""
) -> DeploymentRequest:
    """The deployment as it would be asked for today, with what is to change."""
    return DeploymentRequest(
        tenant=known.tenant,
        name=known.name,
        image=image or known.reference,
        spec=known.spec if spec is None else spec,
        rules=known.rules if rules is None else rules,
        desired_state=known.desired_state,
        reschedule_after_seconds=known.reschedule_after_seconds,
        state_may_be_lost=known.state_may_be_lost,
        exclusive=known.exclusive,
    )


def check_pace(pace: Pace, known: Deployment, content: Revision) -> None:
    """Raises `RolloutInvalid`."""
    for name in ("max_unavailable", "max_surge", "canaries", "max_failures"):
        if not 0 <= getattr(pace, name) <= _MOST_SLOTS:
            raise _no_pace(name, f"{name} is {getattr(pace, name)}", f"give 0 to {_MOST_SLOTS}")
    if pace.max_unavailable + pace.max_surge == 0:
        raise _no_pace("max_unavailable", "nothing may be missing and nothing more may be there", "allow one of them")
    if pace.max_surge and known.rules.count is None:
        raise _no_pace("max_surge", "one is on every host already", "allow max_unavailable instead")
    if pace.max_surge and content.spec.mounts and not known.state_may_be_lost:
        raise _no_pace("max_surge", "one more would have volumes of its own", "allow max_unavailable instead")
    if not 0 <= pace.healthy.total_seconds() <= _LONGEST_HEALTHY:
        raise _no_pace("healthy_seconds", "that is no time to be well", f"give 0 to {_LONGEST_HEALTHY}")
    if not pace.healthy < pace.patience <= timedelta(days=1):
        raise _no_pace(
            "patience_seconds", "patience ends too soon or never", "give more than healthy_seconds, to a day"
        )


def check_possible(rules: Rules, ask: Resources, offers: Iterable[Offer]) -> None:
    """Raises `NoRoom` if no host that fits could ever take one, however empty it were."""
    fitting = [offer for offer in offers if not misfit(offer, rules)]
    if fitting and all(_never(one, ask) for one in fitting):
        named = "; ".join(sorted(f"{one.label} has {_has(one)}" for one in fitting)[:5])
        raise NoRoom(f"no host that fits has as much as is asked for: {named}", action="ask for less")


def _never(offer: Offer, ask: Resources) -> bool:
    pairs = (
        (ask.millicpus, offer.capacity.millicpus),
        (ask.memory_bytes, offer.capacity.memory_bytes),
        (ask.disk_bytes, offer.capacity.disk_bytes),
    )
    return any(asked and total is not None and asked > total for asked, total in pairs)


def _has(offer: Offer) -> str:
    capacity = offer.capacity
    parts = (
        None if capacity.millicpus is None else f"{capacity.millicpus / 1000:g} CPUs",
        None if capacity.memory_bytes is None else f"{capacity.memory_bytes} bytes of memory",
        None if capacity.disk_bytes is None else f"{capacity.disk_bytes} bytes of disk",
    )
    return ", ".join(part for part in parts if part)


def _no_pace(field: str, detail: str, action: str) -> RolloutInvalid:
    return RolloutInvalid(detail, action=action, field=field)


def _wrong(field: str, detail: str, action: str) -> PlacementInvalid:
    return PlacementInvalid(detail, action=action, field=field)
