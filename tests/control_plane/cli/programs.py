"""`longshore` and the control plane as processes, and images as they lie on a disk."""

import functools
import json
import os
import re
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from deploy.demo.services import Service

PASSWORD = re.compile(r"admin password: (\S+)")
SECONDS = 90


@dataclass
class Plane:
    service: Service
    url: str
    password: str


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What was printed, which is one JSON document and nothing else."""
        assert self.code == 0, self
        return json.loads(self.out)

    @property
    def text(self) -> str:
        assert self.code == 0, self
        return self.out.strip()


@dataclass(frozen=True)
class Longshore:
    """The program with one user's home."""

    server: str
    home: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def credentials(self) -> Path:
        return self.home / "config" / "credentials.json"

    def __call__(self, *words: str | Path, stdin: str = "") -> Answer:
        done = _forked(list(map(str, words)), self.variables(), stdin)
        assert "Traceback" not in done.err, done.err
        return done

    def command(self, *words: str | Path) -> list[str]:
        """For tests that run the program itself; a call forks a process that has imported it (nursery.py)."""
        return [sys.executable, "-m", "control_plane.cli", *map(str, words)]

    def variables(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],  # noqa: TID251
            "HOME": str(self.home),
            "PYTHONPATH": str(Path(__file__).parents[3]),
            "LONGSHORE_SERVER": self.server,
            "LONGSHORE_CREDENTIALS": str(self.credentials),
            **self.environment,
        }

    def with_environment(self, **variables: str) -> "Longshore":
        return replace(self, environment={**self.environment, **variables})


@functools.cache
def _nursery() -> tuple[str, subprocess.Popen[bytes]]:
    """The name of its socket, in the kernel's table alone, and the process: it ends when its standard input does."""
    name = f"\0longshore-tests-cli-{os.getpid()}"
    root = str(Path(__file__).parents[3])
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.control_plane.cli.nursery", name[1:]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=root,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": root},  # noqa: TID251
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"listening\n"
    return name, process


def _forked(arguments: list[str], environment: Mapping[str, str], stdin: str) -> Answer:
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as connection:
        files = {name: Path(directory, name) for name in ("stdin", "stdout", "stderr")}
        for name, path in files.items():
            path.write_text(stdin if name == "stdin" else "")
        connection.settimeout(SECONDS)
        connection.connect(_nursery()[0])
        order = {"arguments": arguments, "environment": dict(environment), "directory": str(Path.cwd())}
        with connection.makefile("rw") as lines:
            print(json.dumps(order | {name: str(path) for name, path in files.items()}), file=lines, flush=True)
            status = int(lines.readline())
        code = os.waitstatus_to_exitcode(status)
        return Answer(code, files["stdout"].read_text(), files["stderr"].read_text())


def started(directory: Path, *, prints_password: bool = True, environment: Mapping[str, str] | None = None) -> Plane:
    """A control plane on free ports that it comes back to when it is started again."""
    arguments = ["serve", "--http=127.0.0.1:0", "--enrolment=127.0.0.1:0", "--attach=127.0.0.1:0"]
    service = Service(
        "control-plane", "control_plane", [*arguments, f"--data={directory}"], directory, environment=environment or {}
    )
    ready = service.start()
    service.arguments = [
        "serve",
        *(f"--{option}={ready[option]}" for option in ("http", "enrolment", "attach")),
        f"--data={directory}",
    ]
    if not prints_password:
        return Plane(service, f"http://{ready['http']}", "")
    # It says that it is ready a moment before it prints the password.
    eventually(lambda: PASSWORD.search(service.log_path.read_text()) is not None)
    return Plane(service, f"http://{ready['http']}", PASSWORD.findall(service.log_path.read_text())[0])


def log_in(program: Longshore, name: str, password: str) -> Answer:
    return program("login", "-u", name, "--password-stdin", stdin=password + "\n")


def layout_digest(layout: Path) -> str:
    return str(json.loads((layout / "index.json").read_bytes())["manifests"][0]["digest"])


def layout_blobs(layout: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (layout / "blobs" / "sha256").iterdir()}


def tar_of(directory: Path, target: Path) -> Path:
    with tarfile.open(target, "w") as archive:
        for path in sorted(directory.iterdir()):
            archive.add(path, path.name)
    return target


def eventually(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)
