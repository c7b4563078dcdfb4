"""Replication from the command line to the bytes: two servers that copy to each other, and kill -9 in the middle."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from control_plane.registry.remote.client import RegistryClient
from tests.control_plane.cli.programs import Longshore, Plane, log_in, started
from tests.control_plane.registry.mirroring.sites import proxied
from tests.control_plane.registry.remote.clients import push_image, talking_to
from tests.engines.docker_registry import DockerRegistry

pytestmark = pytest.mark.processes

ENVIRONMENT = {
    "LONGSHORE_OUTBOUND__ALLOW": '["127.0.0.1"]',
    "LONGSHORE_REPLICATION__LEASE_SECONDS": "2",
    "LONGSHORE_REPLICATION__SETTLE_SECONDS": "0.1",
}
LAYER_BYTES = 24_000_000


@pytest.fixture(scope="module")
def planes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Plane, Plane]]:
    running = [started(tmp_path_factory.mktemp(name) / "data", environment=ENVIRONMENT) for name in ("east", "west")]
    yield running[0], running[1]
    for each in running:
        each.service.stop()


@pytest.fixture(scope="module")
def owners(planes: tuple[Plane, Plane], tmp_path_factory: pytest.TempPathFactory) -> tuple[Longshore, Longshore]:
    """Each names the other as the endpoint `there` of its tenant acme."""
    programs = []
    for plane in planes:
        program = Longshore(plane.url, tmp_path_factory.mktemp("owner"))
        assert log_in(program, "admin", plane.password).code == 0
        assert program("tenant", "create", "acme").code == 0
        programs.append(program)
    for program, other in zip(programs, reversed(planes), strict=True):
        words = ("replication", "endpoint", "create", "there", other.url, "--tenant", "acme")
        made = program(*words, "-u", "admin", "--password-stdin", stdin=other.password)
        assert made.code == 0, made
        assert other.password not in made.out + program("replication", "endpoint", "list", "--json").out
        assert program("replication", "endpoint", "check", "there").code == 0
    return programs[0], programs[1]


def at(plane: Plane) -> object:
    return talking_to(plane.url, username="admin", password=plane.password)


async def until(check: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not await asyncio.to_thread(check):
        assert time.monotonic() < end, "it did not come about"
        await asyncio.sleep(0.1)


async def tagged(client: RegistryClient, repository: str, tag: str, payload: bytes, seconds: float = 30) -> None:
    end, last = time.monotonic() + seconds, Exception("it means something else")
    while True:
        try:
            if (await client.manifest(repository, tag)).payload == payload:
                return
        except Exception as error:  # not there yet
            last = error
        assert time.monotonic() < end, last
        await asyncio.sleep(0.1)


def executions(program: Longshore) -> list[dict[str, object]]:
    found: list[dict[str, object]] = program("replication", "status", "--json").json
    return found


async def test_two_sites_that_copy_to_each_other_come_to_rest(
    planes: tuple[Plane, Plane], owners: tuple[Longshore, Longshore]
) -> None:
    for program in owners:
        words = ("replication", "rule", "create", "all", "push", "there", "--tenant", "acme", "--on-event")
        assert program(*words, "--repository", "acme/pair/**").code == 0
    east, west = planes
    async with (
        talking_to(east.url, username="admin", password=east.password) as one,
        talking_to(west.url, username="admin", password=west.password) as other,
    ):
        first, _ = await push_image(one, "acme/pair/web", "1", (b"from the east",))
        await tagged(other, "acme/pair/web", "1", first)
        second, _ = await push_image(other, "acme/pair/web", "1", (b"from the west",))
        await tagged(one, "acme/pair/web", "1", second)
        ended = {"succeeded"}

        def at_rest() -> bool:
            return all({each["state"] for each in executions(program)} == ended for program in owners)

        await until(at_rest)
        before = [len(executions(program)) for program in owners]
        await asyncio.sleep(2.5)  # longer than any event waits
        await until(at_rest)
        assert [len(executions(program)) for program in owners] == before
        assert (await one.manifest("acme/pair/web", "1")).payload == second
        assert (await other.manifest("acme/pair/web", "1")).payload == second


async def test_a_rule_pulls_on_request(planes: tuple[Plane, Plane], owners: tuple[Longshore, Longshore]) -> None:
    west = planes[1]
    async with talking_to(west.url, username="admin", password=west.password) as there:
        payload, _ = await push_image(there, "acme/tools/git", "2", (b"git",))
    program = owners[0]
    words = (
        "replication",
        "rule",
        "create",
        "fetch",
        "pull",
        "there",
        "--tenant",
        "acme",
        "--repository",
        "acme/tools/*",
    )
    assert program(*words, "--namespace", "acme/fetched", "--strip", "2").code == 0
    started_one = program("replication", "run", "fetch", "--json").json

    def done() -> bool:
        found = {each["id"]: each["state"] for each in executions(program)}
        return found[started_one["id"]] == "succeeded"

    await until(done)
    east = planes[0]
    async with talking_to(east.url, username="admin", password=east.password) as here:
        assert (await here.manifest("acme/fetched/git", "2")).payload == payload
    rows = program("replication", "status", started_one["id"], "--json").json
    assert [(row["repository"], row["destination"], row["state"]) for row in rows] == [
        ("acme/tools/git", "acme/fetched/git", "succeeded")
    ]


async def test_a_full_target_and_an_immutable_tag_end_the_task_with_the_reason(
    planes: tuple[Plane, Plane], owners: tuple[Longshore, Longshore]
) -> None:
    (east, west), (program, there) = planes, owners
    assert there("immutability", "add", "fixed*", "--tenant", "acme", "--repository", "held/**").code == 0
    async with talking_to(west.url, username="admin", password=west.password) as other:
        kept, _ = await push_image(other, "acme/held/web", "fixed", (b"theirs",))
        async with talking_to(east.url, username="admin", password=east.password) as here:
            await push_image(here, "acme/held/web", "fixed", (b"ours",))
            await push_image(here, "acme/held/web", "open", (b"large" * 1000,))
        words = ("replication", "rule", "create", "held", "push", "there", "--tenant", "acme")
        assert program(*words, "--repository", "acme/held/*").code == 0

        def ended(run: str) -> Callable[[], bool]:
            return lambda: {each["id"]: each["state"] for each in executions(program)}[run] == "failed"

        # Room for the first image, also while the second is being tried, and not for the second.
        room = there("quota", "show", "acme", "--json").json["used_bytes"] + 4000
        assert there("quota", "set", "acme", "--storage", str(room)).code == 0
        for tag, words_of_it in (("fixed", "immutable"), ("open", "quota")):
            run = program("replication", "run", "held", "--json").json["id"]
            await until(ended(run))
            rows = {row["reference"]: row for row in program("replication", "status", run, "--json").json}
            assert rows[tag]["state"] == "failed"
            assert words_of_it in rows[tag]["detail"].lower(), rows
            assert rows[tag]["attempts"] == 1
        assert (await other.manifest("acme/held/web", "fixed")).payload == kept
        assert there("quota", "reset", "acme").code == 0


@pytest.mark.parametrize("direction", ["push", "pull"])
async def test_a_server_that_is_killed_goes_on_where_it_was(
    planes: tuple[Plane, Plane], owners: tuple[Longshore, Longshore], foreign_registry: DockerRegistry, direction: str
) -> None:
    east, program = planes[0], owners[0]
    name, layer = f"killed-{direction}", random.Random(direction).randbytes(LAYER_BYTES)
    async with talking_to(foreign_registry.url) as far, proxied(foreign_registry.port) as proxy:
        if direction == "pull":
            payload, _ = await push_image(far, f"{name}/web", "1", (layer,))
            proxy.pause_at = 12_000_000
        else:
            async with talking_to(east.url, username="admin", password=east.password) as here:
                payload, _ = await push_image(here, f"acme/{name}/web", "1", (layer,))
            proxy.refusing = True
        endpoint = ("replication", "endpoint", "create", name, f"http://127.0.0.1:{proxy.port}", "--tenant", "acme")
        assert (await asyncio.to_thread(program, *endpoint)).code == 0
        source = f"{name}/*" if direction == "pull" else f"acme/{name}/*"
        words = ("replication", "rule", "create", name, direction, name, "--tenant", "acme", "--repository", source)
        namespace = ("--namespace", "acme") if direction == "pull" else ("--namespace", "copies")
        assert (await asyncio.to_thread(program, *words, *namespace)).code == 0
        run = (await asyncio.to_thread(program, "replication", "run", name, "--json")).json
        if direction == "pull":
            await asyncio.wait_for(proxy.paused.wait(), 20)
        else:
            await until(lambda: proxy.connections > 2)
        east.service.kill()
        proxy.go.set()
        proxy.refusing = False
        east.service.start()  # from this thread: the server ends with the thread that started it

        def done() -> bool:
            return {each["id"]: each["state"] for each in executions(program)}[run["id"]] == "succeeded"

        await until(done, 60)
        if direction == "push":
            assert (await far.manifest(f"copies/acme/{name}/web", "1")).payload == payload
        else:
            async with talking_to(east.url, username="admin", password=east.password) as here:
                assert (await here.manifest(f"acme/{name}/web", "1")).payload == payload
        rows = (await asyncio.to_thread(program, "replication", "status", run["id"], "--json")).json
        assert rows[0]["bytes_done"] < 2 * LAYER_BYTES


async def test_what_was_copied_and_is_gone_goes_there_at_the_next_run(
    planes: tuple[Plane, Plane], owners: tuple[Longshore, Longshore]
) -> None:
    (east, west), program = planes, owners[0]
    words = ("replication", "rule", "create", "tidy", "push", "there", "--tenant", "acme", "--also-delete")
    when = ("--cron", "30 2 * * 1-5", "--time-zone", "Asia/Shanghai")
    assert program(*words, *when, "--repository", "acme/tidy/*").code == 0
    shown = program("replication", "rule", "show", "tidy", "--json").json
    assert (shown["cron"], shown["time_zone"], shown["next_run_at"][11:16]) == (
        "30 2 * * 1-5",
        "Asia/Shanghai",
        "18:30",
    )
    assert program("replication", "rule", "update", "tidy", "--cron", "61 * * * *").code == 2

    async def ran() -> None:
        run = (await asyncio.to_thread(program, "replication", "run", "tidy", "--json")).json["id"]
        await until(lambda: {each["id"]: each["state"] for each in executions(program)}[run] == "succeeded")

    async with (
        talking_to(east.url, username="admin", password=east.password) as here,
        talking_to(west.url, username="admin", password=west.password) as there,
    ):
        for tag in ("1", "2"):
            await push_image(here, "acme/tidy/web", tag, (tag.encode(),))
        await push_image(there, "acme/tidy/web", "theirs", (b"theirs",))
        await ran()
        assert [tag async for tag in there.tags("acme/tidy/web")] == ["1", "2", "theirs"]
        await here.delete("acme/tidy/web", "manifests", "1")
        await ran()
        assert [tag async for tag in there.tags("acme/tidy/web")] == ["2", "theirs"]
    assert program("replication", "rule", "update", "tidy", "--every-hours", "24").code == 0
    shown = program("replication", "rule", "show", "tidy", "--json").json
    assert (shown["cron"], shown["every_hours"]) == (None, 24)


def test_what_is_somebody_elses_does_not_exist(owners: tuple[Longshore, Longshore], tmp_path: Path) -> None:
    admin = owners[0]
    assert admin("tenant", "create", "birch").code == 0
    assert admin("replication", "rule", "show", "nothing").code == 5
    assert admin("replication", "endpoint", "create", "inner", "http://169.254.169.254").code in (2, 4)
    assert admin("replication", "endpoint", "rm", "there", "--tenant", "birch").code == 5
    assert (
        admin(
            "replication", "rule", "create", "using", "push", "there", "--tenant", "acme", "--repository", "acme/**"
        ).code
        == 0
    )
    assert admin("replication", "endpoint", "rm", "there").code == 6
    assert admin("replication", "rule", "rm", "using").code == 0
