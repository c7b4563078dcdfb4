"""Moves, snapshots and exports of an instance on two real agents, whose engines are those in memory."""

from collections.abc import Iterator
from pathlib import Path
from tarfile import open as open_tar

import pytest

from deploy.demo.services import Service
from tests.control_plane.cli.programs import Longshore, eventually
from tests.control_plane.cli.test_lxd_files import METADATA_YAML, tarball

pytestmark = pytest.mark.processes
NAMES = ("east-1", "east-2")


@pytest.fixture(scope="module")
def vps(admin: Longshore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The id of an LXD instance that runs on the first of two hosts."""
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
    image = tarball(tmp_path_factory.mktemp("image") / "image", metadata_yaml=METADATA_YAML, rootfs__etc__hostname=b"x")
    assert admin("image", "import-lxd", "acme/system:1", image).code == 0
    eventually(lambda: len([row for row in admin("host", "list", "--json").json if row["state"] == "online"]) == 2)
    (row,) = admin(
        "instance", "run", "acme/system:1", "--name", "vps", "--host", "east/east-1", "--wait", "60", "--json"
    ).json
    yield row["id"]
    for agent in agents:
        agent.stop()


def test_an_instance_moves_and_says_how_far_it_is(admin: Longshore, vps: str) -> None:
    assert admin("instance", "migration", "vps").code != 0
    refused = admin("instance", "migrate", "vps", "--to", "east/east-1")
    assert (refused.code != 0, "already" in refused.err) == (True, True)
    moved = admin("instance", "migrate", "vps", "--to", "east/east-2", "--wait", "60")
    assert moved.text.startswith("vps to east/east-2: ")
    eventually(lambda: admin("instance", "migration", "vps", "--json").json["stage"] == "done")
    (row,) = admin("instance", "list", "--json").json
    assert (row["id"], row["host"]) == (vps, "east-2")
    assert admin("instance", "migration", "vps", "--cancel").code != 0


def test_snapshots_are_made_listed_restored_and_deleted(admin: Longshore, vps: str) -> None:
    assert admin("instance", "snapshot", "create", "vps", "first").text == "Snapshot first: done."
    assert [row["name"] for row in admin("instance", "snapshot", "list", "vps", "--json").json] == ["first"]
    assert admin("instance", "snapshot", "restore", "vps", "first").code == 0
    missing = admin("instance", "snapshot", "restore", "vps", "second")
    assert (missing.code != 0, "no snapshot second" in missing.err) == (True, True)
    assert admin("instance", "snapshot", "rm", "vps", "first").code == 0
    assert admin("instance", "snapshot", "list", "vps", "--json").json == []


def test_an_export_is_a_file_that_is_whole_or_not_there(admin: Longshore, vps: str, tmp_path: Path) -> None:
    file = tmp_path / "vps.tar"
    assert admin("instance", "export", "vps", "-o", file, "--json").json["bytes"] == file.stat().st_size
    with open_tar(file) as archive:
        assert archive.getnames() == ["etc/hostname"]
    assert admin("instance", "export", "nothing", "-o", tmp_path / "nothing.tar").code != 0
    assert sorted(tmp_path.iterdir()) == [file]
