"""Artifacts that refer to an image, on both engines and over the wire."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from common.digest import Digest
from common.errors import Denied
from control_plane.database import Database
from control_plane.registry.manifests import OCI_INDEX, OCI_MANIFEST
from control_plane.registry.referrer_store import page_of_referrers
from control_plane.registry.service import RegistryService
from tests.control_plane.registry.people import ADA, BOB, descriptor, encode
from tests.control_plane.registry.pushing import WEB, push_blob, push_image

EMPTY, EMPTY_TYPE = b"{}", "application/vnd.oci.empty.v1+json"
SIGNATURE, SBOM = "application/vnd.example.signature", "application/vnd.example.sbom"


def artifact(subject: bytes, artifact_type: str | None, **more: Any) -> bytes:
    """About a subject that may be missing."""
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(EMPTY, EMPTY_TYPE),
        "layers": [],
        "subject": descriptor(subject, OCI_MANIFEST),
        **({"artifactType": artifact_type} if artifact_type else {}),
        **more,
    }
    return encode(document)


async def attach(registry: RegistryService, payload: bytes) -> Digest:
    await push_blob(registry, EMPTY)
    return (await registry.images.push(ADA, WEB, payload, None)).manifest.digest


async def listed(registry: RegistryService, subject: Digest, artifact_type: str | None = None) -> list[Digest]:
    page = await registry.referrers.page(ADA, WEB, subject, artifact_type=artifact_type, limit=1000)
    assert not page.more
    return [each.digest for each in page.referrers]


async def test_what_refers_to_an_image_is_listed_and_filtered(registry: RegistryService) -> None:
    image = await push_image(registry)
    signature = await attach(registry, artifact(image.payload, SIGNATURE))
    sbom = await attach(registry, artifact(image.payload, SBOM))
    await attach(registry, artifact(b"another subject", SBOM))
    assert await listed(registry, image.digest) == sorted([signature, sbom])
    assert await listed(registry, image.digest, SBOM) == [sbom]
    assert await listed(registry, image.digest, "application/vnd.example.absent") == []


async def test_the_type_of_an_artifact_without_one_is_its_configs(registry: RegistryService) -> None:
    image = await push_image(registry)
    digest = await attach(registry, artifact(image.payload, None))
    assert await listed(registry, image.digest, EMPTY_TYPE) == [digest]


async def test_artifacts_come_before_their_subject_and_stay_after_it(registry: RegistryService) -> None:
    image = await push_image(registry)
    await registry.images.delete_manifest(ADA, WEB, image.digest)
    signature = await attach(registry, artifact(image.payload, SIGNATURE))
    assert await listed(registry, image.digest) == [signature]
    await registry.images.push(ADA, WEB, image.payload, None)
    assert await listed(registry, image.digest) == [signature]
    await registry.images.delete_manifest(ADA, WEB, image.digest)
    assert await listed(registry, image.digest) == [signature]
    await registry.images.delete_manifest(ADA, WEB, signature)
    assert await listed(registry, image.digest) == []


async def test_another_repositorys_artifacts_are_not_listed(registry: RegistryService) -> None:
    image = await push_image(registry)
    await attach(registry, artifact(image.payload, SIGNATURE))
    page = await registry.referrers.page(ADA, "acme/other", image.digest, limit=10)
    assert page.referrers == ()
    for repository in (WEB, "acme/absent"):
        with pytest.raises(Denied):
            await registry.referrers.page(BOB, repository, image.digest, limit=10)


async def test_a_page_ends_with_its_weight_but_holds_one(registry: RegistryService, database: Database) -> None:
    image = await push_image(registry)
    heavy = [artifact(image.payload, SBOM, annotations={"x": str(each) * 1000}) for each in range(5)]
    digests = sorted([await attach(registry, each) for each in heavy])
    for max_bytes, expected in ((1, 1), (2100, 2), (10_000, 5)):
        async with database.reading() as connection:
            found, more = await page_of_referrers(
                connection, WEB, image.digest, artifact_type=None, after="", limit=100, max_bytes=max_bytes
            )
        assert ([each.digest for each in found], more) == (digests[:expected], expected < 5)


async def test_annotations_that_are_hard_to_store_come_back(registry: RegistryService) -> None:
    image = await push_image(registry)
    hard = {"nul": "a\0b", "half": "\ud800", "quote": '"}],', "": "", "ü": "ö"}
    await attach(registry, artifact(image.payload, SBOM, annotations=hard))
    page = await registry.referrers.page(ADA, WEB, image.digest, limit=10)
    assert json.loads(page.referrers[0].annotations or "") == hard


def path_of(subject: Digest, query: str = "") -> str:
    return f"/v2/{WEB}/referrers/{subject}{query}"


async def put(client: httpx.AsyncClient, payload: bytes, reference: str | Digest) -> httpx.Response:
    await client.post(f"/v2/{WEB}/blobs/uploads/?digest={Digest.of(EMPTY)}", content=EMPTY)
    return await client.put(f"/v2/{WEB}/manifests/{reference}", content=payload, headers={"Content-Type": OCI_MANIFEST})


async def test_over_the_wire_they_are_an_index(client: httpx.AsyncClient, local_registry: RegistryService) -> None:
    image = await push_image(local_registry)
    payload = artifact(image.payload, SBOM, annotations={"a": "b"})
    pushed = await put(client, payload, "attached")
    assert (pushed.status_code, pushed.headers["OCI-Subject"]) == (201, str(image.digest))
    answer = await client.get(path_of(image.digest))
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, OCI_INDEX)
    assert answer.json() == {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [
            {
                "mediaType": OCI_MANIFEST,
                "digest": str(Digest.of(payload)),
                "size": len(payload),
                "artifactType": SBOM,
                "annotations": {"a": "b"},
            }
        ],
    }
    assert "OCI-Filters-Applied" not in answer.headers
    head = await client.head(path_of(image.digest))
    assert (head.status_code, head.content, head.headers["Content-Length"]) == (200, b"", str(len(answer.content)))


async def test_over_the_wire_they_are_filtered(client: httpx.AsyncClient, local_registry: RegistryService) -> None:
    image = await push_image(local_registry)
    for each in (SBOM, SIGNATURE):
        await put(client, artifact(image.payload, each), each.rpartition(".")[2])
    answer = await client.get(path_of(image.digest), params={"artifactType": SBOM})
    assert answer.headers["OCI-Filters-Applied"] == "artifactType"
    assert [each["artifactType"] for each in answer.json()["manifests"]] == [SBOM]
    for odd in ("absent", "a\0b", "\ud800".encode("utf-8", "surrogatepass")):
        answer = await client.get(path_of(image.digest), params={"artifactType": odd})
        assert (answer.status_code, answer.json()["manifests"]) == (200, [])


async def test_pages_of_them_are_linked(client: httpx.AsyncClient, local_registry: RegistryService) -> None:
    subject = Digest.of(b"subject")
    for number in range(5):
        await put(client, artifact(b"subject", SBOM, annotations={"n": str(number)}), f"t{number}")
    found: list[str] = []
    path: str | None = path_of(subject, f"?n=2&artifactType={SBOM}")
    while path is not None:
        answer = await client.get(path)
        found += [each["digest"] for each in answer.json()["manifests"]]
        path = answer.links["next"]["url"] if "next" in answer.links else None
    assert (len(found), found) == (5, sorted(found))


async def test_a_false_digest_is_refused_and_an_unknown_one_has_none(client: httpx.AsyncClient) -> None:
    for repository in (WEB, "acme/nobody/pushed/here"):
        answer = await client.get(f"/v2/{repository}/referrers/{Digest.of(b'x')}")
        assert (answer.status_code, answer.json()["manifests"]) == (200, [])
    answer = await client.get(f"/v2/{WEB}/referrers/sha256:xyz")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, "DIGEST_INVALID")
    # Not 404: a client would take that for "no such API" and go on with tags.
    foreign = await client.get(f"/v2/birch/web/referrers/{Digest.of(b'x')}")
    assert (foreign.status_code, foreign.json()["errors"][0]["code"]) == (403, "DENIED")
