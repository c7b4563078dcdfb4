"""Robots, groups and grants from the command line, against a real server."""

from pathlib import Path

import pytest

from tests.control_plane.cli.programs import Longshore, layout_digest, log_in

pytestmark = pytest.mark.processes


def program_of(admin: Longshore, home: Path, token: str) -> Longshore:
    home.mkdir(exist_ok=True)
    return Longshore(admin.server, home, {"LONGSHORE_TOKEN": token})


def test_a_robot_pushes_what_its_scope_says_until_it_is_disabled(
    admin: Longshore, layout: Path, tmp_path: Path
) -> None:
    made = admin("--json", "robot", "create", "acme", "ci", "--scope", "acme/ci-*:pull,push").json
    assert made["login"] == "robot/acme/ci"
    robot = program_of(admin, tmp_path / "robot", made["key"])
    assert robot("image", "push", layout, "acme/ci-web:1").code == 0
    assert robot("image", "push", layout, "acme/other:1").code != 0
    assert robot("tenant", "list").code != 0
    assert [row["repository"] for row in robot("--json", "image", "list").json] == ["acme/ci-web"]
    assert "acme/ci-*:pull,push" in admin("robot", "list", "acme").text
    assert admin("robot", "disable", "acme", "ci").text == "Robot ci of acme is disabled."
    assert robot("image", "list").code != 0
    assert admin("robot", "enable", "acme", "ci").code == 0
    key = admin("robot", "rotate", "acme", "ci", "--overlap-hours", "1").text
    for token in (made["key"], key):
        assert program_of(admin, tmp_path / "robot", token)("image", "list").code == 0
    assert admin("robot", "scope", "acme", "ci", "--scope", "acme/x:pull").code == 0
    assert robot("--json", "image", "list").json == []
    assert admin("robot", "delete", "acme", "ci").code == 0
    assert robot("image", "list").code != 0
    for wrong in (("robot", "create", "acme", "x", "--scope", "acme/x:fly"), ("robot", "delete", "acme", "absent")):
        assert admin(*wrong).code != 0


def test_a_repository_is_granted_and_made_public(
    admin: Longshore, stranger: Longshore, layout: Path, tmp_path: Path
) -> None:
    assert admin("image", "push", layout, "acme/shared:1").code == 0
    assert admin("user", "create", "gus", "--password-stdin", stdin="a long password\n").code == 0
    assert log_in(stranger, "gus", "a long password").code == 0
    assert stranger("image", "pull", "acme/shared:1", tmp_path / "no").code != 0
    granted = admin("access", "grant", "acme/shared", "user", "gus", "read", "--expires", "2199-01-31")
    assert granted.text == "The user gus has read on acme/shared."
    assert layout_digest(layout) in stranger("image", "pull", "acme/shared:1", tmp_path / "one").text
    assert [row["repository"] for row in stranger("--json", "image", "list").json] == ["acme/shared"]
    assert "2199-01-31" in admin("access", "list", "acme/shared").text
    assert admin("access", "revoke", "acme/shared", "user", "gus").code == 0
    assert stranger("image", "pull", "acme/shared:1", tmp_path / "two").code != 0
    assert admin("access", "public", "acme/shared").text == "acme/shared is public."
    assert stranger("image", "pull", "acme/shared:1", tmp_path / "three").code == 0
    assert stranger("access", "show", "acme/shared").code == 0
    assert stranger("access", "private", "acme/shared").code != 0
    assert [row["repository"] for row in admin("--json", "image", "list", "--visibility", "public").json] == [
        "acme/shared"
    ]
    assert admin("access", "private", "acme/shared").code == 0


def test_a_group_is_made_filled_and_granted_to(admin: Longshore, viewer: Longshore, layout: Path) -> None:
    assert admin("image", "push", layout, "acme/team:1").code == 0
    assert admin("group", "create", "acme", "crew").code == 0
    assert admin("group", "add", "acme", "crew", "vera").text == "vera is in the group crew of acme."
    assert admin("access", "grant", "acme/team", "group", "crew", "write").code == 0
    assert viewer("image", "push", layout, "acme/team:2").code == 0
    assert "vera" in admin("group", "list", "acme").text
    assert admin("group", "remove", "acme", "crew", "vera").code == 0
    assert viewer("image", "push", layout, "acme/team:3").code != 0
    assert admin("group", "delete", "acme", "crew").code == 0
