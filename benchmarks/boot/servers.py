"""The TFTP servers that are compared, each alone on port 69 while it is measured, stopped by pid.

atftpd and tftpd-hpa cannot be installed beside each other: the former's package is only unpacked, for the run.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.boot.ground import ADDRESS

PORT = 69
_TICKS = os.sysconf("SC_CLK_TCK")
_READY_SECONDS = 30.0


class ServerCannotRun(Exception):
    """Says why."""


@dataclass(frozen=True)
class Running:
    name: str
    pid: int

    def cpu_seconds(self) -> float:
        """Of the process and the children it has waited for."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return sum(int(field) for field in fields[11:15]) / _TICKS


def commands(folder: Path, root: Path) -> Mapping[str, Sequence[str]]:
    """By name; ours is called longshore."""
    return {
        "longshore": (
            *(sys.executable, "-m", "regional", "--idc=bench", f"--server-ip={ADDRESS}", "--api-port=0"),
            *(f"--data={folder / 'data'}", f"--static-root={root}", "--enable-tftp", "--log-level=warning"),
        ),
        "dnsmasq": (
            *("dnsmasq", "--keep-in-foreground", "--port=0", "--enable-tftp", f"--tftp-root={root}", "--user=root"),
            *("--tftp-max=2000", "--conf-file=/dev/null", f"--listen-address={ADDRESS}", "--bind-interfaces"),
            f"--pid-file={folder / 'dnsmasq.pid'}",
        ),
        "tftpd-hpa": ("in.tftpd", "--foreground", "--user", "root", "--address", f"{ADDRESS}:{PORT}", "-s", str(root)),
        "atftpd": (
            *(str(folder / "atftpd/usr/sbin/atftpd"), "--daemon", "--no-fork", "--user", "root.root"),
            *("--bind-address", ADDRESS, "--maxthread", "2000", "--verbose=0", "--logfile", "-", str(root)),
        ),
    }


def unpack_atftpd(folder: Path) -> None:
    """Raises `ServerCannotRun`. Before the network is left."""
    try:
        subprocess.run(["apt-get", "-q", "download", "atftpd"], cwd=folder, check=True, capture_output=True)
        package = next(folder.glob("atftpd_*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(package), str(folder / "atftpd")], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError, StopIteration) as error:
        raise ServerCannotRun(f"atftpd's package cannot be had: {error}") from error


@contextlib.contextmanager
def running(name: str, command: Sequence[str], folder: Path) -> Iterator[Running]:
    """Raises `ServerCannotRun` with the end of its log."""
    settings = {"LONGSHORE_REGIONAL_TFTP_TRANSFERS_PER_CLIENT": "2000"}
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        environment = {**os.environ, **settings}  # noqa: TID251  of a child of this process
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
    try:
        deadline = time.monotonic() + _READY_SECONDS
        while not _answers():
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServerCannotRun(f"{name} does not answer: {log.read_text()[-400:]}")
            time.sleep(0.1)
        yield Running(name, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(0.5)
        probe.sendto(b"\0\1absent\0octet\0", (ADDRESS, PORT))
        try:
            return bool(probe.recv(600))
        except OSError:
            return False


@dataclass(frozen=True)
class Load:
    """`window` 1: the client asks for none."""

    file: str
    clients: int
    block_bytes: int = 1468
    window: int = 1
    seconds: float = 120.0


@dataclass(frozen=True)
class Result:
    completed: int
    megabytes_per_second: float
    slowest_seconds: float
    resent: int
    wrong: int
    cpu_seconds: float


def run(client: Path, load: Load, server: Running) -> Result:
    before = server.cpu_seconds()
    words = [ADDRESS, str(PORT), load.file, str(load.clients), str(load.block_bytes), str(load.window)]
    answer = subprocess.run(
        [str(client), *words, str(load.seconds)], capture_output=True, text=True, check=True, timeout=load.seconds + 30
    )
    found = json.loads(answer.stdout)
    rate = found["bytes"] / max(found["seconds"], 1e-9) / 1e6
    cpu = server.cpu_seconds() - before
    words[:2] = [server.name]
    print(f"# {' '.join(words)}: {rate:.0f} MB/s, {cpu:.2f} CPU seconds, {found['resent']} resent", file=sys.stderr)
    return Result(found["completed"], rate, found["slowest"], found["resent"], found["wrong"], cpu)


def build_client(folder: Path) -> Path:
    """Raises `ServerCannotRun` without a C compiler."""
    program = folder / "client"
    try:
        subprocess.run(["cc", "-O2", "-o", str(program), str(Path(__file__).with_name("client.c"))], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ServerCannotRun("the clients are written in C: apt-get install gcc libc6-dev") from error
    return program
