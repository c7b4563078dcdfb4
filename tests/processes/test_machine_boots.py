"""A bare machine, a real centre, a real regional: seen, accepted, approved, and installed while the centre is dead."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from deploy.demo.fleet import Fleet, Idc, Node

pytestmark = pytest.mark.processes
MAC = "52-54-00-12-34-56"
SPEC = {
    "system": {"family": "debian", "version": "12"},
    "boot": {"kernel": "kernels/vmlinuz", "initrds": ["initramfs/initrd.gz"]},
    "root_password_hash": "$6$saltsalt$" + "a" * 86,
    "source": "/repos/debian/12",
}


@pytest.fixture
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    idc = Idc("east", Node("regional-east"), ())
    with Fleet(tmp_path_factory.mktemp("boots"), Node("centre"), [idc], runtime="none") as fleet:
        fleet.start()
        static = fleet.root / "regional-east" / "tftpboot" / "static"
        for name in ("kernels/vmlinuz", "initramfs/initrd.gz"):
            (static / name).write_bytes(name.encode())
        yield fleet


def fetched(fleet: Fleet, path: str, body: Any = None) -> str:
    port = fleet.services["regional-east"].facts["api"]
    data = json.dumps(body).encode() if body is not None else None
    url = path if path.startswith("http") else f"http://127.0.0.1:{port}{path}"
    with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=30) as answer:
        return str(answer.read().decode())


def script(fleet: Fleet) -> str:
    return fetched(fleet, f"/boot/{MAC}/next.ipxe?serial=SN-1&uuid=&platform=efi&arch=x86_64")


def eventually(condition: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def test_a_machine_is_installed_while_the_centre_is_dead(fleet: Fleet) -> None:
    assert "sanboot" in script(fleet)
    machine = eventually(lambda: next(iter(fleet.client.every("/api/v1/machines")), None))
    assert machine["macs"] == [MAC.replace("-", ":")]
    fleet.client.post(f"/api/v1/machines/{machine['id']}/accept")
    profile = fleet.client.post("/api/v1/profiles", {"name": "debian", "spec": SPEC})["data"]
    wish = {"machine": machine["id"], "profile": profile["id"]}
    task = fleet.client.post("/api/v1/install-tasks", wish)["data"]
    fleet.client.post(f"/api/v1/install-tasks/{task['id']}/approve", {})
    eventually(lambda: _armed(fleet))
    fleet.control_plane.kill()
    words = next(line for line in script(fleet).splitlines() if line.startswith("kernel ")).split()
    assert fetched(fleet, words[1]) == "kernels/vmlinuz"
    answers = next(word.partition("=")[2] for word in words if word.startswith(("url=", "preseed/url=")))
    assert "d-i " in fetched(fleet, answers)
    finish = fetched(fleet, answers.rpartition("/")[0] + "/finish.sh")
    (device,) = [line.split("'")[1] for line in finish.splitlines() if line.startswith("LONGSHORE_DEVICE=")]
    assert "completed" in fetched(fleet, f"{device}/operationComplete", {"operation": "os-install"})
    fleet.services["regional-east"].kill()
    fleet.services["regional-east"].start()
    assert "/kernel" not in script(fleet)
    fleet.control_plane.start()
    path = f"/api/v1/install-tasks/{task['id']}"
    eventually(lambda: fleet.client.get(path)["data"]["state"] == "completed")
    history = [each["state"] for each in fleet.client.get(f"{path}/history")["data"]]
    assert history == ["pending", "approved", "booting", "installing", "completed"]
    events = [each["stage"] for each in fleet.client.get(f"/api/v1/machines/{machine['id']}/events")["data"]]
    assert "script" in events


def _armed(fleet: Fleet) -> bool:
    """Asking for the script is what is to happen later, so what the regional knows is looked at from aside."""
    journal = fleet.root / "regional-east" / "machines"
    return any(b"placeholder" in path.read_bytes() or b"vmlinuz" in path.read_bytes() for path in journal.glob("*"))
