"""Every route of bare metal: its shape, and who may use it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from starlette.types import Message

from common.lifecycle import Lifecycle
from control_plane.audit.tables import inbox
from control_plane.events import Event
from control_plane.events.memory import MemoryEventBus
from control_plane.machines.assembly import Machines, tenant_in_use
from control_plane.machines.messages import InstallChanged
from control_plane.machines.routes import build_router
from control_plane.tenants.access import Principal
from control_plane.web.errors import install_error_handlers
from tests.control_plane.machines.rack import BOOT_IMAGE, EVERYBODY, HASH, Rack
from tests.pace import BUSY_SECONDS

SPEC: dict[str, Any] = {
    "system": {"family": "debian", "version": "12"},
    "boot": {"image": BOOT_IMAGE},
    "root_password_hash": HASH,
    "source": "/repos/debian/12",
    "secrets": [["join_key", "hunter2"]],
}


class Everybody:
    """An authenticator for whom the credential is the name."""

    async def authenticate(self, authorization: str | None, client: str) -> Principal:
        return EVERYBODY[(authorization or "nobody").removeprefix("Bearer ")]


async def unheard(_scope: object, _failure: object, repository: str = "") -> None:
    """Refusals are recorded elsewhere."""


class Client:
    def __init__(self, http: httpx.AsyncClient, app: FastAPI) -> None:
        self._http = http
        self.app = app

    async def ask(self, who: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        answer = await self._http.request(method, f"/api/v1{path}", json=body, headers={"Authorization": who})
        return answer.status_code, answer.json() if answer.content else None

    async def made(self, who: str, path: str, body: Any) -> Any:
        status, answer = await self.ask(who, "POST", path, body)
        assert status in (200, 201, 202), answer
        return answer["data"]


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One engine is enough here: what touches rows is tested on both beside this file."""
    return sqlite_url


