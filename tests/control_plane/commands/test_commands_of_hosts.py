from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from common.clock import ManualClock
from common.errors import Denied, NotFound
from common.identifiers import new_id
from control_plane.commands.messenger import CommandMessenger
from control_plane.commands.model import (
    MOST_OPEN_PER_HOST,
    OPEN,
    Command,
    CommandDiffers,
    CommandInvalid,
    CommandTooLate,
    CommandUnknown,
    State,
    TooManyCommands,
    Verb,
    reported,
)
from control_plane.commands.routes import build_router
from control_plane.commands.service import CommandService, HostGone, Wish
from control_plane.database import Database
from control_plane.events.memory import MemoryEventBus
from control_plane.fleet.session import Session
from control_plane.instances.reading import InstanceUnknown
from control_plane.web.errors import install_error_handlers
from control_plane.web.paging import PageRequest
from proto.agent.v1 import commands_pb2
from tests.control_plane.instances.parts import ADMIN, OPERATOR, STRANGER, VIEWER
from tests.control_plane.instances.test_instance_routes import Names
from tests.control_plane.swarm.parts import announced, revoke_host

pytestmark = pytest.mark.usefixtures("fleet")

PRUNE = Wish(Verb.PRUNE_CACHE)
RESTART = Wish(Verb.RESTART)


def said(command: Command, state: str, detail: str = "", result: str = "") -> list[commands_pb2.CommandReport]:
    number = commands_pb2.CommandState.Value(f"COMMAND_STATE_{state}")
    return [commands_pb2.CommandReport(command_id=command.id, state=number, detail=detail, result=result)]


async def test_a_command_is_queued_offered_accepted_and_done(
    service: CommandService, instance_id: str, database: Database
) -> None:
    made = await service.ask_instance(OPERATOR, instance_id, RESTART)
    assert (made.state, made.host_id, made.tenant) == (State.QUEUED, "host-e1", "acme")
    assert "commands.waits" in await announced(database)
    (told,) = await service.offered("host-e1")
    assert (told.id, told.state) == (made.id, State.OFFERED)
    await service.accept("host-e1", said(made, "ACCEPTED"))
    assert await service.offered("host-e1") == []
    await service.accept("host-e1", said(made, "DONE", result='{"runtime_id": "c1"}'))
    found = await service.get(VIEWER, made.id)
    assert (found.state, found.result) == (State.DONE, '{"runtime_id": "c1"}')
    assert "commands.ended" in await announced(database)


async def test_a_repeated_request_is_one_command(service: CommandService, clock: ManualClock) -> None:
    wish = Wish(Verb.PRUNE_CACHE, id=new_id(clock))
    first = await service.ask_host(ADMIN, "east/e1", wish)
    assert (await service.ask_host(ADMIN, "east/e1", wish)).id == first.id
    assert len((await service.page(ADMIN, PageRequest())).items) == 1
    with pytest.raises(CommandDiffers):
        await service.ask_host(ADMIN, "east/e2", wish)


async def test_what_no_host_heard_of_is_cancelled_for_certain(service: CommandService) -> None:
    made = await service.ask_host(ADMIN, "east/e1", PRUNE)
    assert (await service.cancel(ADMIN, made.id)).state is State.CANCELLED
    assert (await service.cancel(ADMIN, made.id)).state is State.CANCELLED
    assert await service.offered("host-e1") == []


async def test_of_what_a_host_was_told_the_host_has_the_last_word(service: CommandService) -> None:
    kept, gone = [await service.ask_host(ADMIN, "east/e1", PRUNE) for _ in range(2)]
    await service.offered("host-e1")
    for one in (kept, gone):
        waits = await service.cancel(ADMIN, one.id)
        assert (waits.state, waits.cancel_wanted) == (State.OFFERED, True)
    assert {one.cancel_wanted for one in await service.offered("host-e1")} == {True}
    await service.accept("host-e1", [*said(kept, "DONE"), *said(gone, "CANCELLED")])
    assert [(await service.get(ADMIN, one.id)).state for one in (kept, gone)] == [State.DONE, State.CANCELLED]
    with pytest.raises(CommandTooLate):
        await service.cancel(ADMIN, kept.id)


async def test_nobody_speaks_for_another_host(service: CommandService) -> None:
    made = await service.ask_host(ADMIN, "east/e1", PRUNE)
    await service.accept("host-e2", said(made, "DONE"))
    assert (await service.get(ADMIN, made.id)).state is State.QUEUED


