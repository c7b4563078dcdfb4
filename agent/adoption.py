"""Shall a container that somebody else made become this instance, and does it fit? Pure.

Two ways to be offered: the assignment names it (an operator asked for it), or its label invites the instance
(`longshore.adopt=<tenant>/<name>`). It fits if its image has the assigned digest and its settings are those of the
specification; labels and variables that it has beyond them do no harm. What does not fit is left alone, with words for
people, unless replacing it was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from agent.model import LIVE_STATES, AdoptionWish, Assignment, ContainerSpec, Mount, PortMapping
from agent.observation import Observation
from agent.runtimes.orders import LABEL_ADOPT, Stranger

_SHORTEST_ID = 12
# How long stopping may take is asked when stopping; variables, labels, ports and mounts are compared one by one.
_NOT_COMPARED = {"stop_grace_seconds", "environment", "labels", "mounts", "ports"}


@dataclass(frozen=True, slots=True)
class Offer:
    """`stranger` None: the one that was named is not here. differences: what people have to change; none: it fits."""

    stranger: Stranger | None
    differences: tuple[str, ...] = ()
    replace: bool = False
    named: str = ""

    @property
    def obstacle(self) -> str:
        """Why nothing is adopted; empty if something is."""
        if self.stranger is None:
            return f"this host has no container {self.named} of nobody that it could adopt; check its name or id"
        if not self.differences or self.replace:
            return ""
        return (
            f"container {self.stranger.name}, which it is to adopt, differs in {'; '.join(self.differences)}; "
            "change the specification, or ask for its replacement"
        )


def offered(assignment: Assignment, observation: Observation) -> Offer | None:
    """None: there is nothing to adopt, nor was it asked for."""
    if observation.containers is None or assignment.instance_id in observation.adopted_once:
        return None
    wish = assignment.adopt or AdoptionWish()
    if wish.container:
        found = [one for one in observation.strangers if _is_named(one, wish.container)]
    else:
        invited = f"{assignment.tenant}/{assignment.name}"
        found = [one for one in observation.strangers if one.labels.get(LABEL_ADOPT) == invited]
    if not found:
        return Offer(None, named=wish.container) if wish.container else None
    best = min(found, key=lambda one: (one.state not in LIVE_STATES, one.runtime_id))
    return Offer(best, differences(assignment, best), wish.recreate)


def name_asked_for(assignment: Assignment) -> str:
    return assignment.adopt.container if assignment.adopt else ""


def differences(assignment: Assignment, stranger: Stranger) -> tuple[str, ...]:
    """In the order of the specification, the image first."""
    wished, found = assignment.container, stranger.spec
    problems = []
    if assignment.image.manifest.digest not in stranger.manifests:
        has = ", ".join(sorted(map(str, stranger.manifests))) or "an image without a digest"
        problems.append(f"image (it has {has}, not {assignment.image.manifest.digest})")
    for field in fields(ContainerSpec):
        if field.name not in _NOT_COMPARED and getattr(wished, field.name) != getattr(found, field.name):
            problems.append(f"{field.name} (it has {_shown(getattr(found, field.name))})")
    problems += _missing("environment", wished.environment, found.environment)
    problems += _missing("labels", wished.labels, found.labels)
    if _ports(wished.ports) != _ports(found.ports):
        problems.append(f"ports (it has {', '.join(_port(port) for port in found.ports) or 'none'})")
    if _mounts(wished.mounts) != _mounts(found.mounts):
        problems.append(f"mounts (it has {', '.join(_mount(mount) for mount in found.mounts) or 'none'})")
    return tuple(problems)


def _is_named(stranger: Stranger, name: str) -> bool:
    shortened = len(name) >= _SHORTEST_ID and stranger.runtime_id.startswith(name)
    return shortened or name in (stranger.runtime_id, stranger.name)


def _missing(what: str, wished: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Values are not shown: a variable may be a secret."""
    wrong = sorted(key for key, value in wished.items() if found.get(key) != value)
    return [f"{what} ({', '.join(wrong)})"] if wrong else []


def _ports(ports: Sequence[PortMapping]) -> set[tuple[str, int, int, str]]:
    return {(one.host_ip or "127.0.0.1", one.host_port, one.container_port, one.protocol or "tcp") for one in ports}


def _mounts(mounts: Sequence[Mount]) -> set[tuple[str, str, str, bool]]:
    return {(one.volume, one.host_path, one.target.rstrip("/"), one.read_only) for one in mounts}


def _port(port: PortMapping) -> str:
    return f"{port.host_ip or '127.0.0.1'}:{port.host_port}:{port.container_port}/{port.protocol or 'tcp'}"


def _mount(mount: Mount) -> str:
    return f"{mount.host_path or mount.volume}:{mount.target}{':ro' if mount.read_only else ''}"


def _shown(value: object) -> str:
    return repr(value) if value not in ("", 0, (), None) else "none"
