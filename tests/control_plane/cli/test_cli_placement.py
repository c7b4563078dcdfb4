"""Deployments, drained hosts and commands on two real agents, whose engines are those in memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.services import Service
from tests.control_plane.cli.programs import Longshore, eventually

pytestmark = pytest.mark.processes
NAMES = ("east-1", "east-2")


@pytest.fixture(scope="module")
def hosts(admin: Longshore, layout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Two agents that are online, and the image acme/web:1."""
    assert admin("image", "push", layout, "acme/web:1").code == 0
    assert admin("idc", "create", "east").code == 0
    agents = []
    for name in NAMES:
        directory = tmp_path_factory.mktemp(name)
        token = directory / "token"
        token.write_text(admin("join-token", "create", "--idc", "east", "--name", name).text)
        arguments = ["run", f"--server={admin.server}", f"--name={name}", f"--join-token-file={token}"]
        arguments += ["--runtime=memory", f"--data={directory / 'data'}"]
        agents.append(Service("agent", "agent", arguments, directory / "data"))
        agents[-1].start()
    eventually(lambda: len([row for row in admin("host", "list", "--json").json if row["state"] == "online"]) == 2)
    yield
    for agent in agents:
        agent.stop()


def running(admin: Longshore) -> list[str]:
    """Hosts on which an instance of acme/web runs."""
    found = admin("deployment", "show", "acme/web", "--json").json
    return sorted(slot["host"] for slot in found["slots"] if slot["phase"] == "running")


def test_instances_by_rules_move_away_from_a_drained_host(admin: Longshore, hosts: None) -> None:
    made = admin("deployment", "run", "acme/web:1", "--count", "1", "--spread", "idc", "--json").json
    eventually(lambda: len(running(admin)) == 1)
    (first,) = running(admin)
    assert admin("host", "drain", first, "--reason", "new disks", "--wait", "60", "--json").json["finished"]
    eventually(lambda: running(admin) == [f"east/{name}" for name in NAMES if f"east/{name}" != first])
    assert admin("deployment", "scale", "acme/web", "2").text.startswith("acme/web: 2 wanted; 1 without a place: ")
    assert admin("host", "uncordon", first).text == f"Host {first} takes new instances."
    eventually(lambda: len(running(admin)) == 2, seconds=60)
    assert made["id"] in admin("deployment", "list").text
    rooms = {row["host"]: row for row in admin("host", "room", "--json").json}
    assert min(rooms[f"east/{name}"]["instances"] for name in NAMES) >= 1


def test_another_image_is_rolled_out_paused_and_undone(admin: Longshore, hosts: None, layout: Path) -> None:
    assert admin("image", "push", layout, "acme/shop:1").code == 0
    assert admin("image", "push", layout, "acme/shop:2").code == 0
    assert admin("deployment", "run", "acme/shop:1", "--count", "2", "--json").json["rollout"] == "finished"
    nothing = admin("deployment", "rollout", "pause", "acme/shop")
    assert (nothing.code != 0, "is rolled out" in nothing.err) == (True, True)
    pace = ("--healthy-seconds", "1", "--patience-seconds", "90", "--max-surge", "0")
    done = admin("deployment", "set-image", "acme/shop", "acme/shop:2", *pace, "--wait", "60")
    assert done.text == "acme/shop revision 2 (acme/shop:2) is finished: 2 of 2 told, 2 running."
    undone = admin("deployment", "rollout", "undo", "acme/shop", "--wait", "60", "--json").json
    assert (undone["revision"], undone["image"], undone["pace"]["healthy_seconds"]) == (3, "acme/shop:1", 1)
    history = admin("deployment", "rollout", "history", "acme/shop", "--json").json
    assert [row["cause"] for row in history] == ["undoes 2, back to 1", "image acme/shop:2", "made"]
    assert "finished" in admin("deployment", "rollout", "status", "acme/shop").text
    assert admin("deployment", "rm", "acme/shop").code == 0


def test_commands_are_carried_out_by_their_hosts(admin: Longshore, hosts: None) -> None:
    done = admin("command", "host", "east/east-1", "collect_diagnostics", "--wait", "30", "--json").json
    assert '"kind": "memory"' in done["result"]
    assert admin("deployment", "run", "acme/web:1", "--name", "tasks", "--count", "1").code == 0

    def slot_of() -> Any:
        return admin("deployment", "show", "acme/tasks", "--json").json["slots"][0]

    eventually(lambda: slot_of()["phase"] == "running")
    slot = slot_of()
    assert "done" in admin("command", "instance", slot["instance_id"], "restart", "--wait", "30").text
    verified = admin("command", "instance", slot["instance_id"], "refetch", "--wait", "30", "--json").json["result"]
    assert '"damaged": []' in verified
    assert admin("command", "host", "east/east-1", "prune_cache", "--wait", "30").code == 0
    assert len(admin("command", "list", "--host", "east/east-1", "--json").json) >= 2
    assert admin("command", "show", done["id"], "--json").json["state"] == "done"
    assert admin("command", "cancel", done["id"]).code == 6


def test_capacity_is_said_and_seen(admin: Longshore, hosts: None) -> None:
    assert admin("host", "capacity", "east/east-1", "--reserve-cpus", "0.5", "--cpu-overcommit", "2").code == 0
    rows = {row["host"]: row for row in admin("host", "room", "--idc", "east", "--json").json}
    assert rows["east/east-1"]["cpus"] == 2 * (rows["east/east-2"]["cpus"] - 0.5)
    assert "east/east-1" in admin("host", "capacity").text


def test_a_viewer_may_look_and_change_nothing(viewer: Longshore, hosts: None) -> None:
    assert viewer("host", "room").code == 0
    assert viewer("deployment", "list").code == 0
    for words in (
        ["host", "cordon", "east/east-1"],
        ["command", "host", "east/east-1", "prune_cache"],
        ["deployment", "run", "acme/web:1", "--name", "other"],
    ):
        assert viewer(*words).code == 4, words