async def test_what_is_too_old_expires_and_a_late_word_still_counts(
    service: CommandService, clock: ManualClock
) -> None:
    wish = Wish(Verb.PRUNE_CACHE, begin_within=timedelta(seconds=60))
    queued, offered = await service.ask_host(ADMIN, "east/e2", wish), await service.ask_host(ADMIN, "east/e1", wish)
    await service.offered("host-e1")
    await clock.advance(61)
    assert await service.sweep() == 1
    assert (await service.get(ADMIN, queued.id)).state is State.EXPIRED
    await clock.advance(600)
    assert await service.sweep() == 1
    late = await service.get(ADMIN, offered.id)
    assert (late.state, late.detail) == (State.EXPIRED, "its host was told and never answered; it may have begun")
    await service.accept("host-e1", said(offered, "DONE"))
    assert (await service.get(ADMIN, offered.id)).state is State.DONE
    await clock.advance(31 * 86400)
    assert await service.sweep() == 2
    with pytest.raises(CommandUnknown):
        await service.get(ADMIN, offered.id)


async def test_who_began_and_was_never_heard_of_again_was_interrupted(
    service: CommandService, clock: ManualClock
) -> None:
    made = await service.ask_host(ADMIN, "east/e1", PRUNE)
    await service.accept("host-e1", said(made, "ACCEPTED"))
    await clock.advance(3600 + 600 + 601)
    await service.sweep()
    assert (await service.get(ADMIN, made.id)).state is State.INTERRUPTED


async def test_a_host_gets_no_more_than_it_can_hold(service: CommandService) -> None:
    for _ in range(MOST_OPEN_PER_HOST):
        await service.ask_host(ADMIN, "east/e1", PRUNE)
    with pytest.raises(TooManyCommands):
        await service.ask_host(ADMIN, "east/e1", PRUNE)
    await service.ask_host(ADMIN, "east/e2", PRUNE)


@pytest.mark.parametrize(
    "wish",
    [
        Wish(Verb.PRUNE_CACHE, id="no-id"),
        Wish(Verb.PRUNE_CACHE, begin_within=timedelta(0)),
        Wish(Verb.PRUNE_CACHE, end_within=timedelta(hours=2)),
        RESTART,
    ],
)
async def test_what_cannot_be_meant_is_refused(service: CommandService, wish: Wish) -> None:
    with pytest.raises(CommandInvalid):
        await service.ask_host(ADMIN, "east/e1", wish)
    assert (await service.page(ADMIN, PageRequest())).total_count == 0


async def test_a_revoked_host_is_asked_for_nothing(service: CommandService, database: Database) -> None:
    await revoke_host(database, "host-e1")
    with pytest.raises(HostGone):
        await service.ask_host(ADMIN, "east/e1", PRUNE)


async def test_hosts_are_the_platforms_and_instances_their_tenants(service: CommandService, instance_id: str) -> None:
    with pytest.raises(Denied):
        await service.ask_host(OPERATOR, "east/e1", PRUNE)
    with pytest.raises(Denied):
        await service.ask_instance(VIEWER, instance_id, RESTART)
    with pytest.raises(InstanceUnknown):
        await service.ask_instance(STRANGER, instance_id, RESTART)
    of_host = await service.ask_host(ADMIN, "east/e1", PRUNE)
    of_instance = await service.ask_instance(OPERATOR, instance_id, RESTART)
    for principal, seen in ((ADMIN, 2), (VIEWER, 1), (STRANGER, 0)):
        assert (await service.page(principal, PageRequest())).total_count == seen
    for principal, command in ((OPERATOR, of_host), (STRANGER, of_instance)):
        for act in (service.get(principal, command.id), service.cancel(principal, command.id)):
            with pytest.raises(NotFound):
                await act
    with pytest.raises(Denied):
        await service.cancel(VIEWER, of_instance.id)


def test_reports_in_any_order_have_the_same_end(clock: ManualClock) -> None:
    now = clock.now()
    command = Command("a", "h", Verb.RESTART, "i", "acme", "olga", now, now, 60)
    chance = random.Random(3)
    for _ in range(200):
        stages = [State.ACCEPTED, State.ACCEPTED, State.DONE, State.DONE]
        chance.shuffle(stages)
        found = command
        for state in stages:
            found = reported(found, state, "", "", now)
        assert found.state is State.DONE
    assert State.DONE not in OPEN


