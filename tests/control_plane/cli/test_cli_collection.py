"""Deleting an image, thinking better of it, and what the garbage collection says, through real processes."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.control_plane.cli.programs import Longshore, Plane

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def digest(admin: Longshore, layout: Path) -> str:
    return str(admin("image", "push", layout, "acme/regretted:1.0", "--json").json["digest"])


def tags(admin: Longshore) -> list[str]:
    rows = admin("image", "list", "--tenant", "acme", "--json").json
    return [tag["name"] for row in rows if row["repository"] == "acme/regretted" for tag in row["tags"]]


def test_a_deleted_image_is_in_the_trash_and_comes_back(admin: Longshore, digest: str) -> None:
    assert admin("image", "rm", f"acme/regretted@{digest}").code == 0
    assert tags(admin) == []
    (kept,) = admin("image", "trash", "acme/regretted", "--json").json
    assert (kept["digest"], kept["tags"], kept["deleted_by"]) == (digest, ["1.0"], "admin")
    assert digest in admin("image", "trash", "acme/regretted").text
    assert "1.0" in admin("image", "undelete", "acme/regretted:1.0").text
    assert tags(admin) == ["1.0"]
    assert admin("image", "trash", "acme/regretted", "--json").json == []


def test_what_is_not_kept_cannot_come_back(admin: Longshore, digest: str) -> None:
    answer = admin("image", "undelete", "acme/regretted:none")
    assert answer.code != 0
    assert "kept" in answer.err


def test_a_viewer_sees_no_trash(viewer: Longshore, digest: str) -> None:
    assert viewer("image", "trash", "acme/regretted").code != 0
    assert viewer("image", "undelete", "acme/regretted:1.0").code != 0
    assert viewer("collection", "preview").code != 0


def test_a_preview_names_what_would_go(admin: Longshore, layout: Path) -> None:
    gone = admin("image", "push", layout, "acme/unwanted:1.0", "--json").json["digest"]
    assert admin("image", "rm", f"acme/unwanted@{gone}").code == 0
    assert admin("collection", "preview", "--json").json["links"] == 0
    found = admin("collection", "preview", "--within-hours", "25", "--json").json
    assert found["purges"] == 1
    assert {each["repository"] for each in found["candidates"]} == {"acme/unwanted"}
    assert found["links"] == len(found["candidates"]) > 0
    assert "manifest_deleted" in admin("collection", "preview", "--within-hours", "25").text
    assert admin("image", "purge", "acme/unwanted", "--json").json == {"purged": 1}
    assert admin("image", "trash", "acme/unwanted", "--json").json == []


def test_a_run_can_be_begun_and_is_listed(admin: Longshore) -> None:
    assert admin("collection", "run", "--sweep", "--json").json["job"]
    runs = admin("collection", "runs", "--json").json
    assert "sweep" in {run["kind"] for run in runs}
    assert admin("collection", "removals", "--json").json == []
    assert admin("collection", "missing", "--json").json == []


def test_the_server_command_collects_beside_a_running_server(plane: Plane, admin: Longshore) -> None:
    def collect(*words: str) -> str:
        command = [sys.executable, "-m", "control_plane", "collect-garbage", "--data", str(plane.service.data), *words]
        done = subprocess.run(command, env=admin.variables(), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "nothing was changed" in collect("--dry-run")
    assert "nothing is due" in collect("--sweep")
