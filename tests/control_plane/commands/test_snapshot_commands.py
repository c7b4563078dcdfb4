from __future__ import annotations

import asyncio
import json
import uuid

import httpx
import pytest
from fastapi import FastAPI

from common.clock import ManualClock, SystemClock
from control_plane.commands.model import CommandDiffers, CommandInvalid, State, Verb
from control_plane.commands.service import CommandService, Wish
from control_plane.commands.snapshot_routes import build_router
from control_plane.commands.snapshots import HostSilent, Snapshots, SnapshotsFailed
from control_plane.commands.wire import commands_message
from control_plane.web.errors import install_error_handlers
from proto.agent.v1 import commands_pb2
from tests.control_plane.commands.test_commands_of_hosts import said
from tests.control_plane.instances.parts import OPERATOR
from tests.control_plane.instances.test_instance_routes import Names

pytestmark = pytest.mark.usefixtures("fleet")


@pytest.mark.parametrize(
    ("verb", "argument"),
    [
        (Verb.SNAPSHOT, ""),
        (Verb.RESTORE_SNAPSHOT, "../etc"),
        (Verb.DELETE_SNAPSHOT, "a b"),
        (Verb.SNAPSHOT, "a" * 64),
        (Verb.LIST_SNAPSHOTS, "all"),
        (Verb.RESTART, "now"),
    ],
)
async def test_an_argument_that_means_nothing_is_refused(
    service: CommandService, instance_id: str, verb: Verb, argument: str
) -> None:
    with pytest.raises(CommandInvalid):
        await service.ask_instance(OPERATOR, instance_id, Wish(verb, argument=argument))


async def test_the_host_is_told_the_name_and_an_id_means_one_snapshot(
    service: CommandService, instance_id: str, clock: ManualClock
) -> None:
    key = str(uuid.uuid4())
    made = await service.ask_instance(OPERATOR, instance_id, Wish(Verb.SNAPSHOT, key, argument="first"))
    assert await service.ask_instance(OPERATOR, instance_id, Wish(Verb.SNAPSHOT, key, argument="first")) == made
    with pytest.raises(CommandDiffers):
        await service.ask_instance(OPERATOR, instance_id, Wish(Verb.SNAPSHOT, key, argument="second"))
    (told,) = commands_message(await service.offered("host-e1"), clock.now()).commands.commands
    assert (told.verb, told.argument) == (commands_pb2.COMMAND_VERB_SNAPSHOT, "first")


async def answered(service: CommandService, state: str, result: str = "", detail: str = "") -> None:
    """The host hears of one command, and answers it."""
    while not (told := await service.offered("host-e1")):  # noqa: ASYNC110  the database tells nobody
        await asyncio.sleep(0.01)
    await service.accept("host-e1", said(told[0], state, detail, result))


async def test_the_list_is_what_the_host_says(service: CommandService, instance_id: str) -> None:
    snapshots = Snapshots(service, SystemClock())
    found = [{"name": "first", "created_ns": 1_700_000_000_000_000_000, "size_bytes": 0}]
    async with asyncio.TaskGroup() as group:
        listing = group.create_task(snapshots.listed(OPERATOR, instance_id))
        group.create_task(answered(service, "DONE", json.dumps({"snapshots": found})))
    assert listing.result() == found
    async with asyncio.TaskGroup() as group:
        group.create_task(answered(service, "FAILED", detail="Docker has no snapshots"))
        with pytest.raises(SnapshotsFailed, match="Docker has no snapshots"):
            await snapshots.listed(OPERATOR, instance_id)


async def test_a_silent_host_is_not_waited_for_longer_than_people_wait(
    service: CommandService, instance_id: str, clock: ManualClock
) -> None:
    listing = asyncio.ensure_future(Snapshots(service, clock).listed(OPERATOR, instance_id))
    while not listing.done():
        await asyncio.sleep(0.01)
        await clock.advance(5)
    with pytest.raises(HostSilent):
        listing.result()


async def test_every_route_asks_for_its_own_command(service: CommandService, instance_id: str) -> None:
    app = FastAPI()
    install_error_handlers(app)
    app.state.authenticator = Names()
    app.include_router(build_router(service, Snapshots(service, SystemClock())))
    path = f"/api/v1/instances/{instance_id}/snapshots"
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        asks = {"Authorization": "operator"}
        made = [
            await client.post(path, json={"name": "first"}, headers=asks),
            await client.post(f"{path}/first/restore", headers=asks),
            await client.delete(f"{path}/first", params={"id": str(uuid.uuid4())}, headers=asks),
        ]
        assert [answer.status_code for answer in made] == [202] * 3
        shown = [(answer.json()["data"]["verb"], answer.json()["data"]["argument"]) for answer in made]
        assert shown == [("snapshot", "first"), ("restore_snapshot", "first"), ("delete_snapshot", "first")]
        refused = await client.post(path, json={"name": "first"}, headers={"Authorization": "viewer"})
        assert refused.status_code == 403
        assert (await client.post(path, json={"name": "a/b"}, headers=asks)).status_code in (400, 422)
    assert {one.state for one in await service.offered("host-e1")} == {State.OFFERED}
