"""Whether one host fits one wish, and what it has to give; pure.

Three questions, because they have different consequences: what breaks a lasting rule (`misfit`) has to go from a host;
what is closed for now (`closed`) or has no room (`lacking`) only gets nothing new.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from control_plane.fleet.placement.model import (
    BY_IDC,
    NOTHING,
    Capacity,
    CapacityPolicy,
    Offer,
    Operator,
    Requirement,
    Resources,
    Rules,
    Standing,
)


def capacity_of(facts: Mapping[str, object], policies: Sequence[CapacityPolicy]) -> Capacity:
    """What a host with these facts has for instances; `policies`: the narrowest scope first."""
    cpus, memory, disk = (_number(facts.get(key)) for key in ("cpus", "memory_bytes", "disk_bytes"))
    cpu_times = _first(policies, "cpu_overcommit", 1.0)
    memory_times = _first(policies, "memory_overcommit", 1.0)
    return Capacity(
        millicpus=_left(cpus, _first(policies, "reserve_cpus", 0), 1000 * cpu_times),
        memory_bytes=_left(memory, _first(policies, "reserve_memory_bytes", 0), memory_times),
        disk_bytes=_left(disk, _first(policies, "reserve_disk_bytes", 0), 1.0),
    )


def lacking(offer: Offer, ask: Resources, taken: Resources = NOTHING) -> str:
    """What the host has too little of for `ask` beside what is used and `taken`; empty if it has room. What is not
    asked for is not looked at, so a host that is overfull still takes what asks for nothing.
    """
    parts = (
        ("CPU", ask.millicpus, offer.capacity.millicpus, offer.used.millicpus + taken.millicpus),
        ("memory", ask.memory_bytes, offer.capacity.memory_bytes, offer.used.memory_bytes + taken.memory_bytes),
        ("disk", ask.disk_bytes, offer.capacity.disk_bytes, offer.used.disk_bytes + taken.disk_bytes),
    )
    short = [name for name, asked, total, used in parts if asked and total is not None and used + asked > total]
    return f"too little {' and '.join(short)} is free" if short else ""


def misfit(offer: Offer, rules: Rules) -> str:
    """Which lasting rule the host does not keep; empty if it keeps all. What is there and does not fit has to go."""
    if rules.idcs and offer.idc not in rules.idcs:
        return "another data centre"
    if rules.hosts and offer.host_id not in rules.hosts and offer.label not in rules.hosts:
        return "not among the hosts that are named"
    if rules.architectures and offer.architecture not in rules.architectures:
        return f"its architecture is {offer.architecture}"
    for requirement in rules.labels:
        if not _holds(offer, requirement):
            return f"its label {requirement.key} does not fit"
    for spread in rules.spread:
        if spread.by != BY_IDC and spread.by not in offer.labels:
            return f"it has no label {spread.by} to spread by"
    return ""


def closed(offer: Offer, rules: Rules, name: str) -> str:
    """Why nothing new may come to a host that fits; empty if it may."""
    if offer.standing is not Standing.OPEN:
        return f"it is {offer.standing.value}"
    if offer.absent_since is not None:
        return "it is away"
    if rules.engine and rules.engine not in offer.engines:
        return f"it has no engine {rules.engine}"
    if name in offer.taken_names:
        return "another instance has its name there"
    for other in rules.near:
        if other not in offer.present:
            return f"{other} is not there"
    for other in rules.apart:
        if other in offer.present:
            return f"{other} is there"
    return ""


def domain_of(offer: Offer, by: str) -> str:
    return offer.idc if by == BY_IDC else offer.labels.get(by, "")


def _holds(offer: Offer, requirement: Requirement) -> bool:
    value = offer.labels.get(requirement.key)
    match requirement.operator:
        case Operator.IN:
            return value is not None and value in requirement.values
        case Operator.NOT_IN:
            return value not in requirement.values
        case Operator.EXISTS:
            return value is not None
        case Operator.ABSENT:
            return value is None


def _number(value: object) -> int | None:
    """Hosts that say nothing of it have 0 there (proto3)."""
    return int(value) if isinstance(value, int | float) and value > 0 else None


def _first(policies: Sequence[CapacityPolicy], field_name: str, otherwise: float) -> float:
    return next((value for one in policies if (value := getattr(one, field_name)) is not None), otherwise)


def _left(total: int | None, reserve: float, times: float) -> int | None:
    return None if total is None else max(0, int((total - reserve) * times))
