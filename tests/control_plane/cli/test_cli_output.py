"""What programs can rely on: JSON on standard output, failures as JSON on standard error, exit codes."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.control_plane.cli.programs import Longshore, Plane, log_in

pytestmark = pytest.mark.processes

READING = [
    ["whoami"],
    ["tenant", "list"],
    ["tenant", "members", "acme"],
    ["user", "list"],
    ["api-key", "list"],
    ["idc", "list"],
    ["host", "list"],
    ["regional", "list"],
    ["join-token", "list"],
    ["instance", "list"],
    ["image", "list"],
    ["status"],
]


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_json_is_the_only_thing_on_standard_output(words: list[str], admin: Longshore) -> None:
    before, after = admin("--json", *words), admin(*words, "--json")
    assert type(before.json) is type(after.json)
    assert before.err == after.err == ""


@pytest.mark.parametrize(
    ("words", "code", "name"),
    [
        (["tenant", "create", "acme"], 6, "conflict"),
        (["tenant", "create", "Bad Name"], 2, "invalid"),
        (["tenant", "rm", "nosuch"], 5, "not_found"),
        (["tenant", "create"], 2, "invalid"),
        (["tenant", "create", "x", "--no-such-option"], 2, "invalid"),
        (["nosuchcommand"], 2, "invalid"),
        (["image", "push", "nosuchfile.tar", "acme/Bad:1"], 2, "name_invalid"),
        (["instance", "run", "acme/web:1"], 2, "invalid"),
        (["host", "show", "east/nobody"], 5, "not_found"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_a_failure_is_json_on_standard_error(words: list[str], code: int, name: str, admin: Longshore) -> None:
    answer = admin(*words, "--json")
    assert (answer.code, answer.out) == (code, "")
    body = json.loads(answer.err)
    assert body["code"] == name
    assert body["detail"]


def test_a_failure_in_prose_says_what_to_do(admin: Longshore) -> None:
    answer = admin("image", "push", "x.tar", "acme/Bad:1")
    assert answer.err.splitlines()[0].startswith("longshore: 'acme/Bad'")
    assert answer.err.splitlines()[1].strip()


def test_json_behind_two_dashes_belongs_to_the_command_of_the_instance(admin: Longshore) -> None:
    answer = admin("instance", "run", "acme/Bad:1", "--all-hosts", "--", "serve", "--json")
    assert answer.code == 2
    assert answer.err.startswith("longshore: ")


def test_the_version_is_printed(stranger: Longshore) -> None:
    assert stranger("--version").text == f"longshore {version('longshore')}"


def test_every_command_has_help(stranger: Longshore) -> None:
    assert "join-token" in stranger("--help").text
    for words in READING:
        assert "Usage:" in stranger(*words, "--help").text


def test_a_server_that_is_away_ends_with_7(stranger: Longshore) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    answer = stranger("--server", f"http://127.0.0.1:{port}", "whoami", "--json")
    assert answer.code == 7
    assert str(port) in json.loads(answer.err)["detail"]


@pytest.mark.parametrize("server", ["nonsense", "ftp://x", "http://", "127.0.0.1:8080"])
def test_what_is_no_url_of_a_server_ends_with_2(server: str, stranger: Longshore) -> None:
    answer = stranger("--server", server, "whoami")
    assert answer.code == 2
    assert repr(server) in answer.err


@pytest.fixture
def foreign_server() -> Iterator[str]:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>It works!</html>")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_web_server_of_another_kind_is_recognised(foreign_server: str, stranger: Longshore) -> None:
    answer = stranger("--server", foreign_server, "whoami")
    assert answer.code == 2
    assert "not a Longshore control plane" in answer.err


def test_a_long_row_stays_one_line_in_a_pipe(admin: Longshore) -> None:
    name = "a rather long display name " * 8
    admin("idc", "create", "long", "--display-name", name.strip())
    assert any(name.strip() in line for line in admin("idc", "list").text.splitlines())
    admin("idc", "rm", "long")


def test_a_home_that_cannot_be_written_is_said(plane: Plane, stranger: Longshore, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    program = stranger.with_environment(LONGSHORE_CREDENTIALS=str(tmp_path / "file" / "credentials.json"))
    answer = log_in(program, "admin", plane.password)
    assert (answer.code, answer.out) == (1, "")
    assert str(tmp_path / "file") in answer.err


def test_every_change_is_told_in_json_too(admin: Longshore, layout: Path, tmp_path: Path) -> None:
    changes = [
        ["user", "create", "jason", "--password-stdin"],
        ["tenant", "create", "jasons"],
        ["tenant", "grant", "jasons", "jason", "viewer"],
        ["tenant", "revoke", "jasons", "jason"],
        ["image", "push", str(layout), "jasons/web:1"],
        ["image", "pull", "jasons/web:1", str(tmp_path / "copy")],
        ["image", "rm", "jasons/web:1"],
        ["idc", "create", "jasons"],
        ["idc", "show", "jasons"],
        ["join-token", "create", "--idc", "jasons"],
    ]
    told = [admin(*words, "--json", stdin="a long password\n").json for words in changes]
    assert all(isinstance(document, dict) for document in told)
    assert admin("join-token", "rm", told[-1]["id"], "--json").json == {"id": told[-1]["id"], "removed": True}
    assert admin("idc", "rm", "jasons", "--json").json == {"name": "jasons", "removed": True}
    key = admin("api-key", "create", "jason", "--json").json
    assert admin("api-key", "rm", key["id"], "--json").json == {"id": key["id"], "revoked": True}
