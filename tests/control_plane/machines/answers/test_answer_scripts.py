"""The scripts that installers run: read by every shell they meet, and carried out against a real HTTP server."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from common.late_words import LateFacts, fill
from control_plane.machines.answers.disks import FIND_DISK, disk_choice
from control_plane.machines.answers.model import Disk, Installation
from tests.control_plane.machines.answers.installations import (
    DEBIAN,
    KEY,
    NONCE,
    ROCKY,
    TOKEN,
    UBUNTU,
    every,
    installation,
    rendered,
)
from tests.pace import BUSY_SECONDS

_LONGEST_SECONDS = 6 * BUSY_SECONDS
_SHELLS = [shell for shell in (["dash"], ["bash"], ["busybox", "sh"]) if shutil.which(shell[0])]


def scripts_of(it: Installation) -> Iterator[str]:
    for one in rendered(it).documents:
        if one.name.endswith(".sh"):
            yield one.text
            for part in one.text.split(f"<<'end-{NONCE}'\n")[1:]:
                yield part.split(f"\nend-{NONCE}\n")[0]
        elif "%pre " in one.text:
            yield one.text.split("--erroronfail\n")[1].split("\n%end")[0]


@pytest.mark.parametrize("shell", _SHELLS, ids=lambda shell: shell[0])
def test_every_script_is_understood(shell: list[str]) -> None:
    found = {
        script for system in (ROCKY[1], DEBIAN[1], UBUNTU[1]) for it in every([system]) for script in scripts_of(it)
    }
    assert len(found) > 20
    # One run for all: each is a function that nobody calls.
    whole = "\n".join(f"f{number}() {{\n{script}\n}}" for number, script in enumerate(sorted(found)))
    told = subprocess.run(
        [*shell, "-n"], input=whole, capture_output=True, text=True, check=False, timeout=_LONGEST_SECONDS
    )
    assert (told.returncode, told.stderr) == (0, "")


class Regional(ThreadingHTTPServer):
    """Takes reports; says 503 to the first `unready`."""

    def __init__(self) -> None:
        self.reports: list[tuple[str, str | None, dict[str, str]]] = []
        self.unready = 0
        super().__init__(("127.0.0.1", 0), _Answers)

    @property
    def facts(self) -> LateFacts:
        base = f"http://127.0.0.1:{self.server_address[1]}"
        return LateFacts(base, f"{base}/documents", f"{base}/device/{TOKEN}", TOKEN)


class _Answers(BaseHTTPRequestHandler):
    server: Regional

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        ready = self.server.unready == 0
        self.server.unready -= 0 if ready else 1
        if ready:
            self.server.reports.append((self.path, self.headers["Authorization"], body))
        self.send_response(200 if ready else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def regional() -> Iterator[Regional]:
    server = Regional()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A new system: its `run` carries out what is said to run inside, `etc` and `home` stay where they are."""
    (tmp_path / "var/log").mkdir(parents=True)
    run = tmp_path / "run"
    run.write_text(f'#!/bin/sh\ncd "{tmp_path}" && exec "$1" "{tmp_path}$2"\n')
    run.chmod(0o755)
    return tmp_path


def finish(it: Installation, regional: Regional, machine: Path, *words: str, shell: list[str] | None = None) -> int:
    text = next(one.text for one in rendered(it).documents if one.name == "finish.sh")
    # The pauses between two tries are waited for elsewhere; files that an installer keeps in its own /tmp stay here.
    text = text.replace("/tmp/longshore-told", f"{machine}/told").replace("sleep", ":")
    script = machine / "finish.sh"
    script.write_text(fill(text, NONCE, regional.facts))
    arguments = words or (str(machine), str(machine / "run"))
    return subprocess.run([*(shell or ["sh"]), script, *arguments], check=False, timeout=_LONGEST_SECONDS).returncode


def plain(**changes: object) -> Installation:
    """Without accounts, which would be made on this machine."""
    return installation(ROCKY[1], users=(), root_ssh_keys=(), operation="os-install", **changes)


@pytest.mark.parametrize("shell", _SHELLS, ids=lambda shell: shell[0])
def test_an_end_is_reported_with_the_token_after_the_script_ran(
    shell: list[str], regional: Regional, machine: Path
) -> None:
    it = plain(post_script='echo "$LONGSHORE_TOKEN $LONGSHORE_URL" >out\numask >mask\n')
    assert finish(it, regional, machine, shell=shell) == 0
    assert (machine / "out").read_text() == f"{TOKEN} {regional.facts.base_url}\n"
    assert (machine / "mask").read_text() == "0022\n"
    said = {"operation": "os-install"}
    assert regional.reports == [(f"/device/{TOKEN}/operationComplete", f"Bearer {TOKEN}", said)]
    assert not list((machine / "var").glob("lib/longshore*"))
    assert (machine / "var/log/longshore-install.log").stat().st_mode & 0o777 == 0o600


