"""PostgreSQL or Redis goes away under a registry in use, by ending and by hanging: clear refusals in time, and no
acknowledged push is lost.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.conformance.oci_push import begin, patch
from tests.conformance.oci_registry import (
    IMAGE,
    DockerLogin,
    RegistryTarget,
    RegistryUser,
    closing,
    codes_of,
    encode,
    unique,
)
from tests.control_plane.cli.programs import Longshore, log_in, started
from tests.engines.fixtures import running
from tests.engines.postgresql import PostgresEngine, postgres_engine
from tests.engines.processes import wait_until
from tests.engines.redis import RedisEngine

pytestmark = [
    pytest.mark.engine("postgresql"),
    pytest.mark.engine("redis"),
    pytest.mark.processes,
    pytest.mark.timeout(180),
]

# The database's own deadline is 10 s, for a connection and for an answer each.
PATIENCE = 25.0


@dataclass
class Lab:
    user: RegistryUser
    postgresql: PostgresEngine
    redis: RedisEngine

    def ask_all(self, requests: list[Callable[[], httpx.Response]]) -> list[httpx.Response]:
        """At once; each must be answered in time."""
        begun = time.monotonic()
        with ThreadPoolExecutor(len(requests)) as pool:
            answers = [each.result() for each in [pool.submit(request) for request in requests]]
        assert time.monotonic() - begun < PATIENCE
        return answers


@pytest.fixture
def lab(own_redis: RedisEngine, tmp_path: Path) -> Iterator[Lab]:
    # It is stopped hard: without fsync it would lose what it acknowledged.
    with running("postgresql", postgres_engine(fsync=True)) as postgresql:
        environment = {
            "LONGSHORE_DATABASE__URL": postgresql.create_database("away"),
            "LONGSHORE_REDIS__URL": own_redis.url,
        }
        plane = started(tmp_path / "data", environment=environment)
        try:
            program = Longshore(plane.url, tmp_path)
            assert log_in(program, "admin", plane.password).code == 0
            assert program("tenant", "create", "acme").code == 0
            target = RegistryTarget(plane.url, "admin", plane.password, "acme")
            with httpx.Client(base_url=plane.url, auth=DockerLogin(target), timeout=PATIENCE) as http:
                user = RegistryUser(http, target, repository="acme/web", other="acme/other")
                yield Lab(user, postgresql, own_redis)
        finally:
            plane.service.stop()


def frozen(engine: PostgresEngine, number: signal.Signals) -> None:
    """The server with every process of it: the postmaster alone would leave open sessions working."""
    pid = engine.process.pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        os.kill(int(child), number)
    engine.process.send(number)


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_database_that_goes_away_costs_no_acknowledged_push(lab: Lab, how: str) -> None:
    user = lab.user
    image, content = user.image("before"), unique(300)
    digest, document = user.digest(content), user.image_document()
    location = patch(user, begin(user), content[:100], 0).headers["Location"]
    if how == "killed":
        lab.postgresql.kill()
    else:
        frozen(lab.postgresql, signal.SIGSTOP)
    requests: list[Callable[[], httpx.Response]] = [
        lambda: user.ask("GET", user.path("manifests", "before")),
        lambda: user.ask("GET", user.path("tags", "list")),
        lambda: user.ask("PUT", user.path("manifests", "while"), encode(document), Content_Type=IMAGE),
        lambda: user.ask("POST", user.path("blobs", "uploads", "")),
        lambda: patch(user, location, content[100:200], 100),
    ]
    for number, answer in enumerate(lab.ask_all(requests)):
        # Bytes come in without the database, as long as it is remembered who may send them.
        if number >= 3 and answer.status_code == 202:
            continue
        assert (answer.status_code, codes_of(answer)) == (503, ["UNAVAILABLE"])
        assert int(answer.headers["Retry-After"]) >= 1
    if how == "killed":
        lab.postgresql.start()
    else:
        frozen(lab.postgresql, signal.SIGCONT)
    assert wait_until(lambda: user.ask("GET", user.path("tags", "list")).status_code == 200, 30, 0.2)
    assert user.ask("GET", user.path("manifests", "before")).content == image.payload
    assert user.ask("GET", user.path("tags", "list")).json()["tags"] in (["before"], ["before", "while"])
    held = int(user.ask("GET", location).headers["Upload-Offset"])
    assert held in (100, 200)
    patch(user, location, content[held:], held)
    assert user.ask("PUT", closing(location, digest)).status_code == 201
    assert user.ask("GET", user.path("blobs", digest)).content == content


@pytest.mark.parametrize("how", ["stopped", "paused"])
def test_redis_that_goes_away_stops_nobody_for_long(lab: Lab, how: str) -> None:
    user = lab.user
    image = user.image("before")
    if how == "stopped":
        lab.redis.stop()
    else:
        lab.redis.pause()
    content = unique()
    answers = lab.ask_all(
        [
            lambda: user.ask("GET", user.path("manifests", "before")),
            lambda: user.ask("POST", user.path("blobs", "uploads", "") + f"?digest={user.digest(content)}", content),
        ]
    )
    for answer, wanted in zip(answers, (200, 201), strict=True):
        assert answer.status_code in (wanted, 503), answer.text
        if answer.status_code == 503:
            assert int(answer.headers["Retry-After"]) >= 1
    if how == "stopped":
        lab.redis.start()
    else:
        lab.redis.process.resume()
    assert wait_until(lambda: user.ask("GET", user.path("manifests", "before")).status_code == 200, 30, 0.2)
    assert user.ask("GET", user.path("manifests", image.digest)).content == image.payload
    user.image("after")
