"""What lies beneath a read path is cut, lengthened, removed or replaced: no read path answers with wrong or short bytes
as if all were well, and a push repairs it.

Damage that keeps the length of a blob is found by reading all of it. A whole blob that has to come from the disk is
hashed on its way (docs/decisions/0052); what is in memory, parts, and what a web server in front or a bucket sends is
not: clients check the digest of what they pull, and the scrub reads everything.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.conformance.oci_registry import IMAGE, RegistryUser, unique
from tests.control_plane.blobs.cooling import cool, folder_on_a_disk, rot
from tests.control_plane.blobs.s3_faults import faulty_gateway
from tests.engines.ceph import S3Bucket
from tests.faults.lives import NO_DRIFT, Installation, installation

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

SIZE = 300_000
# bytes -> what lies there afterwards; None: nothing.
HARM: dict[str, Callable[[bytes], bytes | None]] = {
    "cut": lambda data: data[:-1],
    "cut to half": lambda data: data[: len(data) // 2],
    "emptied": lambda data: b"",
    "lengthened": lambda data: data + b"!",
    "removed": lambda data: None,
    "another": lambda data: b"another file altogether",
}


class Place:
    """Where the store keeps a blob, for doing harm to it."""

    def __init__(self, replace: Callable[[str, bytes | None], None], server: Installation) -> None:
        self.replace, self.server = replace, server


@contextlib.contextmanager
def directory_place(root: Path) -> Iterator[Place]:
    def replace(digest: str, data: bytes | None) -> None:
        path = root / "blobs" / "blobs" / "sha256" / digest[:2] / digest
        path.unlink(missing_ok=True)
        if data is not None:
            path.write_bytes(data)

    with installation(root / "plane", {"LONGSHORE_BLOBS__DIRECTORY": str(root / "blobs")}) as server:
        yield Place(replace, server)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with directory_place(tmp_path_factory.mktemp("harmed")) as place:
        yield place


@pytest.fixture(scope="module")
def disk() -> Iterator[Place]:
    with folder_on_a_disk() as root, directory_place(root) as place:
        yield place


@pytest.fixture(scope="module")
def accelerated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("accelerated")

    def replace(digest: str, data: bytes | None) -> None:
        path = root / "blobs" / "blobs" / "sha256" / digest[:2] / digest
        path.unlink(missing_ok=True)
        if data is not None:
            path.write_bytes(data)

    environment = {
        "LONGSHORE_BLOBS__DIRECTORY": str(root / "blobs"),
        "LONGSHORE_REGISTRY__X_ACCEL_PREFIX": "/internal/",
    }
    with installation(root / "plane", environment) as server:
        yield Place(replace, server)


@contextlib.contextmanager
def bucket_place(root: Path, s3: S3Bucket, *, redirect: bool) -> Iterator[Place]:
    (root / "secret").write_text(s3.secret_key)
    with faulty_gateway(s3) as gateway:
        environment = {
            "LONGSHORE_BLOBS__S3__BUCKET": s3.name,
            "LONGSHORE_BLOBS__S3__ENDPOINT": gateway.bucket.endpoint,
            # Who is redirected to the registry's own name is answered by the registry.
            "LONGSHORE_BLOBS__S3__PUBLIC_ENDPOINT": gateway.bucket.endpoint.replace("127.0.0.1", "localhost"),
            "LONGSHORE_BLOBS__S3__ACCESS_KEY_ID": s3.access_key_id,
            "LONGSHORE_BLOBS__S3__SECRET_KEY_FILE": str(root / "secret"),
            "LONGSHORE_BLOBS__S3__ADDRESSING": "path",
            "LONGSHORE_BLOBS__S3__REDIRECT": str(redirect).lower(),
        }
        client = s3.client()

        def replace(digest: str, data: bytes | None) -> None:
            """The blob's bytes are the object that the small one under its name points to."""
            named = client.get_object(Bucket=s3.name, Key=f"blobs/sha256/{digest[:2]}/{digest}")["Body"].read()
            [content] = [
                entry["Key"]
                for entry in client.list_objects_v2(Bucket=s3.name, Prefix="contents/").get("Contents", [])
                if entry["Key"].encode() in named
            ]
            if data is None:
                client.delete_object(Bucket=s3.name, Key=content)
            else:
                client.put_object(Bucket=s3.name, Key=content, Body=data)

        with installation(root / "plane", environment) as server:
            yield Place(replace, server)


def ways(user: RegistryUser, data: bytes) -> dict[str, Callable[[], httpx.Response]]:
    path = user.path("blobs", user.digest(data))
    return {
        "whole": lambda: user.ask("GET", path),
        "range": lambda: user.ask("GET", path, Range="bytes=100-199"),
        "end": lambda: user.ask("GET", path, Range="bytes=-50"),
        "accelerated": lambda: user.ask("GET", path),
    }


