"""podman as a registry client: it only pushes and pulls, and needs no container runtime for that."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.engines import EngineCannotRun
from tests.engines.processes import SEARCH_PATH, find_program
from tests.engines.scratch import scratch_directory

# Limits as small as any machine grants, and no service of the machine: no systemd, no journal.
_CONTAINERS_CONF = """[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
"""


class Podman:
    """`run` gives the finished process, whatever its exit code. Images and logins are kept in `directory`."""

    def __init__(self, program: str, directory: Path) -> None:
        self._program = program
        self.directory = directory
        (directory / "containers.conf").write_text(_CONTAINERS_CONF)
        (directory / "auth.json").write_text("{}")  # named by a variable, it must be there before a login

    def run(self, *arguments: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        places = [f"--root={self.directory / 'root'}", f"--runroot={self.directory / 'run'}"]
        return subprocess.run(
            # vfs: a store that needs no mount.
            [self._program, *places, "--storage-driver=vfs", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
            cwd=self.directory,
            env={
                "PATH": SEARCH_PATH,
                "LC_ALL": "C.UTF-8",
                "HOME": str(self.directory),
                "TMPDIR": str(self.directory),
                "XDG_RUNTIME_DIR": str(self.directory),
                "REGISTRY_AUTH_FILE": str(self.directory / "auth.json"),
                "CONTAINERS_CONF": str(self.directory / "containers.conf"),
            },
        )


@contextlib.contextmanager
def podman_client() -> Iterator[Podman]:
    if os.geteuid() != 0:
        raise EngineCannotRun("without root podman needs subordinate ids")
    program = find_program("podman", "registry-clients")
    with scratch_directory("podman") as directory:
        yield Podman(program, directory)
