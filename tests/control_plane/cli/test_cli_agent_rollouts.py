"""A real agent is replaced from the command line, and says how busy its host is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.agent_version import build_version
from tests.control_plane.cli.programs import Longshore

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def host(admin: Longshore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A supervised agent that joined as `north/n1`."""
    directory = tmp_path_factory.mktemp("host")
    assert admin("idc", "create", "north").code == 0
    token = admin("join-token", "create", "--idc", "north", "--name", "n1").text.strip()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LONGSHORE")}  # noqa: TID251
    options = [f"--server={admin.server}", "--name=n1", f"--join-token={token}", "--runtime=memory"]
    with (directory / "log").open("wb") as log:
        running = subprocess.Popen(
            [sys.executable, "-m", "agent", "supervise", f"--data={directory}/data", *options],
            stdout=log,
            stderr=log,
            env=environment,
        )
    try:
        until(lambda: "online" in admin("host", "list", "--idc", "north").text, directory / "log")
        yield "north/n1"
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait(30)


def until(condition: Callable[[], bool], log: Path | None = None, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, log.read_text()[-3000:] if log is not None else ""
        time.sleep(0.2)


def test_a_version_is_pushed_rolled_out_and_runs(
    admin: Longshore, viewer: Longshore, host: str, tmp_path: Path
) -> None:
    digest = build_version(tmp_path / "layout", "7.7.7", python=sys.executable)
    assert admin("image", "push", tmp_path / "layout", "acme/agent:7.7.7").code == 0
    begin = ("agent-rollout", "begin", "acme/agent:7.7.7", "--host", host, "--healthy", "1", "--bake", "0")
    assert viewer(*begin).code == 4
    made = admin(*begin, "--json").json
    assert (made["state"], made["wave"], made["version"]) == ("running", 1, "7.7.7")

    def phase() -> str:
        return str(viewer("agent-rollout", "show", made["id"], "--json").json["hosts"][0]["phase"])

    until(lambda: phase() == "running")
    shown = viewer("host", "show", host, "--json").json
    assert (shown["version"], shown["facts"]["artifact"]) == ("7.7.7", str(digest))
    assert shown["facts"]["processor"]["threads"] > 0
    assert shown["facts"]["kernel"]
    assert made["id"] in viewer("agent-rollout", "list").text
    assert admin("agent-rollout", "resume", made["id"]).code != 0
    assert admin("agent-rollout", "cancel", made["id"]).code == 0
    assert made["id"] not in viewer("agent-rollout", "list").text


def test_how_busy_the_host_is(viewer: Longshore, host: str) -> None:
    until(lambda: viewer("host", "metrics", host).code == 0)
    found = viewer("host", "metrics", host, "--json").json
    assert found["memory_total_bytes"] > found["memory_used_bytes"] > 0
    assert viewer("instance", "stats", "01900000-0000-7000-8000-0000deadbeef").code != 0


def test_what_makes_no_sense_is_refused(admin: Longshore, host: str) -> None:
    assert admin("agent-rollout", "begin", "acme/nothing:1", "--host", host).code != 0
    assert admin("agent-rollout", "begin", "acme/agent:7.7.7", "--label", "quick").code == 2
    assert admin("agent-rollout", "begin", "acme/agent:7.7.7", "--healthy", "300").code != 0
