"""`longshore instance logs|exec|console` against a real control plane and a real agent, whose engine is in memory."""

import json
import os
import pty
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.services import Service
from tests.control_plane.cli.programs import Longshore, Plane, eventually

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def agent(admin: Longshore, layout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """It runs the instance `web`."""
    assert admin("image", "push", layout, "acme/web:1").code == 0
    assert admin("idc", "create", "north").code == 0
    directory = tmp_path_factory.mktemp("agent")
    token = directory / "token"
    token.write_text(admin("join-token", "create", "--idc", "north", "--name", "north-1").text)
    arguments = ["run", f"--server={admin.server}", "--name=north-1", f"--join-token-file={token}", "--runtime=memory"]
    running = Service("agent", "agent", [*arguments, f"--data={directory / 'data'}"], directory / "data")
    running.start()
    eventually(lambda: any(row["state"] == "online" for row in admin("host", "list", "--json").json))
    assert admin("instance", "run", "acme/web:1", "--host", "north/north-1", "--wait", "60").code == 0
    yield running
    running.stop()


@dataclass
class Terminal:
    """The program at a terminal of its own."""

    process: subprocess.Popen[bytes]
    ours: int
    theirs: int
    before: list[object]

    def read_until(self, wanted: bytes, seconds: float = 30) -> bytes:
        found, deadline = b"", time.monotonic() + seconds
        os.set_blocking(self.ours, False)
        while wanted not in found:
            assert time.monotonic() < deadline, found
            try:
                found += os.read(self.ours, 65_536)
            except BlockingIOError:
                time.sleep(0.01)
        return found

    @property
    def is_as_before(self) -> bool:
        return termios.tcgetattr(self.theirs) == self.before


def at_terminal(program: Longshore, *words: str) -> Terminal:
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    process = subprocess.Popen(
        program.command(*words), env=program.variables(), stdin=theirs, stdout=theirs, stderr=theirs
    )
    return Terminal(process, ours, theirs, before)


def test_a_command_runs_and_its_exit_code_is_ours(admin: Longshore, agent: Service) -> None:
    said = admin("instance", "exec", "web", "echo", "-n", "hi")
    assert (said.code, said.out, said.err) == (0, "-n hi\n", "")
    said = admin("instance", "exec", "web", "--", "sh", "-c", "echo oops >&2")
    assert (said.code, said.out, said.err) == (0, "", "oops\n")
    assert admin("instance", "exec", "web", "sh", "-c", "exit 7").code == 7
    assert "A=b\n" in admin("instance", "exec", "-e", "A=b", "web", "env").out
    instance = admin("instance", "list", "--name", "web", "--json").json[0]["id"]
    assert admin("instance", "exec", "-w", "/srv", instance, "pwd").out == "/srv\n"


def test_more_than_a_window_goes_in_and_comes_out_whole(admin: Longshore, agent: Service) -> None:
    sent = "".join(f"{number:07d}\n" for number in range(200_000))
    said = admin("instance", "exec", "-i", "web", "cat", stdin=sent)
    assert said.code == 0
    assert said.out == sent


def test_logs_end_and_wrong_names_are_told(admin: Longshore, viewer: Longshore, agent: Service) -> None:
    assert viewer("instance", "logs", "web", "--since", "10m", "--tail", "5").code == 0
    assert json.loads(admin("instance", "logs", "web", "--json").out) == {"end": {"code": "ended"}}
    assert admin("instance", "logs", "nothere").code == 5
    assert admin("instance", "logs", "web", "--since", "soon").code == 2
    assert viewer("instance", "exec", "web", "ls").code == 4


def test_the_terminal_is_raw_while_a_command_has_it_and_as_before_afterwards(admin: Longshore, agent: Service) -> None:
    terminal = at_terminal(admin, "instance", "exec", "-it", "web", "cat")
    eventually(lambda: not terminal.is_as_before)
    os.write(terminal.ours, b"\x03typed")  # Ctrl-C goes to the command
    assert b"\x03typed" in terminal.read_until(b"typed")
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.process.wait(10) == 128 + signal.SIGTERM
    assert terminal.is_as_before


def test_a_console_is_left_by_its_key(admin: Longshore, agent: Service) -> None:
    terminal = at_terminal(admin, "instance", "console", "web")
    eventually(lambda: not terminal.is_as_before)
    os.write(terminal.ours, b"hello")
    terminal.read_until(b"hello")
    os.write(terminal.ours, b"\x1d")
    assert terminal.process.wait(10) == 0
    assert terminal.is_as_before


def test_a_command_is_in_the_audit_trail(admin: Longshore, agent: Service) -> None:
    assert admin("instance", "exec", "-i", "web", "cat", stdin="hunter2").code == 0

    def entries() -> list[dict[str, Any]]:
        return list(admin("audit", "list", "--operation", "instance.exec", "--json").json)

    def ours() -> list[dict[str, Any]]:
        return [entry for entry in entries() if entry["details"]["command"] == ["cat"]]

    eventually(lambda: bool(ours()))  # it is written down within a second
    assert ours()[0]["subject"] == "web"
    assert "hunter2" not in json.dumps(entries())


def test_whoever_is_killed_the_others_end_with_a_word(admin: Longshore, plane: Plane, agent: Service) -> None:
    command = admin.command("instance", "exec", "web", "sleep", "1000")

    def begun() -> subprocess.Popen[bytes]:
        count = plane.service.log_path.read_text().count("channel opened")
        process = subprocess.Popen(command, env=admin.variables(), stderr=subprocess.PIPE)
        eventually(lambda: plane.service.log_path.read_text().count("channel opened") > count)
        return process

    process = begun()
    agent.kill()
    _, said = process.communicate(timeout=20)
    assert process.returncode == 1
    assert b"the host's end of the channel is gone" in said
    agent.start()
    eventually(lambda: admin("instance", "exec", "web", "true").code == 0)

    process = begun()
    plane.service.kill()
    _, said = process.communicate(timeout=20)
    assert process.returncode == 7
    assert b"broke" in said
    eventually(lambda: "channel broken off" in agent.log_tail())
    plane.service.start()
    eventually(lambda: admin("instance", "exec", "web", "true").code == 0)

    process = begun()
    plane.service.stop()
    _, said = process.communicate(timeout=20)
    assert process.returncode == 1
    assert b"the control plane stops" in said
    plane.service.start()