class Streams:
    """The streams of one replica."""

    def __init__(self) -> None:
        self.attached: dict[str, Session] = {}

    def find(self, kind: str, host_id: str) -> Session | None:
        return self.attached.get(host_id)

    def attach(self, host_id: str, clock: ManualClock) -> Session:
        self.attached[host_id] = Session(None, f"s-{len(self.attached)}", "p", clock)  # type: ignore[arg-type]
        return self.attached[host_id]


async def test_a_stream_is_told_once_and_the_next_one_again(service: CommandService, clock: ManualClock) -> None:
    streams = Streams()
    messenger = CommandMessenger(service, MemoryEventBus(), streams, clock, random.Random(1).random)  # type: ignore[arg-type]
    made = await service.ask_host(ADMIN, "east/e1", PRUNE)
    await messenger.once()
    assert (await service.get(ADMIN, made.id)).state is State.QUEUED  # nobody is there
    first = streams.attach("host-e1", clock)
    await messenger.once()
    await messenger.once()
    message: Any = first.queue.get_nowait()
    assert [one.command_id for one in message.commands.commands] == [made.id]
    assert message.commands.commands[0].begin_within_seconds == 3600
    assert first.queue.qsize() == 0
    second = streams.attach("host-e1", clock)
    await messenger.once()
    again: Any = second.queue.get_nowait()
    assert again.commands == message.commands
    await service.cancel(ADMIN, made.id)
    await messenger.once()
    cancelled: Any = second.queue.get_nowait()
    assert list(cancelled.commands.cancelled) == [made.id]
    await service.accept("host-e1", said(made, "CANCELLED"))
    await messenger.once()
    assert second.queue.qsize() == 0


async def test_two_replicas_with_one_stream_tell_it_once(service: CommandService, clock: ManualClock) -> None:
    streams = Streams()
    here = streams.attach("host-e1", clock)
    messengers = [
        CommandMessenger(service, MemoryEventBus(), found, clock, random.Random(1).random)  # type: ignore[arg-type]
        for found in (streams, Streams())
    ]
    await service.ask_host(ADMIN, "east/e1", PRUNE)
    await asyncio.gather(*(one.once() for one in messengers))
    assert here.queue.qsize() == 1


async def test_every_route_has_its_right_and_its_shape(service: CommandService, instance_id: str) -> None:
    app = FastAPI()
    app.include_router(build_router(service))
    app.state.authenticator = Names()
    install_error_handlers(app)

    async def ask(who: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"Authorization": who} if who else {}
        answer = await http.request(method, f"/api/v1{path}", json=body, headers=headers)
        return answer.status_code, answer.json()

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://centre") as http:
        status, body = await ask("admin", "POST", "/hosts/east/e1/commands", {"verb": "collect_diagnostics"})
        assert (status, body["data"]["state"], body["data"]["host"]) == (202, "queued", "east/e1")
        host_command = body["data"]["id"]
        status, body = await ask("operator", "POST", f"/instances/{instance_id}/commands", {"verb": "restart"})
        assert (status, body["data"]["instance_id"]) == (202, instance_id)
        command = body["data"]["id"]
        assert (await ask("admin", "POST", "/hosts/east/e1/commands", {"verb": "format"}))[0] == 400
        status, body = await ask("viewer", "GET", f"/commands?instance={instance_id}&open_only=true")
        assert (status, [one["id"] for one in body["data"]]) == (200, [command])
        assert (await ask("admin", "GET", "/commands?host=east/e1"))[1]["pagination"]["total_count"] == 2
        expected = {
            ("operator", "POST", "/hosts/east/e1/commands"): 403,
            ("viewer", "POST", f"/instances/{instance_id}/commands"): 403,
            ("stranger", "POST", f"/instances/{instance_id}/commands"): 404,
            ("stranger", "GET", f"/commands/{command}"): 404,
            ("operator", "GET", f"/commands/{host_command}"): 404,
            ("viewer", "POST", f"/commands/{command}/cancel"): 403,
            ("stranger", "POST", f"/commands/{command}/cancel"): 404,
            ("operator", "POST", f"/commands/{command}/cancel"): 200,
        }
        for (who, method, path), wanted in expected.items():
            body = {"verb": "restart"} if path.endswith("commands") and "instances" in path else {"verb": "prune_cache"}
            assert (await ask(who, method, path, body))[0] == wanted, (who, method, path)
        for path in ("/commands", f"/commands/{command}"):
            assert (await ask("nobody", "GET", path))[0] == 401
            assert (await ask("", "GET", path))[0] == 401
