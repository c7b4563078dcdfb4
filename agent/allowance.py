"""What this host's operator lets containers ask for, checked on the host itself: the control plane may be wrong.

Invariant: nothing leaves this module that reaches the host beyond what was allowed: privileges, networks, directories.
Volumes belong to their tenant: two tenants that name a volume alike have two.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path

from agent.model import Assignment, ContainerSpec, Mount
from agent.runtimes import EngineRefused
from agent.settings import AgentSettings

_TENANTS_VOLUME = re.compile(r"ls-[0-9a-f]{16}-")
_HARMLESS_NETWORKS = ("", "bridge", "none")


class NotAllowed(EngineRefused):
    code = "not_allowed_on_host"


@dataclass(frozen=True, slots=True)
class Allowance:
    """networks: of the engine, beside `bridge` and `none`; `host` is the host's own. directories: where bind mounts may
    come from.
    """

    privileged: bool = False
    networks: frozenset[str] = frozenset()
    directories: tuple[Path, ...] = ()

    def bounded(self, assignment: Assignment, *, adopted: bool) -> ContainerSpec:
        """The specification for the engine. adopted: its volumes are those of a container that somebody else made, and
        keep their names. Raises `NotAllowed`; reads the file system.
        """
        spec = assignment.container
        if spec.privileged and not self.privileged:
            raise NotAllowed(
                "this host runs no privileged containers", action="leave it out, or set allow_privileged on its agent"
            )
        if spec.network not in _HARMLESS_NETWORKS and spec.network not in self.networks:
            raise NotAllowed(
                f"containers on this host may not use the network {spec.network}",
                action="use bridge or none, or name it in container_networks of its agent",
            )
        return replace(spec, mounts=tuple(self._mount(one, assignment.tenant_id, adopted) for one in spec.mounts))

    def _mount(self, mount: Mount, tenant_id: str, adopted: bool) -> Mount:
        if not mount.host_path:
            return _kept(mount, tenant_id) if adopted else replace(mount, volume=volume_of(tenant_id, mount.volume))
        # Resolved here and handed on as it is then: a link that is bent later leads nowhere else.
        path = Path(mount.host_path).resolve()
        if not any(path.is_relative_to(directory.resolve()) for directory in self.directories):
            raise NotAllowed(
                f"containers on this host may not use its directory {mount.host_path}",
                action="use a volume, or name a directory in container_directories of its agent",
            )
        return replace(mount, host_path=str(path))


def allowance_of(settings: AgentSettings) -> Allowance:
    return Allowance(
        privileged=settings.allow_privileged,
        networks=frozenset(filter(None, (one.strip() for one in settings.container_networks.split(",")))),
        directories=tuple(Path(one) for one in settings.container_directories.split(":") if one),
    )


def _kept(mount: Mount, tenant_id: str) -> Mount:
    """A volume of an adopted container keeps its name, unless that is how a volume of another tenant is called."""
    if _TENANTS_VOLUME.match(mount.volume) and not mount.volume.startswith(volume_of(tenant_id, "")):
        raise NotAllowed("that volume is another tenant's", action="name a volume of your own")
    return mount


def volume_of(tenant_id: str, volume: str) -> str:
    """What the engine calls a tenant's volume."""
    return f"ls-{hashlib.sha256(tenant_id.encode()).hexdigest()[:16]}-{volume}"
