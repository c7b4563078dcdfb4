"""The container engines of this host, as its settings name them; the part of the composition root that knows concrete
drivers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from agent.cache import ContentCache
from agent.model import Assignments
from agent.runtimes import RuntimeDriver
from agent.runtimes.docker import DockerRuntimeDriver
from agent.runtimes.lxd import LxdRuntimeDriver
from agent.runtimes.lxd_health import Spawn
from agent.runtimes.memory import MemoryEngine, MemoryRuntimeDriver
from agent.runtimes.several import DOCKER, LXD, SeveralEngines, kind_by
from agent.settings import AgentSettings
from common.clock import Clock

# Of LXD's snap, and of Debian's package.
_LXD_SOCKETS = (Path("/var/snap/lxd/common/lxd/unix.socket"), Path("/var/lib/lxd/unix.socket"))
_KINDS = {"auto": (DOCKER, LXD), "docker": (DOCKER,), "lxd": (LXD,), "docker+lxd": (DOCKER, LXD)}


def engines_of(
    settings: AgentSettings,
    host_id: str,
    mirror: Callable[[], str],
    cache: ContentCache,
    assignments: Callable[[], Assignments],
    clock: Clock,
    spawn: Spawn,
) -> RuntimeDriver | None:
    """`mirror`: address of the agent's mirror as Docker reaches it. None: this host only holds contents."""
    if settings.runtime == "none":
        return None
    if settings.runtime == "memory":
        return MemoryRuntimeDriver(MemoryEngine(), host_id)
    makers: dict[str, Callable[[], RuntimeDriver]] = {
        DOCKER: lambda: DockerRuntimeDriver(
            settings.docker_host, host_id, mirror, network_mode=settings.docker_network
        ),
        LXD: lambda: LxdRuntimeDriver(
            settings.lxd_socket or _lxd_socket(),
            host_id,
            cache.open_held,
            clock,
            spawn,
            profile=settings.lxd_profile,
            pool=settings.lxd_pool,
            network=settings.lxd_network,
        ),
    }
    drivers = {kind: makers[kind]() for kind in _KINDS[settings.runtime]}
    return SeveralEngines(drivers, kind_by(assignments), required=settings.runtime != "auto")


def _lxd_socket() -> str:
    return str(next((path for path in _LXD_SOCKETS if path.exists()), _LXD_SOCKETS[-1]))
