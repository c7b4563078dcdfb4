"""A centre, a regional and a BMC as processes, and a computer in QEMU that the BMC turns on and off."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from common.errors import Failure
from deploy.demo.fleet import Fleet, Idc, Node
from tests.engines.bmcs import PASSWORD, USER, RunningBmc, redfish_bmc
from tests.engines.fixtures import running
from tests.engines.plugged import Plugged, plugged
from tests.pace import BUSY_SECONDS

pytestmark = pytest.mark.processes
SPEC = {
    "system": {"family": "debian", "version": "12"},
    "boot": {"kernel": "kernels/vmlinuz", "initrds": ["initramfs/initrd.gz"]},
    "root_password_hash": "$6$saltsalt$" + "a" * 86,
    "source": "/repos/debian/12",
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    idc = Idc("east", Node("regional-east", arguments=("--bmc-network=127.0.0.0/8",)), ())
    with Fleet(tmp_path_factory.mktemp("power"), Node("centre"), [idc], runtime="none") as fleet:
        fleet.start()
        yield fleet


@pytest.fixture
def bmc(tmp_path: Path) -> Iterator[RunningBmc]:
    with redfish_bmc(tmp_path) as started:
        yield started


@pytest.fixture
def computer(bmc: RunningBmc, tmp_path: Path) -> Iterator[Plugged]:
    with running("qemu", plugged(bmc, tmp_path)) as machine:
        yield machine


class Site:
    """A machine of its own, whose BMC the centre knows."""

    def __init__(self, fleet: Fleet, bmc: RunningBmc, number: int) -> None:
        self.fleet = fleet
        wish = {"idc": "east", "macs": [f"52:54:00:12:34:{number:02}"], "name": f"web-{number}"}
        self.machine = fleet.client.post("/api/v1/machines", wish)["data"]["id"]
        self._power = f"/api/v1/machines/{self.machine}/power"
        self._bmc = bmc.bmc
        self.knows(PASSWORD)

    def knows(self, password: str, fingerprint: str | None = None) -> None:
        said = {"protocol": "redfish", "address": self._bmc.address, "port": self._bmc.port, "username": USER}
        pinned = self._bmc.fingerprint if fingerprint is None else fingerprint
        self.fleet.client.put(f"{self._power}/bmc", {**said, "password": password, "fingerprint": pinned})

    def order(self, deed: str) -> str:
        return str(self.fleet.client.post(f"{self._power}/orders", {"deed": deed})["data"]["id"])

    def is_(self, order: str) -> dict[str, Any]:
        return dict(self.fleet.client.get(f"{self._power}/orders/{order}")["data"])

    def over(self, order: str) -> dict[str, Any]:
        eventually(lambda: self.is_(order)["state"] not in ("waiting", "taken", "running"))
        return self.is_(order)

    def latest(self) -> str:
        return str(self.fleet.client.get(f"{self._power}/orders")["data"][0]["id"])


def eventually(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 3 * BUSY_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def test_a_computer_is_switched_through_the_whole_way_and_installed_from_the_network(
    fleet: Fleet, bmc: RunningBmc, computer: Plugged
) -> None:
    site = Site(fleet, bmc, 1)
    done = site.over(site.order("on"))
    assert (done["state"], done["power"], done["detail"]) == ("done", "on", "it is on")
    eventually(lambda: computer.is_on)
    profile = fleet.client.post("/api/v1/profiles", {"name": "debian", "spec": SPEC})["data"]
    task = fleet.client.post("/api/v1/install-tasks", {"machine": site.machine, "profile": profile["id"]})["data"]
    fleet.client.post(f"/api/v1/install-tasks/{task['id']}/approve", {"power": True})
    done = site.over(site.latest())
    assert (done["deed"], done["state"], done["task_id"]) == ("network", "done", task["id"])
    eventually(lambda: computer.boots[-1:] == ["Pxe"] and computer.is_on)
    assert site.over(site.order("off"))["power"] == "off"
    eventually(lambda: not computer.is_on)
    site.knows("wrong")
    assert "refuses the user or the password" in site.over(site.order("on"))["detail"]
    site.knows(PASSWORD, "ab" * 32)
    refused = site.over(site.order("on"))["detail"]
    assert bmc.bmc.fingerprint in refused  # to compare, and to give
    assert not computer.is_on


def test_a_regional_killed_in_the_middle_of_a_restart_never_restarts_twice(fleet: Fleet, bmc: RunningBmc) -> None:
    site, regional = Site(fleet, bmc, 2), fleet.services["regional-east"]
    assert site.over(site.order("on"))["state"] == "done"
    bmc.process.pause()
    order = site.order("cycle")
    eventually(lambda: site.is_(order)["state"] == "running")
    with pytest.raises(Failure, match="not over"):
        site.order("cycle")
    regional.kill()
    before = len(bmc.changes)
    bmc.process.resume()
    data = fleet.root / "regional-east"
    kept = b"".join(one.read_bytes() for one in data.rglob("*") if one.is_file())
    assert PASSWORD.encode() not in kept
    regional.start()
    assert site.over(order)["state"] == "uncertain"
    assert all(change["power"] == "on" for change in bmc.changes[before:])
    assert site.over(site.order("look"))["power"] == "on"