def test_a_script_that_fails_is_a_failure_and_never_an_end(regional: Regional, machine: Path) -> None:
    assert finish(plain(post_script="echo went wrong >&2\nexit 7\n"), regional, machine) == 1
    [(path, _, body)] = regional.reports
    assert path.endswith("/operationFailed")
    assert "post-install script failed" in body["message"]
    assert "went wrong" in (machine / "var/log/longshore-install.log").read_text()
    # What the installer says of its own end afterwards does not cover the reason.
    assert finish(plain(), regional, machine, "failed") == 0
    assert len(regional.reports) == 1


def test_an_installer_that_gives_up_says_so(regional: Regional, machine: Path) -> None:
    assert finish(plain(), regional, machine, "failed") == 0
    [(path, _, body)] = regional.reports
    assert path.endswith("/operationFailed")
    assert body["operation"] == "os-install"


def test_a_regional_that_is_away_for_a_while_is_told_later(regional: Regional, machine: Path) -> None:
    regional.unready = 3
    assert finish(plain(), regional, machine) == 0
    assert len(regional.reports) == 1


def test_a_regional_that_stays_away_undoes_nothing(regional: Regional, machine: Path) -> None:
    regional.unready = 1000
    assert finish(plain(), regional, machine) == 0
    assert regional.reports == []


def test_keys_come_to_their_owner_alone(tmp_path: Path) -> None:
    """The function as it stands in the script, with a user database and owners of the test."""
    it = installation(DEBIAN[1], users=(), root_ssh_keys=(KEY, KEY.replace("example", 'o\'brien "$x"')))
    text = next(one.text for one in rendered(it).documents if one.name == "finish.sh")
    setup = text.split(f"setup.sh\" <<'end-{NONCE}'\n")[1].split(f"\nend-{NONCE}\n")[0]
    stubs = f'getent() {{ echo "root:x:0:0::{tmp_path}:/bin/sh"; }}\nchown() {{ :; }}\n'
    stubs += 'install() { mkdir -p "$8"; }\nrestorecon() { :; }\n'
    subprocess.run(["sh"], input=stubs + setup, text=True, check=True, timeout=_LONGEST_SECONDS)
    kept = (tmp_path / ".ssh" / "authorized_keys").read_text()
    assert kept.splitlines() == list(it.root_ssh_keys)


@pytest.fixture
def disks(tmp_path: Path) -> Path:
    """A /sys with disks and what udev knows of them."""
    sectors = {
        "sda": 40_000_000,
        "sdb": 20_000_000,
        "sdc": 1_000_000,
        "sdd": 18_000_000,
        "sr0": 17_000_000,
        "dm-0": 17_000_000,
    }
    for name, size in sectors.items():
        block = tmp_path / "block" / name
        block.mkdir(parents=True)
        (block / "size").write_text(f"{size}\n")
        (block / "removable").write_text("1\n" if name == "sdd" else "0\n")
        (block / "ro").write_text("0\n")
    udev = tmp_path / "udevadm"
    udev.write_text(
        "#!/bin/sh\ncase $* in\n"
        '*/sda) echo "ID_SERIAL_SHORT=A1"; echo "ID_WWN=0x5000c500a1b2c3d4" ;;\n'
        '*/sdb) echo "ID_SERIAL=B.1" ;;\nesac\n'
    )
    udev.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("shell", _SHELLS, ids=lambda shell: shell[0])
@pytest.mark.parametrize(
    ("disk", "found"),
    [
        (Disk(), "sdb"),
        (Disk(serial="A1"), "sda"),
        (Disk(serial="B.1"), "sdb"),
        (Disk(serial="BX1"), None),
        (Disk(serial="A"), None),
        (Disk(wwn="0x5000c500a1b2c3d4"), "sda"),
        (Disk(wwn="0x5000c500a1b2c3d5"), None),
        (Disk("/dev/longshore-not-there"), None),
    ],
)
def test_the_disk_that_is_meant_is_found_and_no_other(
    shell: list[str], disk: Disk, found: str | None, disks: Path
) -> None:
    script = f"{FIND_DISK}\nPATH={disks}:$PATH LONGSHORE_SYS={disks}\nfind_disk {disk_choice(disk)}\n"
    told = subprocess.run(shell, input=script, capture_output=True, text=True, check=False, timeout=_LONGEST_SECONDS)
    if found is None:
        assert told.returncode == 1
        assert told.stdout == ""
        assert "there is no disk" in told.stderr
    else:
        assert (told.returncode, told.stdout) == (0, f"{found}\n")
