"""kill -9 of the whole server ahead of every step of a push that leaves a trace: the client goes on after the restart,
and nothing that was acknowledged is lost, nothing else is seen, and what is left over goes.

`SOAK_TESTS=1` in the environment takes every step; without it a few of them, others in each run.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from common.clock import ManualClock, SystemClock
from common.digest import Digest
from control_plane.app import build
from control_plane.backing import open_backing
from control_plane.settings import Settings, load_settings
from tests.conformance.oci_push import begin, patch
from tests.engines.ceph import S3Bucket
from tests.engines.postgresql import PostgresEngine
from tests.engines.redis import RedisEngine
from tests.faults.lives import NO_DRIFT, Installation, Push, installation

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]

SOAK = bool(os.environ.get("SOAK_TESTS"))  # noqa: TID251  a switch of the tests


def chosen_steps(total: int, few: int) -> Iterator[int]:
    """Which steps the server dies ahead of."""
    if SOAK:
        yield from range(1, total + 1)
        return
    bounds = [total * part // few for part in range(few + 1)]
    for low, high in itertools.pairwise(bounds):
        yield random.randint(low + 1, max(low + 1, high))


def measured(server: Installation) -> tuple[Push, int]:
    """A push that nobody disturbs, and how many steps it takes."""
    with server.user() as user:
        user.ask("GET", user.path("tags", "list"))  # the login is behind us
        server.arm()
        push = Push("undisturbed")
        push.go_on(user)
    return push, len(server.steps())


def died_and_went_on(server: Installation, step: int) -> Push:
    """One push whose server dies ahead of `step`; another life ends it."""
    server.start(die_at=step)
    push = Push(f"died-at-{step}")
    with server.user() as user:
        user.ask("GET", user.path("tags", "list"))
        server.arm()
        try:
            push.go_on(user)
        except httpx.TransportError:
            assert len(server.steps()) == step
    server.kill()
    server.start()
    with server.user() as user:
        push.check(user)
        push.go_on(user)
        push.check(user)
        assert push.done
    assert server.recount() == NO_DRIFT
    server.kill()
    return push


async def left_in_the_store(settings: Settings, *, hours: float = 30) -> set[Digest]:
    """After the expiry of uploads, a sweep and collections in days to come, by the control plane's own wiring."""
    clock = ManualClock(SystemClock().now() + timedelta(hours=hours))
    backing = open_backing(settings, clock)
    try:
        plane = await build(settings, clock, backing)
        await plane.registry.uploads.expire()
        await plane.collection.service.sweep(seconds=60)
        for _ in range(4):
            await plane.collection.service.collect(seconds=60)
            clock.tick(hours * 3600)
        assert list(await backing.blobs.pending_uploads(clock.now())) == []
        return {each.digest for each in await backing.blobs.list("", 10_000)}
    finally:
        await backing.close()


async def check_lives(server: Installation, environment: dict[str, str], few: int) -> None:
    first, total = measured(server)
    assert total > 10, server.steps()
    server.kill()
    pushes = [first, *(died_and_went_on(server, step) for step in chosen_steps(total, few))]
    server.start()
    needed: set[Digest] = set()
    with server.user() as user:
        for push in pushes:
            push.check(user)
            needed |= {user.digest(each) for each in (*push.layers, push.config)}
        patch(user, begin(user), b"that nobody goes on with", 0)
        user.blob(b"that no manifest will need")
    server.stop()
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        settings = load_settings(None, {"data": server.data})
        assert await left_in_the_store(settings) == needed
    server.start()
    with server.user() as user:
        for push in pushes:
            push.check(user)
    assert server.recount() == NO_DRIFT
    assert "Traceback" not in server.log, server.log[server.log.index("Traceback") - 1500 :][:5000]


async def test_no_step_of_a_push_is_a_bad_moment_to_die(tmp_path: Path) -> None:
    with installation(tmp_path / "plane") as server:
        await check_lives(server, {}, few=5)


@pytest.mark.engine("postgresql")
@pytest.mark.engine("redis")
@pytest.mark.engine("ceph")
async def test_no_step_of_a_push_to_postgresql_and_s3_is_a_bad_moment_to_die(
    postgresql: PostgresEngine, redis_server: RedisEngine, s3: S3Bucket, tmp_path: Path
) -> None:
    environment = engines_environment(postgresql, redis_server, s3, tmp_path)
    with installation(tmp_path / "plane", environment) as server:
        await check_lives(server, environment, few=3)


def engines_environment(
    postgresql: PostgresEngine, redis_server: RedisEngine, s3: S3Bucket, scratch: Path
) -> dict[str, str]:
    secret = scratch / "secret"
    secret.write_text(s3.secret_key + "\n")
    return {
        "LONGSHORE_DATABASE__URL": postgresql.create_database(f"lives_{os.getpid()}_{random.getrandbits(32):x}"),
        "LONGSHORE_REDIS__URL": redis_server.url,
        "LONGSHORE_BLOBS__S3__BUCKET": s3.name,
        "LONGSHORE_BLOBS__S3__ENDPOINT": s3.endpoint,
        "LONGSHORE_BLOBS__S3__ACCESS_KEY_ID": s3.access_key_id,
        "LONGSHORE_BLOBS__S3__SECRET_KEY_FILE": str(secret),
        "LONGSHORE_BLOBS__S3__ADDRESSING": "path",
        "LONGSHORE_BLOBS__S3__PART_MEBIBYTES": "5",
        "LONGSHORE_BLOBS__S3__REDIRECT": "false",
    }
