"""skopeo: a registry client that is not ours, to prove that others can push to and pull from us."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.engines.processes import SEARCH_PATH, find_program
from tests.engines.scratch import scratch_directory


class Skopeo:
    """`run` gives the finished process, whatever its exit code; `directory` is room for layouts and archives."""

    def __init__(self, program: str, directory: Path) -> None:
        self._program = program
        self.directory = directory

    def run(self, *arguments: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._program, "--insecure-policy", "--tmpdir", str(self.directory), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
            cwd=self.directory,
            # An empty home: no credentials or registry settings of the machine play a part.
            env={
                "PATH": SEARCH_PATH,
                "LC_ALL": "C.UTF-8",
                "HOME": str(self.directory),
                "XDG_RUNTIME_DIR": str(self.directory),
            },
        )


@contextlib.contextmanager
def skopeo_client() -> Iterator[Skopeo]:
    program = find_program("skopeo", "registry-clients")
    with scratch_directory("skopeo") as directory:
        yield Skopeo(program, directory)