def harm_and_mend(place: Place, harm: str, read_before: bool) -> None:
    with place.server.user() as user:
        data = unique(SIZE)
        digest = user.blob(data)
        if read_before:  # it is open, and its links and size are in memory
            for ask in ways(user, data).values():
                assert ask().status_code < 400
        place.replace(digest.hex, HARM[harm](data))
        for way, ask in ways(user, data).items():
            with contextlib.suppress(httpx.RemoteProtocolError):  # broken off: nobody takes that for whole
                answer = ask()
                right = {"whole": data, "range": data[100:200], "end": data[-50:], "accelerated": data}[way]
                fine = answer.status_code in (200, 206) and answer.content == right
                assert fine or answer.status_code >= 400, (way, answer.status_code, dict(answer.headers))
                assert fine or "X-Accel-Redirect" not in answer.headers
                assert fine or answer.status_code != 307
        # Who asks before pushing pushes it, and then it is whole again.
        assert user.ask("HEAD", user.path("blobs", digest)).status_code in (200, 404)
        user.blob(data)
        assert user.ask("HEAD", user.path("blobs", digest)).status_code == 200
        for way, ask in ways(user, data).items():
            answer = ask()
            assert answer.status_code < 400, (way, answer.text)
            assert (
                answer.status_code == 307
                or "X-Accel-Redirect" in answer.headers
                or answer.content
                in (
                    data,
                    data[100:200],
                    data[-50:],
                )
            )


@pytest.mark.parametrize("read_before", [False, True], ids=["unread", "read"])
@pytest.mark.parametrize("harm", HARM)
def test_no_read_path_over_a_directory_gives_wrong_bytes(directory: Place, harm: str, read_before: bool) -> None:
    harm_and_mend(directory, harm, read_before)


@pytest.mark.parametrize("size", [5000, 6 << 20], ids=["small", "large"])
def test_what_rotted_on_the_disk_is_not_sent_whole(disk: Place, size: int) -> None:
    with disk.server.user() as user:
        data = unique(size)
        digest = user.blob(data)
        path = user.path("blobs", digest)
        file = disk.server.root.parent / "blobs" / "blobs" / "sha256" / digest.hex[:2] / digest.hex
        rot(file, size // 2)
        cool(file)
        with contextlib.suppress(httpx.RemoteProtocolError):  # broken off: nobody takes that for whole
            answer = user.ask("GET", path)
            assert answer.status_code >= 400
        assert user.ask("HEAD", path).status_code == 404
        user.blob(data)
        assert user.ask("GET", path).content == data


@pytest.mark.parametrize("harm", HARM)
def test_nginx_is_not_told_to_send_a_damaged_file(accelerated: Place, harm: str) -> None:
    harm_and_mend(accelerated, harm, read_before=True)


@pytest.mark.engine("ceph")
@pytest.mark.parametrize("redirect", [False, True], ids=["through us", "redirected"])
def test_no_read_path_over_a_bucket_gives_wrong_bytes(s3: S3Bucket, tmp_path: Path, redirect: bool) -> None:
    with bucket_place(tmp_path, s3, redirect=redirect) as place:
        for harm in HARM:
            harm_and_mend(place, harm, read_before=True)


def test_a_manifest_that_rotted_in_the_database_is_refused_until_it_is_pushed_again(tmp_path: Path) -> None:
    with installation(tmp_path / "plane") as server, server.user() as user:
        image = user.image("rotten")
        index = {"mediaType": IMAGE, "digest": str(image.digest), "size": len(image.payload)}
        artifact = user.artifact(index, "application/x-note")
        server.kill()
        with contextlib.closing(sqlite3.connect(server.data / "longshore.db")) as database:
            rotten = bytearray(image.payload)
            rotten[len(rotten) // 2] ^= 1
            changed = database.execute(
                "UPDATE manifests SET payload = ? WHERE digest = ?", (bytes(rotten), str(image.digest))
            )
            assert changed.rowcount == 1
            database.commit()
        server.start()
        for reference in ("rotten", image.digest):
            for method in ("GET", "HEAD"):
                answer = user.ask(method, user.path("manifests", reference))
                assert answer.status_code == 500
                assert method == "HEAD" or answer.json()["errors"][0]["detail"]["code"] == "manifest_damaged"
        rows = user.ask("GET", user.path("referrers", image.digest)).json()["manifests"]
        assert [row["digest"] for row in rows] == [str(artifact.digest)]
        again = user.ask("PUT", user.path("manifests", "rotten"), image.payload, Content_Type=IMAGE)
        assert again.status_code == 201, again.text
        for reference in ("rotten", image.digest):
            assert user.ask("GET", user.path("manifests", reference)).content == image.payload
        assert server.recount() == NO_DRIFT


def test_an_answer_that_is_whole_says_so_before_its_bytes(directory: Place) -> None:
    """Length, digest and tag of the answer are those of the bytes, also of an empty blob and of one byte."""
    with directory.server.user() as user:
        for data in (b"", b"x", unique(70_000)):
            digest = user.blob(data)
            answer = user.ask("GET", user.path("blobs", digest))
            assert (answer.content, int(answer.headers["Content-Length"])) == (data, len(data))
            assert answer.headers["ETag"] == f'"{digest}"'
            assert answer.headers["Docker-Content-Digest"] == str(digest)
