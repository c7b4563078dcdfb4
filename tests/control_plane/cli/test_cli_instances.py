"""Instances on a real agent, whose engine is the one in memory."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.demo.services import Service
from tests.control_plane.cli.programs import Longshore, eventually

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def host(admin: Longshore, layout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An agent that is online, and the image acme/web:1."""
    assert admin("image", "push", layout, "acme/web:1").code == 0
    assert admin("idc", "create", "east").code == 0
    directory = tmp_path_factory.mktemp("agent")
    token = directory / "token"
    token.write_text(admin("join-token", "create", "--idc", "east", "--name", "east-1").text)
    arguments = ["run", f"--server={admin.server}", "--name=east-1", f"--join-token-file={token}", "--runtime=memory"]
    agent = Service("agent", "agent", [*arguments, f"--data={directory / 'data'}"], directory / "data")
    agent.start()
    eventually(lambda: any(row["state"] == "online" for row in admin("host", "list", "--json").json))
    yield "east/east-1"
    agent.stop()


def test_a_host_is_shown_with_what_it_says_of_itself(admin: Longshore, host: str) -> None:
    heading, row = admin("host", "list", "--idc", "east").text.splitlines()
    assert heading.split()[:5] == ["NAME", "IDC", "STATE", "ARCH", "ENGINES"]
    (told,) = admin("host", "list", "--json").json
    engine = told["facts"]["engines"][0]
    assert row.split()[:4] == ["east-1", "east", "online", told["facts"]["architecture"]]
    assert f"{engine['kind']} {engine['version']}" in row
    assert told["id"] in row
    lines = admin("host", "show", host).text.splitlines()
    assert f"facts.cpus: {told['facts']['cpus']}" in lines
    assert admin("host", "show", told["id"], "--json").json["name"] == "east-1"


VERBS = (("stop", "stopped"), ("start", "running"), ("pause", "paused"), ("resume", "running"), ("restart", "running"))


def test_an_instance_runs_stops_starts_and_goes(admin: Longshore, host: str) -> None:
    run = ["instance", "run", "acme/web:1", "--host", host, "--wait", "60"]
    (row,) = admin(*run, "--env", "COLOUR=blue", "--json").json
    assert (row["phase"], row["host"], row["name"]) == ("running", "east-1", "web")
    (line,) = [line for line in admin("instance", "list").text.splitlines() if row["id"] in line]
    assert line.split()[:7] == ["acme", "web", "east", "east-1", "acme/web:1", "running", "running"]
    assert f"id: {row['id']}" in admin("instance", "show", row["id"]).text.splitlines()
    assert admin(*run).code == 6  # the same name with another environment
    for verb, phase in VERBS:
        assert admin("instance", verb, row["id"]).text.startswith("web on east-1: ")
        eventually(lambda phase=phase: admin("instance", "show", row["id"], "--json").json["phase"] == phase)
    assert admin("instance", "rm", row["id"], "--json").json["removed"] is True
    eventually(lambda: admin("instance", "list", "--json").json == [])
    assert admin("instance", "show", row["id"]).code == 5


def test_an_instance_of_a_tag_that_is_not_there_ends_with_5(admin: Longshore, host: str) -> None:
    answer = admin("instance", "run", "acme/web:nothere", "--host", host)
    assert (answer.code, answer.out) == (5, "")
    assert "nothere" in answer.err


def test_a_viewer_may_see_instances_and_start_none(viewer: Longshore, host: str) -> None:
    assert viewer("instance", "list").code == 0
    assert viewer("instance", "run", "acme/web:1", "--host", host).code == 4


def test_a_revoked_host_is_shown_only_when_it_is_asked_for(admin: Longshore, host: str) -> None:
    assert admin("host", "rm", host).text == f"Host {host} revoked."
    assert admin("host", "list", "--json").json == []
    assert admin("host", "list", "--state", "revoked", "--json").json[0]["name"] == "east-1"
