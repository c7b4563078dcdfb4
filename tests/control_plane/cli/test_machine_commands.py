"""Machines, profiles and installations from the command line, and a regional's stream at the other end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.control_plane.cli.programs import Longshore

pytestmark = pytest.mark.processes

_SPEC = """\
system: {family: debian, version: "12"}
boot: {kernel: kernels/vmlinuz, initrds: [initramfs/initrd.gz]}
source: /repos/debian/12
root_password_hash: $6$saltsalt$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
"""


def test_a_machine_is_written_down_given_a_profile_and_told_to_install(
    admin: Longshore, viewer: Longshore, tmp_path: Path
) -> None:
    assert admin("idc", "create", "rack-1").code == 0
    mac = ("--mac", "52:54:00:00:00:01")
    assert admin("machine", "create", "rack-1", *mac, "--name", "web", "--serial", "S1").code == 0
    shown = admin("machine", "show", "rack-1/web", "--json").json
    assert (shown["state"], shown["serial"], shown["events"]) == ("ready", "S1", [])
    assert viewer("machine", "show", "rack-1/web").code == 5
    assert admin("machine", "set", "rack-1/web", "--tag", "gpu", "--arguments", "console=ttyS0").code == 0
    assert admin("machine", "set", "rack-1/web", "--firmware", "bios").code == 0
    assert admin("machine", "assign", "rack-1/web", "acme").code == 0
    assert "web" in viewer("machine", "list", "--tag", "gpu").text
    spec = tmp_path / "debian.yaml"
    spec.write_text(_SPEC)
    assert admin("profile", "create", "debian", spec).code == 0
    shown = viewer("profile", "preview", "debian", "--machine", "rack-1/web", "--document", "preseed.cfg")
    assert "web" in shown.text
    assert "aaaaaaaa" not in shown.text + viewer("profile", "show", "debian").text
    task = admin("install", "ask", "rack-1/web", "debian", "--approve", "--json").json
    assert (task["state"], task["attempt"]) == ("approved", 1)
    assert viewer("install", "cancel", task["id"]).code == 4
    assert admin("install", "cancel", task["id"], "--reason", "not today").code == 0
    _power(admin, viewer)
    assert "not today" in viewer("install", "show", task["id"]).text
    assert admin("install", "wait", task["id"]).code == 1
    assert viewer("install", "logs", task["id"]).text == ""
    assert "1 ready" in admin("machine", "statistics").text
    assert admin("machine", "remove", "rack-1/web").code == 0
    assert admin("profile", "remove", "debian").code == 0


def _power(admin: Longshore, viewer: Longshore) -> None:
    """No regional is attached, so nobody takes an order."""
    power, web = ("machine", "power"), "rack-1/web"
    assert "No BMC" in viewer(*power, "show", web).text
    assert admin(*power, "off", web, "--no-wait").code == 5
    login = ("--user", "root", "--password-stdin")
    assert viewer(*power, "bmc", web, "10.0.0.9", *login, stdin="hunter2\n").code == 4
    assert admin(*power, "bmc", web, "10.0.0.9", *login, stdin="\n").code == 2
    told = admin(*power, "bmc", web, "10.0.0.9", *login, stdin="hunter2\n").text
    told += admin(*power, "show", web).text + admin(*power, "show", web, "--json").text
    assert "redfish at 10.0.0.9 port 443" in told
    assert "hunter2" not in told
    assert "10.0.0.9" not in viewer(*power, "show", web).text
    assert viewer(*power, "off", web, "--no-wait").code == 4
    assert admin(*power, "off", web, "--no-wait", "--json").json["state"] == "waiting"
    assert admin(*power, "on", web, "--no-wait").code == 6
    assert "Ordered: off, waiting" in viewer(*power, "show", web).text
    assert admin(*power, "cancel", web).code == 0
    assert admin(*power, "cancel", web).code == 2
    assert "cancelled" in viewer(*power, "history", web).text
    assert admin(*power, "forget", web).code == 0


def test_what_makes_no_sense_is_refused(admin: Longshore, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("- a list")
    assert admin("profile", "create", "wrong", wrong).code == 2
    assert admin("profile", "create", "wrong", tmp_path / "none.yaml").code == 2
    wrong.write_text("system: {family: debian, version: '1'}\nboot: {kernel: k}\n")
    assert admin("profile", "create", "wrong", wrong).code == 2
    assert admin("machine", "show", "rack-1/none").code == 5
    assert admin("machine", "create", "nowhere", "--mac", "52:54:00:00:00:01").code == 5
