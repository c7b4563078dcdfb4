"""A network of one's own: engines that rewrite the firewall do it where it harms nobody and vanishes with them.

The namespace has no name: a sleeping process holds it, and when that ends, interfaces, routes and rules are gone. It is
entered with `nsenter --net`, not `ip netns exec`: the latter remounts /sys and so hides /sys/fs/cgroup from container
engines. It has its own loopback and no route out.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from tests.engines import EngineCannotRun
from tests.engines.processes import Process, find_program, wait_until
from tests.engines.scratch import scratch_directory


class Network(Protocol):
    """A network to enter. It may be another one after the machine that has it was booted again."""

    @property
    def netns(self) -> Path: ...

    @property
    def command_prefix(self) -> tuple[str, ...]:
        """Put before a command, this runs it in the namespace; files, processes and cgroups are shared."""
        ...


class Namespace:
    """`pid` holds it."""

    def __init__(self, holder: Process) -> None:
        self.pid = holder.pid

    @property
    def netns(self) -> Path:
        return Path(f"/proc/{self.pid}/ns/net")

    @property
    def command_prefix(self) -> tuple[str, ...]:
        """Put before a command, this runs it in the namespace; files, processes and cgroups are shared."""
        return (find_program("nsenter", "tools"), f"--net={self.netns}")


@contextlib.contextmanager
def network_namespace() -> Iterator[Namespace]:
    if os.geteuid() != 0:
        raise EngineCannotRun("only root can make a network namespace")
    unshare, ip = find_program("unshare", "tools"), find_program("ip", "tools")
    with scratch_directory("net") as directory:
        ready = directory / "ready"
        script = f"'{ip}' link set lo up && touch '{ready}' && exec sleep infinity"
        holder = Process([unshare, "--net", "sh", "-c", script], directory / "log")
        try:
            if not wait_until(lambda: ready.exists() or not holder.running, 10) or not holder.running:
                raise EngineCannotRun(f"no network namespace: {holder.log_tail()}")
            yield Namespace(holder)
        finally:
            holder.kill()


def same_network(pid: int, other: int) -> bool:
    """Whether two processes are in one network namespace; False when either is gone."""
    try:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino == Path(f"/proc/{other}/ns/net").stat().st_ino
    except OSError:
        return False
