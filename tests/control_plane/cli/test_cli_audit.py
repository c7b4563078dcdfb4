"""The audit trail and the webhooks of a running control plane, over its command line; and what a kill -9 leaves."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.services import Service
from tests.control_plane.cli.programs import PASSWORD, Longshore, Plane, eventually, layout_digest, log_in

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """One that may call this machine, flushes at once and lets everything be pruned."""
    directory = tmp_path_factory.mktemp("audited")
    config = directory / "server.toml"
    config.write_text(
        "[audit]\nkeep_days = 0\nflush_seconds = 0.1\n"
        "[webhooks]\ntimeout_seconds = 1\n"
        '[outbound]\nallow = ["127.0.0.0/8"]\n'
    )
    listeners = [f"--{name}=127.0.0.1:0" for name in ("http", "enrolment", "attach")]
    arguments = ["serve", f"--config={config}", f"--data={directory / 'data'}", *listeners]
    service = Service("control-plane", "control_plane", arguments, directory / "data")
    ready = service.start()
    service.arguments = [*arguments[:3], *(f"--{name}={ready[name]}" for name in ("http", "enrolment", "attach"))]
    eventually(lambda: PASSWORD.search(service.log_path.read_text()) is not None)
    yield Plane(service, f"http://{ready['http']}", PASSWORD.findall(service.log_path.read_text())[0])
    service.stop()


class Receiver(ThreadingHTTPServer):
    """Takes events; while `hangs` is set it takes them and does not answer."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taker)
        self.events: list[dict[str, Any]] = []
        self.released = threading.Event()
        self.released.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/events"


