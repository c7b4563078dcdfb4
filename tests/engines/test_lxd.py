"""LXD under test: what it leaves behind, and what its instances outlive."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.engines.lxd import LxdEngine
from tests.engines.lxd_image import unified_image
from tests.engines.processes import wait_until

pytestmark = pytest.mark.engine("lxd")

_START_AND_LAUNCH = """
import sys, tests.engines.test_lxd as here
from tests.engines.lxd import lxd_engine
with lxd_engine() as engine:
    here.launch(engine, "left")
    print(engine.state.parent, flush=True)
    sys.stdin.read()
"""


def launch(engine: LxdEngine, name: str) -> None:
    client = engine.client()
    uploaded = client.api.images.post(data=unified_image(), headers={"Content-Type": "application/octet-stream"})
    source = {"type": "image", "fingerprint": engine.wait(client, uploaded)["fingerprint"]}
    engine.wait(client, client.api.instances.post(json={"name": name, "source": source}))
    start = {"action": "start", "timeout": 10}
    engine.wait(client, client.api.instances[name].state.put(json=start))


def status_of(engine: LxdEngine, name: str) -> str:
    return str(engine.client().api.instances[name].get().json()["metadata"]["status"])


def test_instances_outlive_their_lxd_and_end_with_the_machine(lxd_engine: LxdEngine) -> None:
    launch(lxd_engine, "durable")
    for end in (lxd_engine.kill, lxd_engine.stop):
        end()
        lxd_engine.start()
        assert status_of(lxd_engine, "durable") == "Running"
    lxd_engine.reboot()
    lxd_engine.start()
    # LXD starts what ran, some time after it answers.
    assert wait_until(lambda: status_of(lxd_engine, "durable") == "Running", 20, 0.1)


@pytest.mark.parametrize("killed", [False, True])
def test_nothing_is_left_when_the_tests_end_or_are_killed(lxd_engine: LxdEngine, killed: bool) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _START_AND_LAUNCH], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        directory = starter.stdout.readline().strip()
        assert directory
        if killed:
            starter.kill()
        starter.communicate()
    assert wait_until(lambda: not _naming(directory), 10)
    mounts = Path("/proc/self/mounts").read_text()
    assert directory not in mounts
    assert killed or not Path(directory).exists()


def _naming(text: str) -> list[str]:
    """Command lines of processes that name it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found
