"""Two replicas take in one content at the same time, and one upload goes on at both: it is stored once, paid for once,
and both hand it out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier

import httpx
import pytest

from tests.conformance.oci_push import begin, patch
from tests.conformance.oci_registry import OCTETS, RegistryUser, closing, codes_of, unique
from tests.engines.ceph import S3Bucket
from tests.engines.postgresql import PostgresEngine
from tests.engines.redis import RedisEngine
from tests.faults.lives import NO_DRIFT, Installation, installation, replica_of
from tests.faults.test_kill_anywhere import engines_environment
from tests.pace import BUSY_SECONDS

pytestmark = [
    pytest.mark.engine("postgresql"),
    pytest.mark.engine("redis"),
    pytest.mark.engine("ceph"),
    pytest.mark.processes,
    pytest.mark.timeout(180),
]

SIZE = 6_000_000  # more than one part of the bucket's
PUSHERS = 4  # of each replica


@dataclass
class Site:
    """`stored` says how often the store has a content that is named, by its digest in hexadecimal."""

    replicas: tuple[Installation, Installation]
    stored: Callable[[str], int]

    @contextlib.contextmanager
    def users(self, repository: str = "acme/web") -> Iterator[list[RegistryUser]]:
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(each.user(repository, BUSY_SECONDS)) for each in self.replicas]

    def used_bytes(self) -> int:
        with self.replicas[0].admin() as admin:
            return int(admin.get("/api/v1/tenants/acme/quota").raise_for_status().json()["data"]["used_bytes"])


@contextlib.contextmanager
def _site(root: Path, environment: dict[str, str], stored: Callable[[str], int]) -> Iterator[Site]:
    shared = {**environment, "LONGSHORE_SECRETS_DIRECTORY": str(root / "secrets")}
    with installation(root / "first", shared) as first, replica_of(first, root / "second") as second:
        yield Site((first, second), stored)


@pytest.fixture(scope="module")
def _bucket(request: pytest.FixtureRequest) -> S3Bucket:
    bucket: S3Bucket = request.getfixturevalue("_shared_ceph").new_bucket()
    return bucket


@pytest.fixture(scope="module", params=["directory", "bucket"])
def site(
    request: pytest.FixtureRequest,
    postgresql: PostgresEngine,
    _shared_redis: RedisEngine,
    _bucket: S3Bucket,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    root: Path = tmp_path_factory.mktemp("replicas")
    _shared_redis.command("FLUSHALL")  # it knows the tenants of another installation
    environment = engines_environment(postgresql, _shared_redis, _bucket, root)
    if request.param == "bucket":
        client = _bucket.client()

        def named(digest: str) -> int:
            listed = client.list_objects_v2(Bucket=_bucket.name).get("Contents", [])
            keys = [entry["Key"] for entry in listed]
            discarded = {key.rpartition("/")[2] for key in keys if key.startswith("trash/")}
            contents = [entry for entry in listed if entry["Key"].startswith("contents/") and entry["Size"] == SIZE]
            assert f"blobs/sha256/{digest[:2]}/{digest}" in keys
            return len([entry for entry in contents if entry["Key"].rpartition("/")[2] not in discarded])

        with _site(root, environment, named) as opened:
            yield opened
        return
    blobs = root / "blobs"
    environment = {name: value for name, value in environment.items() if "__S3__" not in name}

    def files(digest: str) -> int:
        assert list((blobs / "uploads").iterdir()) == []
        return len([each for each in (blobs / "blobs").rglob("*") if each.name == digest])

    with _site(root, {**environment, "LONGSHORE_BLOBS__DIRECTORY": str(blobs)}, files) as opened:
        yield opened


def together(*requests: Callable[[], httpx.Response]) -> list[httpx.Response]:
    """Each in a thread of its own, from one moment on."""
    start = Barrier(len(requests))

    def asked(request: Callable[[], httpx.Response]) -> httpx.Response:
        start.wait(BUSY_SECONDS)
        return request()

    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(asked, requests))


def test_one_content_pushed_to_both_at_once_is_stored_once(site: Site) -> None:
    content, before = unique(SIZE), site.used_bytes()
    held = len(content) // 2
    with site.users() as users:
        digest = users[0].digest(content)
        sessions = [(user, patch(user, begin(user), content[:held], 0)) for user in users for _ in range(PUSHERS)]
        assert {answer.status_code for _, answer in sessions} == {202}

        def finished(user: RegistryUser, location: str) -> Callable[[], httpx.Response]:
            headers = {"Content_Type": OCTETS, "Content_Range": f"{held}-{len(content) - 1}"}
            return lambda: user.ask("PUT", closing(location, digest), content[held:], **headers)

        answers = together(*(finished(user, answer.headers["Location"]) for user, answer in sessions))
        assert [answer.status_code for answer in answers] == [201] * len(sessions), [each.text for each in answers]
        for user in users:
            assert user.ask("GET", user.path("blobs", digest)).content == content
    assert site.stored(digest.hex) == 1
    assert site.used_bytes() == before + SIZE
    assert site.replicas[0].recount() == NO_DRIFT


def test_one_upload_that_both_are_told_to_finish_is_finished_once(site: Site) -> None:
    content = unique(SIZE)
    held = len(content) // 2
    with site.users() as (first, second):
        digest = first.digest(content)
        location = patch(first, begin(first), content[:held], 0).headers["Location"]
        location = patch(second, location, content[held:], held).headers["Location"]
        answers = together(*(lambda user=user: user.ask("PUT", closing(location, digest)) for user in (first, second)))
        statuses = sorted(answer.status_code for answer in answers)
        # Who comes second finds it done, being done (503: ask again), or gone.
        assert statuses[0] == 201
        assert statuses[1] in (201, 404, 503), [each.text for each in answers]
        for answer in answers:
            assert answer.status_code != 503 or int(answer.headers["Retry-After"]) >= 1
        again = second.ask("PUT", closing(location, digest))
        assert (again.status_code, again.headers["Docker-Content-Digest"]) == (201, str(digest))
        for user in (first, second):
            assert user.ask("GET", user.path("blobs", digest)).content == content
    assert site.stored(digest.hex) >= 1
    assert site.replicas[0].recount() == NO_DRIFT


def test_two_chunks_for_one_place_are_one(site: Site) -> None:
    """A client that gave up on one replica goes on at the other one, while the first still writes."""
    content = unique(SIZE)
    other = unique(SIZE)
    with site.users() as (first, second):
        location = begin(first)
        answers = together(
            lambda: patch(first, location, content, 0),
            lambda: patch(second, location, other, 0),
        )
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses[0] == 202
        assert statuses[1] in (416, 503), [each.text for each in answers]
        written = content if answers[0].status_code == 202 else other
        digest = first.digest(written)
        status = second.ask("GET", location)
        assert (status.status_code, status.headers["Range"]) == (204, f"0-{SIZE - 1}")
        wrong = second.ask("PUT", closing(location, first.digest(unique())))
        assert (wrong.status_code, codes_of(wrong)) == (400, ["DIGEST_INVALID"])
        done = second.ask("PUT", closing(location, digest))
        # A false digest ends the session.
        assert done.status_code == 404