@pytest.fixture
async def client(machines: Machines) -> AsyncIterator[Client]:
    app = FastAPI()
    parts = (machines.service, machines.reading, machines.profiles, machines.tasks, machines.live, machines.power)
    app.include_router(build_router(*parts, None, unheard))
    app.state.authenticator = Everybody()
    install_error_handlers(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://centre") as http:
        yield Client(http, app)


async def test_a_machine_of_a_tenant_from_the_first_word_to_the_installed_system(client: Client, rack: Rack) -> None:
    body = {"idc": "east", "macs": ["52-54-00-00-00-01"], "name": "web-1", "serial": "SN1", "tags": ["rack=r1"]}
    machine = await client.made("admin", "/machines", body)
    assert (machine["state"], machine["macs"], machine["tenant"]) == ("ready", ["52:54:00:00:00:01"], "")
    assert (await client.ask("operator", "GET", f"/machines/{machine['id']}"))[0] == 404
    await client.made("admin", f"/machines/{machine['id']}/assign", {"tenant": "acme"})
    profile = await client.made("operator", "/profiles", {"name": "web", "tenant": "acme", "spec": SPEC})
    ask = {"machine": "east/web-1", "profile": "acme/web"}
    task = await client.made("operator", "/install-tasks", ask)
    assert (task["state"], task["profile"], task["version"]) == ("pending", "acme/web", 1)
    assert (await client.ask("operator", "POST", f"/install-tasks/{task['id']}/approve", {}))[0] == 403
    approved = await client.made("manager", f"/install-tasks/{task['id']}/approve", {"retries": 1})
    assert (approved["state"], approved["approved_by"], approved["retries"]) == ("approved", "mona", 1)
    listed = (await client.ask("viewer", "GET", "/install-tasks?idc=east&state=approved&machine=east/web-1"))[1]
    assert [one["id"] for one in listed["data"]] == [task["id"]]
    cancelled = await client.made("operator", f"/install-tasks/{task['id']}/cancel", {"reason": "later"})
    assert (cancelled["state"], cancelled["detail"]) == ("cancelled", "later")
    again = await client.made("manager", f"/install-tasks/{task['id']}/retry", {})
    assert (again["state"], again["attempt"]) == ("approved", 2)
    history = (await client.ask("viewer", "GET", f"/install-tasks/{task['id']}/history"))[1]["data"]
    assert [one["state"] for one in history] == ["pending", "approved", "cancelled", "approved"]
    assert (await client.ask("viewer", "GET", f"/install-tasks/{task['id']}/logs"))[1]["data"] == []
    found = (await client.ask("viewer", "GET", "/machines/statistics"))[1]["data"]
    assert found == [
        {"idc": "east", "machines": {"ready": 1}, "tasks": {"approved": 1}, "ended": {}, "median_seconds": None}
    ]
    assert (await client.ask("manager", "DELETE", f"/profiles/{profile['id']}"))[0] == 409
    async with rack.database.transaction() as unit:
        assert await tenant_in_use(unit, "t-acme") == "1 machines and 1 profiles"
        assert await tenant_in_use(unit, "t-globex") is None
    async with rack.database.reading() as connection:
        rows = await connection.execute(select(inbox.c.entry).order_by(inbox.c.id))
        recorded = [(row.entry["operation"], row.entry["operator"], row.entry["tenant"]) for row in rows]
    assert recorded == [
        ("machine.created", "admin", ""),
        ("machine.assigned", "admin", "acme"),
        ("profile.created", "olga", "acme"),
        ("install.asked", "olga", "acme"),
        ("install.approved", "mona", "acme"),
        ("install.cancelled", "olga", "acme"),
        ("install.retried", "mona", "acme"),
    ]


async def test_secrets_are_in_no_answer(client: Client, rack: Rack) -> None:
    profile = await client.made("operator", "/profiles", {"name": "web", "tenant": "acme", "spec": SPEC})
    machine = await rack.machine(tenant="acme")
    paths = (
        "/profiles",
        f"/profiles/{profile['id']}",
        f"/profiles/{profile['id']}/versions",
        f"/profiles/{profile['id']}/versions/1",
        f"/profiles/{profile['id']}/preview?machine={machine.id}",
        f"/profiles/{profile['id']}/preview",
    )
    for path in paths:
        status, body = await client.ask("manager", "GET", path)
        assert status == 200, body
        assert HASH not in str(body), path
        assert "hunter2" not in str(body), path
    shown = (await client.ask("viewer", "GET", paths[4]))[1]["data"]
    assert (shown["format"], "m1" in str(shown)) == ("preseed", True)


# Who gets what for each route, on things that are acme's: admin, manager, operator, viewer, stranger, nobody.
ROUTES: tuple[tuple[str, str, Any, tuple[int, ...]], ...] = (
    ("GET", "/machines/{machine}", None, (200, 200, 200, 200, 404, 401)),
    ("GET", "/machines/{machine}/events", None, (200, 200, 200, 200, 404, 401)),
    ("PATCH", "/machines/{machine}", {"notes": "n"}, (200, 200, 200, 403, 404, 401)),
    ("PATCH", "/machines/{machine}", {"serial": "S"}, (409, 403, 403, 403, 404, 401)),
    ("POST", "/machines/{machine}/accept", None, (200, 403, 403, 403, 403, 401)),
    ("POST", "/machines/{machine}/ignore", None, (409, 403, 403, 403, 403, 401)),
    ("POST", "/machines/{machine}/assign", {"tenant": ""}, (409, 403, 403, 403, 403, 401)),
    ("DELETE", "/machines/{machine}", None, (409, 403, 403, 403, 403, 401)),
    ("GET", "/profiles/{profile}", None, (200, 200, 200, 200, 404, 401)),
    ("GET", "/profiles/{profile}/versions", None, (200, 200, 200, 200, 404, 401)),
    ("GET", "/profiles/{profile}/versions/1", None, (200, 200, 200, 200, 404, 401)),
    ("GET", "/profiles/{profile}/preview", None, (200, 200, 200, 200, 404, 401)),
    ("POST", "/profiles/{profile}/versions", {"spec": SPEC}, (201, 201, 201, 403, 404, 401)),
    ("DELETE", "/profiles/{profile}", None, (409, 409, 409, 403, 404, 401)),
    ("GET", "/install-tasks/{task}", None, (200, 200, 200, 200, 404, 401)),
    ("GET", "/install-tasks/{task}/history", None, (200, 200, 200, 200, 404, 401)),
    ("GET", "/install-tasks/{task}/logs", None, (200, 200, 200, 200, 404, 401)),
    ("POST", "/install-tasks", {"machine": "east/m1", "profile": "acme/web"}, (409, 409, 409, 403, 404, 401)),
    ("POST", "/install-tasks/{task}/approve", {}, (409, 409, 403, 403, 404, 401)),
    ("POST", "/install-tasks/{task}/reject", {}, (409, 409, 403, 403, 404, 401)),
    ("POST", "/install-tasks/{task}/retry", {}, (409, 409, 403, 403, 404, 401)),
    ("POST", "/install-tasks/{task}/cancel", {}, (200, 200, 200, 403, 404, 401)),
)
_ASKERS = ("nobody", "stranger", "viewer", "operator", "manager", "admin")


async def test_each_route_is_closed_to_those_whose_it_is_not(client: Client, rack: Rack) -> None:
    machine = await rack.machine(tenant="acme")
    profile = await client.made("operator", "/profiles", {"name": "web", "tenant": "acme", "spec": SPEC})
    task = await client.made("operator", "/install-tasks", {"machine": machine.id, "profile": profile["id"]})
    await client.made("manager", f"/install-tasks/{task['id']}/approve", {})
    names = {"machine": machine.id, "profile": profile["id"], "task": task["id"]}
    for method, path, body, statuses in ROUTES:
        for who, status in zip(_ASKERS, reversed(statuses), strict=True):
            answer = await client.ask(who, method, path.format(**names), body)
            assert answer[0] == status, (who, method, path, answer)


async def test_lists_hold_what_one_may_see_and_no_more(client: Client, rack: Rack) -> None:
    await rack.machine("ours", tenant="acme")
    await rack.machine("theirs", tenant="globex")
    await rack.machine("nobodys")
    await client.made("operator", "/profiles", {"name": "web", "tenant": "acme", "spec": SPEC})
    await rack.debian()

    async def names(who: str, path: str) -> list[str]:
        return [one["name"] for one in (await client.ask(who, "GET", path))[1]["data"]]

    assert await names("admin", "/machines") == ["nobodys", "ours", "theirs"]
    assert await names("admin", "/machines?tenant=") == ["nobodys"]
    assert await names("viewer", "/machines") == ["ours"]
    assert await names("viewer", "/machines?tenant=globex") == []
    assert await names("stranger", "/machines") == ["theirs"]
    assert await names("viewer", "/profiles") == ["debian", "web"]
    assert await names("stranger", "/profiles") == ["debian"]
    for path in ("/machines", "/profiles", "/install-tasks", "/machines/statistics"):
        assert (await client.ask("nobody", "GET", path))[0] == 401
    assert (await client.ask("manager", "POST", "/machines", {"idc": "east", "macs": ["52:54:00:00:00:99"]}))[0] == 403
    assert (await client.ask("manager", "POST", "/profiles", {"name": "p", "spec": SPEC}))[0] == 403
    assert (await client.ask("stranger", "POST", "/profiles", {"name": "p", "tenant": "acme", "spec": SPEC}))[0] == 404


MACHINE: dict[str, Any] = {"idc": "east", "macs": ["52:54:00:00:00:01"]}
BAD: tuple[tuple[str, dict[str, Any], int], ...] = (
    ("/machines", {"idc": "east", "macs": ["01:00:5e:00:00:01"]}, 400),
    ("/machines", {"idc": "east", "macs": []}, 400),
    ("/machines", MACHINE | {"idc": "none"}, 404),
    ("/machines", MACHINE | {"tenant": "none"}, 404),
    ("/machines", MACHINE | {"name": "../x"}, 400),
    ("/machines", MACHINE | {"notes": "a\x00b"}, 400),
    ("/machines", MACHINE | {"boot": {"loader": "../../etc/passwd"}}, 400),
    ("/machines", MACHINE | {"boots": {}}, 400),
    ("/machines", MACHINE | {"variables": {"a b": "c"}}, 400),
    ("/machines", MACHINE | {"network": {"interfaces": [{"name": "eth0", "addresses": ["\x00"]}]}}, 400),
    ("/profiles", {"name": "p", "spec": SPEC | {"root_password_hash": "plain"}}, 400),
    ("/profiles", {"name": "p", "spec": SPEC | {"system": {"family": "debian", "version": "3"}}}, 400),
    ("/profiles", {"name": "p", "spec": SPEC | {"rooot": 1}}, 400),
    ("/profiles", {"name": "p", "spec": SPEC | {"storage": {"layout": "lvm", "wipe": True}}}, 400),
    ("/profiles", {"name": "p", "spec": SPEC | {"template": {"name": "t", "text": "{{ nothing }}"}}}, 400),
    ("/install-tasks", {"machine": "east/none", "profile": "debian"}, 404),
)


async def test_bad_requests_change_nothing(client: Client, fleet: None) -> None:
    for path, body, status in BAD:
        answer = await client.ask("admin", "POST", path, body)
        assert answer[0] == status, (path, body, answer)
        assert (await client.ask("admin", "GET", path))[1]["pagination"]["total_count"] == 0


def _changed(tenant: str, percent: int) -> Event:
    message = InstallChanged("t", "m", "east", tenant, "m1", "installing", percent, "os-install", "")
    return Event(message.topic, message.payload())


async def test_live_events_reach_those_who_may_see_them(
    client: Client, machines: Machines, bus: MemoryEventBus, fleet: None
) -> None:
    async with Lifecycle() as lifecycle:
        lifecycle.spawn("live", machines.live.run())
        viewer, stranger = Socket(client.app, "viewer"), Socket(client.app, "stranger")
        for socket in (viewer, stranger):
            lifecycle.spawn("socket", socket.run())
            assert (await socket.next())["type"] == "websocket.accept"
        async with asyncio.timeout(BUSY_SECONDS):
            while not viewer.events():  # until the subscription stands
                await bus.publish(_changed("acme", 1))
                await asyncio.sleep(0)
            await bus.publish(_changed("globex", 99))
            await stranger.told.wait()
        assert {word["tenant"] for word in viewer.events()} == {"acme"}
        assert {word["tenant"] for word in stranger.events()} == {"globex"}
        nobody = Socket(client.app, "nobody")
        lifecycle.spawn("socket", nobody.run())
        refused = await nobody.next()
        assert (refused["type"], refused["status"]) == ("websocket.http.response.start", 401)
        for socket in (viewer, stranger):
            socket.hang_up()


async def test_a_view_that_does_not_keep_up_is_told_to_ask_again(machines: Machines) -> None:
    async with machines.live.view(EVERYBODY["viewer"]) as view:
        for number in range(600):
            view.offer({"type": "event", "number": number}, "acme")
        view.offer({"type": "event", "number": -1}, "globex")
        words = [await view.next() for _ in range(501)]
    assert [words[0]["number"], words[499]["number"], words[500]["type"]] == [0, 499, "resync"]


class Socket:
    """A WebSocket client inside the process."""

    def __init__(self, app: FastAPI, who: str) -> None:
        self._app = app
        self._who = who
        self._up: asyncio.Queue[Message] = asyncio.Queue()
        self._first: asyncio.Queue[Message] = asyncio.Queue()
        self._words: list[dict[str, Any]] = []
        self.told = asyncio.Event()
        self._up.put_nowait({"type": "websocket.connect"})

    async def run(self) -> None:
        scope = {
            "type": "websocket",
            "path": "/api/v1/machines/live",
            "raw_path": b"/api/v1/machines/live",
            "query_string": b"",
            "headers": [(b"authorization", self._who.encode())],
            "subprotocols": [],
            "client": ("127.0.0.1", 1),
            "server": ("centre", 80),
            "scheme": "ws",
            "root_path": "",
            "extensions": {"websocket.http.response": {}},
        }
        await self._app(scope, self._up.get, self._take)

    async def _take(self, message: Message) -> None:
        if message["type"] == "websocket.send":
            self._words.append(json.loads(message["text"]))
            if self.events():
                self.told.set()
        else:
            self._first.put_nowait(message)

    async def next(self) -> Message:
        async with asyncio.timeout(BUSY_SECONDS):
            return await self._first.get()

    def events(self) -> list[dict[str, Any]]:
        return [word for word in self._words if word["type"] == "event"]

    def hang_up(self) -> None:
        self._up.put_nowait({"type": "websocket.disconnect", "code": 1000})


async def test_power_over_http_with_each_route_for_whom_it_is_and_the_password_for_nobody(
    client: Client, rack: Rack
) -> None:
    machine = (await rack.machine("web", tenant="acme")).id
    path, secret = f"/machines/{machine}/power", "correct horse"
    bmc = {"protocol": "redfish", "address": "10.0.0.9", "username": "root", "password": secret}
    told: list[object] = []

    async def status(who: str, method: str, way: str, body: Any = None) -> int:
        code, answer = await client.ask(who, method, path + way, body)
        told.append(answer)
        return code

    for who, expected in (("manager", 403), ("operator", 403), ("stranger", 403), ("nobody", 401)):
        assert await status(who, "PUT", "/bmc", bmc) == expected
        assert await status(who, "DELETE", "/bmc") == expected
    for wrong in ({"color": "red"}, {"password": secret * 30}, {"address": "bmc.example.org"}, {"port": 99999}):
        assert await status("admin", "PUT", "/bmc", bmc | wrong) in (400, 422)
    assert await status("admin", "PUT", "/bmc", bmc) == 200
    assert await status("operator", "POST", "/orders", {"deed": "explode"}) in (400, 422)
    assert await status("viewer", "POST", "/orders", {"deed": "off"}) == 403
    order = (await client.made("operator", f"{path}/orders", {"deed": "off"}))["id"]
    assert await status("operator", "POST", "/orders", {"deed": "on"}) == 409
    for method, way in (
        ("GET", ""),
        ("GET", "/orders"),
        ("GET", f"/orders/{order}"),
        ("POST", f"/orders/{order}/cancel"),
    ):
        assert await status("stranger", method, way) == 404
        assert await status("nobody", method, way) == 401
    assert await status("stranger", "POST", "/orders", {"deed": "off"}) == 404
    for way in ("", "/orders", f"/orders/{order}"):
        assert await status("viewer", "GET", way) == 200
        assert await status("operator", "GET", way) == 200
    assert await status("viewer", "POST", f"/orders/{order}/cancel") == 403
    assert await status("operator", "POST", f"/orders/{order}/cancel") == 200
    assert await status("operator", "POST", f"/orders/{order}/cancel") == 409
    assert await status("operator", "GET", "/orders/nonsense") == 404
    assert "10.0.0.9" not in repr(told[-9:])
    assert await status("admin", "GET", "") == 200
    assert "10.0.0.9" in repr(told[-1])
    assert await status("admin", "DELETE", "/bmc") == 204
    assert secret not in repr(told)
