"""Data centres, machines, join tokens and instances."""

from pathlib import Path

import pytest

from tests.control_plane.cli.programs import Longshore

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def east(admin: Longshore) -> str:
    assert admin("idc", "create", "east").code == 0
    return "east"


@pytest.fixture(scope="module")
def image(admin: Longshore, layout: Path) -> str:
    assert admin("image", "push", layout, "acme/web:1").code == 0
    return "acme/web:1"


def test_a_data_centre_lives_and_goes(admin: Longshore) -> None:
    assert admin("idc", "create", "north", "--display-name", "Up North").text == "IDC north created."
    assert admin("idc", "show", "north", "--json").json["display_name"] == "Up North"
    assert "name: north" in admin("idc", "show", "north").text.splitlines()
    assert any(row["name"] == "north" for row in admin("idc", "list", "--json").json)
    assert admin("idc", "create", "north").code == 6
    assert admin("idc", "create", "No Name!").code == 2
    assert admin("idc", "rm", "north").code == 0
    assert admin("idc", "show", "north").code == 5


def test_a_join_token_is_shown_once(admin: Longshore, east: str) -> None:
    token = admin("join-token", "create", "--idc", east, "--name", "east-1").text
    assert token.startswith("LSJOIN-1-")
    listing = admin("join-token", "list")
    assert token not in listing.out
    (row,) = [row for row in admin("join-token", "list", "--json").json if row["name"] == "east-1"]
    (line,) = [line for line in listing.text.splitlines() if row["id"] in line]
    assert line.split()[1:4] == ["host", "east", "east-1"]
    assert row["expires_at"] in line
    assert admin("join-token", "rm", row["id"]).code == 0
    assert row["id"] not in admin("join-token", "list").out


def test_a_join_token_for_nowhere_or_nothing_is_refused(admin: Longshore, east: str) -> None:
    assert admin("join-token", "create", "--idc", "nowhere").code == 5
    assert admin("join-token", "create", "--idc", east, "--kind", "toaster").code == 2
    assert admin("join-token", "create", "--idc", east, "--ttl-seconds", "0").code == 2
    assert admin("join-token", "create").code == 2


def test_no_machines_are_an_empty_table(admin: Longshore, east: str) -> None:
    assert admin("host", "list", "--json").json == []
    assert admin("regional", "list", "--idc", east, "--json").json == []
    assert admin("host", "list", "--state", "online").text.split()[:3] == ["NAME", "IDC", "STATE"]
    assert admin("host", "list", "--state", "asleep").code == 2


def test_machines_that_are_not_there_end_with_5(admin: Longshore, east: str) -> None:
    for kind in ("host", "regional"):
        assert admin(kind, "show", f"{east}/nobody").code == 5
        assert admin(kind, "rm", f"{east}/nobody").code == 5


def test_the_status_counts_by_data_centre(admin: Longshore, east: str) -> None:
    picture = admin("status", "--json").json
    assert {row["name"] for row in picture["idcs"]} >= {east}
    (line,) = [line for line in admin("status").text.splitlines() if line.startswith(east)]
    assert line.split() == [east, "0", "0", "0", "0", "0", "0", "B"]


def test_an_instance_on_a_host_that_is_not_there_ends_with_5(admin: Longshore, east: str, image: str) -> None:
    for places in (["--host", f"{east}/nobody"], ["--idc", east], ["--idc", "nowhere"], ["--all-hosts"]):
        answer = admin("instance", "run", image, *places)
        assert (answer.code, answer.out) == (5, ""), places


def test_an_instance_that_is_not_there_ends_with_5(admin: Longshore) -> None:
    for verb in ("show", "start", "stop", "restart", "rm"):
        assert admin("instance", verb, "7f000000-0000-7000-8000-000000000000").code == 5, verb


@pytest.mark.parametrize(
    "words",
    [
        ["acme/web:1"],
        ["web:1", "--all-hosts"],
        ["acme/web:..", "--all-hosts"],
        ["acme/web:1", "--all-hosts", "--env", "NOVALUE"],
        ["acme/web:1", "--all-hosts", "--publish", "eighty"],
        ["acme/web:1", "--all-hosts", "--cpus", "many"],
    ],
    ids=" ".join,
)
def test_a_wrong_wish_for_an_instance_ends_with_2(words: list[str], admin: Longshore) -> None:
    assert admin("instance", "run", *words).code == 2


def test_where_bytes_came_from_and_who_sent_false_ones_is_shown(admin: Longshore, viewer: Longshore) -> None:
    headings = {
        "provenance": ["IDC", "DIGEST", "TENANT", "HOSTS", "SIZE", "CENTRE", "REGIONAL", "PEERS", "REUSED", "WASTED"],
        "contents": ["IDC", "HOST", "DIGEST", "TENANT", "SIZE", "HELD", "VERIFIED"],
        "egress": ["IDC", "DIGEST", "SIZE", "BYTES"],
        "offences": ["WHEN", "WHAT", "FROM", "WHO", "IDC", "SAYS", "TENANT", "DIGEST"],
    }
    for name, columns in headings.items():
        for program in (admin, viewer):
            assert program("swarm", name).text.split()[: len(columns)] == columns
            assert program("swarm", name, "--json").json == []
    assert admin("swarm", "offences", "--digest", "sha256:zz").code == 2
