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
    assert "not today" in viewer("install", "show", task["id"]).text
    assert admin("install", "wait", task["id"]).code == 1
    assert viewer("install", "logs", task["id"]).text == ""
    assert "1 ready" in admin("machine", "statistics").text
    assert admin("machine", "remove", "rack-1/web").code == 0
    assert admin("profile", "remove", "debian").code == 0


def test_what_makes_no_sense_is_refused(admin: Longshore, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("- a list")
    assert admin("profile", "create", "wrong", wrong).code == 2
    assert admin("profile", "create", "wrong", tmp_path / "none.yaml").code == 2
    wrong.write_text("system: {family: debian, version: '1'}\nboot: {kernel: k}\n")
    assert admin("profile", "create", "wrong", wrong).code == 2
    assert admin("machine", "show", "rack-1/none").code == 5
    assert admin("machine", "create", "nowhere", "--mac", "52:54:00:00:00:01").code == 5
