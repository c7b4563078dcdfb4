"""Many clients push the same and different images while others delete, tag anew, collect garbage and count quota anew:
nothing that was acknowledged and not deleted is lost, quota is exact, and the database sees no deadlock.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from common.digest import Digest
from tests.conformance.oci_registry import IMAGE, encode
from tests.engines.fixtures import running
from tests.engines.postgresql import PostgresEngine, postgres_engine
from tests.engines.redis import RedisEngine
from tests.faults.lives import NO_DRIFT, Installation, installation
from tests.faults.test_kill_anywhere import SOAK

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

PUSHERS = 64
SECONDS = 120.0 if SOAK else 6.0
REPOSITORIES = [f"acme/r{number}" for number in range(6)]
# What everybody pushes: the same bytes meet in one blob, in one repository and in many.
SHARED = [random.Random(number).randbytes(2000 + number) for number in range(8)]
# A request may be refused for being busy; it must not be lost, wrong, or an accident.
BUSY = {429, 503}


@dataclass
class Crowd:
    client: httpx.AsyncClient
    until: float
    pushed: dict[tuple[str, str], bytes] = field(default_factory=dict)
    blobs: set[tuple[str, Digest]] = field(default_factory=set)
    contents: dict[Digest, bytes] = field(default_factory=dict)
    images: int = 0
    deletions: int = 0
    busy: int = 0
    wrong: list[tuple[str, str, int, str]] = field(default_factory=list)

    @property
    def over(self) -> bool:
        return asyncio.get_running_loop().time() > self.until

    async def ask(self, method: str, path: str, wanted: set[int], content: bytes | None = None) -> httpx.Response:
        headers = {"Content-Type": IMAGE} if "/manifests/" in path else {}
        began = asyncio.get_running_loop().time()
        try:
            answer = await self.client.request(method, path, content=content, headers=headers)
        except httpx.TransportError as error:
            error.add_note(f"{method} {path} after {asyncio.get_running_loop().time() - began:.1f} s")
            raise
        if answer.status_code in BUSY:
            self.busy += 1
            assert int(answer.headers["Retry-After"]) >= 1
        elif answer.status_code not in wanted:
            self.wrong.append((method, path, answer.status_code, answer.text[:300]))
        return answer

    async def push(self, number: int) -> None:
        """Tags of its own in every repository, so that what it saw acknowledged is what must be there."""
        choice = random.Random(number)
        turn = 0
        while not self.over:
            repository, tag = choice.choice(REPOSITORIES), f"t{number}-{turn % 3}"
            turn += 1
            layers = [*choice.sample(SHARED, 2), choice.randbytes(choice.randint(1, 4000))]
            payload = _manifest(layers)
            if not all([await self._blob(repository, layer) for layer in layers]):
                continue
            answer = await self.ask("PUT", f"/v2/{repository}/manifests/{tag}", {201, 400}, payload)
            # 400: a blob of it was deleted by somebody else after we pushed it.
            if answer.status_code == 201:
                self.images += 1
                self.pushed[repository, tag] = payload
            elif answer.status_code == 400 and "MANIFEST_BLOB_UNKNOWN" not in answer.text:
                self.wrong.append(("PUT", repository, 400, answer.text[:300]))
            if choice.random() < 0.3:
                await self._pull(repository, tag)
            if choice.random() < 0.2:
                await self._delete_own(repository, tag)

    async def _blob(self, repository: str, data: bytes) -> bool:
        digest = Digest.of(data)
        self.contents[digest] = data
        path = f"/v2/{repository}/blobs"
        if (await self.ask("HEAD", f"{path}/{digest}", {200, 404})).status_code == 200:
            return True
        return (await self.ask("POST", f"{path}/uploads/?digest={digest}", {201}, data)).status_code == 201

    async def _pull(self, repository: str, tag: str) -> None:
        expected = self.pushed.get((repository, tag))
        answer = await self.ask("GET", f"/v2/{repository}/manifests/{tag}", {200, 404})
        if answer.status_code == 200:
            assert expected is None or answer.content == expected
            for layer in json.loads(answer.content)["layers"]:
                found = await self.ask("GET", f"/v2/{repository}/blobs/{layer['digest']}", {200})
                if found.status_code == 200 and Digest.of(found.content) != Digest.parse(layer["digest"]):
                    self.wrong.append(("GET", repository, 200, "wrong bytes"))
        elif answer.status_code == 404 and expected is not None:
            self.wrong.append(("GET", f"{repository}:{tag}", 404, "lost"))

    async def _delete_own(self, repository: str, tag: str) -> None:
        payload = self.pushed.pop((repository, tag), None)
        if payload is None:
            return
        self.deletions += 1
        await self.ask("DELETE", f"/v2/{repository}/manifests/{tag}", {202, 404})

    async def retag(self, number: int) -> None:
        """One tag that several fight for: it always names something whole."""
        choice = random.Random(1000 + number)
        while not self.over:
            repository = choice.choice(REPOSITORIES)
            layers = choice.sample(SHARED, 2)
            if all([await self._blob(repository, layer) for layer in layers]):
                path = f"/v2/{repository}/manifests/latest"
                await self.ask("PUT", path, {201, 400}, _manifest(layers))
                answer = await self.ask("GET", path, {200, 404})
                assert answer.status_code != 200 or answer.json()["schemaVersion"] == 2

    async def delete_blobs(self) -> None:
        """Blobs that no manifest needs may go at any time; those that are needed may not (405 or 409)."""
        choice = random.Random(7)
        while not self.over:
            digest = Digest.of(choice.choice(SHARED))
            path = f"/v2/{choice.choice(REPOSITORIES)}/blobs/{digest}"
            await self.ask("DELETE", path, {202, 404, 405, 409})

    async def operate(self, path: str, body: dict[str, str] | None = None) -> None:
        while not self.over:
            answer = await self.client.post(path, json=body)
            if answer.status_code >= 400 and answer.status_code not in BUSY | {409}:
                self.wrong.append(("POST", path, answer.status_code, answer.text[:300]))
            if "recalculation" in path and answer.status_code == 200 and answer.json()["data"] != NO_DRIFT[0]:
                self.wrong.append(("POST", path, 200, f"drift: {answer.text}"))
            await asyncio.sleep(0.2)

    async def check(self) -> None:
        for (repository, tag), payload in self.pushed.items():
            answer = await self.client.get(f"/v2/{repository}/manifests/{tag}")
            assert (answer.status_code, answer.content) == (200, payload), (repository, tag, answer.text[:200])
            for layer in json.loads(payload)["layers"]:
                digest = Digest.parse(layer["digest"])
                found = await self.client.get(f"/v2/{repository}/blobs/{digest}")
                assert (found.status_code, found.content) == (200, self.contents[digest])


def _manifest(layers: list[bytes]) -> bytes:
    described = [
        {"mediaType": "application/octet-stream", "digest": str(Digest.of(each)), "size": len(each)} for each in layers
    ]
    return encode({"schemaVersion": 2, "mediaType": IMAGE, "config": described[0], "layers": described})


async def crowd_on(server: Installation) -> Crowd:
    with server.admin() as admin:
        authorization = admin.headers["Authorization"]
    limits = httpx.Limits(max_connections=PUSHERS + 16)
    async with httpx.AsyncClient(
        base_url=server.url, headers={"Authorization": authorization}, timeout=60, limits=limits
    ) as client:
        crowd = Crowd(client, asyncio.get_running_loop().time() + SECONDS)
        async with asyncio.TaskGroup() as group:
            for number in range(PUSHERS):
                group.create_task(crowd.push(number))
            for number in range(4):
                group.create_task(crowd.retag(number))
            group.create_task(crowd.delete_blobs())
            for kind in ("review", "sweep"):
                group.create_task(crowd.operate("/api/v1/registry/collection/runs", {"kind": kind}))
            group.create_task(crowd.operate("/api/v1/tenants/acme/quota/recalculation"))
            group.create_task(crowd.operate("/api/v1/users/admin/quota/recalculation"))
        assert crowd.wrong == []
        await crowd.check()
    assert server.recount() == NO_DRIFT
    assert crowd.images > PUSHERS // 8  # a busy machine does less
    assert crowd.busy < crowd.images
    assert "did not foresee" not in server.log
    return crowd


@contextlib.contextmanager
def on_postgresql(redis: RedisEngine, root: Path) -> Iterator[tuple[Installation, PostgresEngine]]:
    with running("postgresql", postgres_engine()) as engine:
        environment = {
            "LONGSHORE_DATABASE__URL": engine.create_database("crowd"),
            "LONGSHORE_REDIS__URL": redis.url,
            # Deleted things go at once: the collection has work all the time.
            "LONGSHORE_COLLECTION__GRACE_HOURS": "0.0001",
        }
        with installation(root, environment) as server:
            yield server, engine


@pytest.mark.engine("postgresql")
@pytest.mark.engine("redis")
async def test_a_crowd_on_postgresql_loses_nothing_and_waits_in_no_circle(
    redis_server: RedisEngine, tmp_path: Path
) -> None:
    with on_postgresql(redis_server, tmp_path / "plane") as (server, engine):
        await crowd_on(server)
        log = engine.process.log.read_text(errors="replace")
        errors = [line for line in log.splitlines() if "ERROR:" in line or "deadlock" in line]
        assert errors == []


async def test_a_crowd_on_sqlite_loses_nothing(tmp_path: Path) -> None:
    with installation(tmp_path / "plane", {"LONGSHORE_COLLECTION__GRACE_HOURS": "0.0001"}) as server:
        await crowd_on(server)