class _Taker(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.events.append(json.loads(body))
        if self.server.released.wait(30):
            self.send_response(204)
            self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


def operations(program: Longshore, *options: str) -> set[str]:
    return {entry["operation"] for entry in program("audit", "list", "--limit", "1000", "--json", *options).json}


def test_what_people_do_is_in_the_trail(
    admin: Longshore, viewer: Longshore, stranger: Longshore, layout: Path, tmp_path: Path
) -> None:
    assert admin("image", "push", layout, "acme/seen:1").code == 0
    assert admin("image", "pull", "acme/seen:1", tmp_path / "copy").code == 0
    assert log_in(stranger, "vera", "not her password").code == 3
    assert log_in(stranger, "a password typed as a name", "x").code == 3
    assert viewer("image", "push", layout, "acme/forbidden:1").code == 4
    expected = {
        "tenants.login",
        "tenants.login_failed",
        "tenants.tenant_created",
        "tenants.user_created",
        "tenants.member_put",
        "registry.repository_made",
        "registry.link",
        "registry.push",
        "registry.tag",
        "registry.pull",
        "denied",
    }
    eventually(lambda: expected <= operations(admin))
    (push,) = admin("audit", "list", "--operation", "registry.push", "--repository", "acme/seen", "--json").json
    assert (push["operator"], push["operator_type"], push["digest"]) == ("admin", "user", layout_digest(layout))
    assert (push["client"], push["tenant"], push["outcome"]) == ("127.0.0.1", "acme", "success")
    assert push["user_agent"]
    assert push["request_id"]
    denied = admin("audit", "list", "--outcome", "denied", "--json").json
    assert {"vera", "anonymous"} <= {entry["operator"] for entry in denied}
    assert "typed as a name" not in json.dumps(denied)
    assert "wrong password" in {entry["error"] for entry in denied}
    text = admin("audit", "list", "--operation", "registry.push").text
    assert "acme/seen" in text


def test_a_viewer_reads_nothing_and_an_administrator_her_tenant(
    admin: Longshore, viewer: Longshore, stranger: Longshore, tmp_path: Path
) -> None:
    assert viewer("audit", "list").code == 4
    assert stranger("audit", "list").code == 3
    assert admin("tenant", "create", "birch").code == 0
    assert admin("user", "create", "bea", "--password-stdin", stdin="a long password\n").code == 0
    assert admin("tenant", "grant", "birch", "bea", "admin").code == 0
    home = tmp_path / "bea"
    home.mkdir()
    bea = Longshore(admin.server, home)
    assert log_in(bea, "bea", "a long password").code == 0
    eventually(lambda: "tenants.member_put" in operations(bea))
    assert {entry["tenant"] for entry in bea("audit", "list", "--json").json} == {"birch"}
    assert bea("audit", "list", "--tenant", "acme", "--json").json == []
    assert bea("audit", "verify").code == 4
    assert bea("audit", "prune", "--through", "1", "--export", str(__file__)).code == 4
    assert bea("audit", "export", "-").out.count('"tenant":"birch"') >= 1


def test_the_trail_is_verified_exported_and_pruned(admin: Longshore, tmp_path: Path) -> None:
    for number in range(4):
        assert admin("tenant", "create", f"told-{number}").code == 0
    eventually(lambda: (admin("audit", "verify", "--json").json["last"] or {"sequence": 0})["sequence"] >= 4)
    first = admin("audit", "verify", "--json").json
    assert first["whole"]
    known = f"{first['last']['sequence']}:{first['last']['hash']}"
    assert admin("audit", "verify", "--anchor", known).code == 0
    assert admin("audit", "verify", "--anchor", f"{first['last']['sequence']}:{'0' * 64}").code == 6
    through, export = str(first["last"]["sequence"] - 2), tmp_path / "trail.jsonl"
    assert admin("audit", "export", export, "--through", through).code == 0
    lines = [json.loads(line) for line in export.read_text().splitlines()]
    assert [line["sequence"] for line in lines] == list(range(1, int(through) + 1))
    short = tmp_path / "short.jsonl"
    short.write_bytes(export.read_bytes()[:-10])
    assert admin("audit", "prune", "--through", through, "--export", short).code == 6
    assert admin("audit", "prune", "--through", through, "--export", export).code == 0
    eventually(lambda: "audit.pruned" in operations(admin))
    assert min(entry["sequence"] for entry in admin("audit", "list", "--limit", "1000", "--json").json) > int(through)
    assert admin("audit", "verify", "--anchor", known).code == 0


def test_a_push_is_told_to_a_webhook_and_again_after_a_kill(
    admin: Longshore, plane: Plane, receiver: Receiver, layout: Path
) -> None:
    made = admin("webhook", "create", receiver.url, "--tenant", "acme", "--topic", "registry.*", "--json").json
    assert made["secret"].startswith("whsec_")
    assert "secret" not in admin("webhook", "show", made["id"], "--json").json
    assert admin("webhook", "ping", made["id"]).code == 0
    eventually(lambda: [event["type"] for event in receiver.events] == ["io.longshore.webhooks.ping"])
    receiver.released.clear()
    assert admin("image", "push", layout, "acme/told:1").code == 0
    eventually(lambda: len(receiver.events) == 2)
    plane.service.kill()
    receiver.released.set()
    plane.service.start()
    eventually(lambda: len(receiver.events) == 3)
    _, before, after = receiver.events
    assert before == after
    assert (before["type"], before["subject"]) == ("io.longshore.registry.image_pushed", "acme/told")
    assert before["data"]["by"] == "admin"

    def delivered() -> bool:
        rows = admin("webhook", "deliveries", made["id"], "--json").json
        return [row["state"] for row in rows] == ["delivered", "delivered"]

    eventually(delivered)
    newest = admin("webhook", "deliveries", made["id"], "--json").json[0]
    assert newest["attempts"] == 2
    assert admin("webhook", "redeliver", made["id"], newest["id"]).code == 0
    eventually(lambda: len(receiver.events) == 4)
    detail = admin("webhook", "delivery", made["id"], newest["id"], "--json").json
    assert [attempt["status"] for attempt in detail["history"]][:1] == [204]
    assert admin("audit", "verify").code == 0


def test_webhooks_are_changed_and_removed(admin: Longshore, viewer: Longshore, receiver: Receiver) -> None:
    made = admin("webhook", "create", receiver.url, "--topic", "*", "--json").json
    assert viewer("webhook", "show", made["id"]).code == 5
    assert viewer("webhook", "list", "--tenant", "acme").code == 4
    assert admin("webhook", "update", made["id"], "--inactive", "--topic", "tenants.*").code == 0
    (listed,) = admin("webhook", "list", "--json").json
    assert (listed["active"], listed["topics"]) == (False, ["tenants.*"])
    assert (
        admin("webhook", "rotate", made["id"], "--secret-stdin", stdin="a secret of my own\n").text
        == "a secret of my own"
    )
    assert admin("webhook", "rm", made["id"]).code == 0
    assert admin("webhook", "list", "--json").json == []
    refused = admin("webhook", "create", "https://169.254.169.254/latest", "--topic", "*")
    assert refused.code in (2, 4)
