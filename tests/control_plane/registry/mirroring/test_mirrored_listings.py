"""What a mirror lists of its upstream: tags that nobody pulled yet, and what refers to an image."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from common.digest import Digest
from control_plane.registry.manifests import OCI_INDEX
from control_plane.registry.signatures.model import SignaturePolicy
from tests.control_plane.registry.mirroring.scripted import Scripted, scripted_upstream
from tests.control_plane.registry.mirroring.sites import HUB, Site, open_site
from tests.control_plane.registry.people import ADA, descriptor, image_manifest
from tests.control_plane.registry.pushing import push_image
from tests.control_plane.registry.remote.clients import push_image as push_there
from tests.control_plane.registry.remote.clients import talking_to
from tests.control_plane.registry.signatures.signing import attach, cosign, new_key, public_pem
from tests.engines.docker_registry import DockerRegistry

KEY = new_key()
SBOM = "application/vnd.example.sbom"
HERE = f"{HUB}/web"


@pytest.fixture
async def site(tmp_path: Path, sqlite_url: str) -> AsyncIterator[Site]:
    async with open_site(tmp_path / "here", sqlite_url) as opened:
        yield opened


@pytest.fixture
async def there(tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Site]:
    """An upstream with a referrers API: another registry of ours, whose repository acme/web is mirrored as `HERE`."""
    shutil.copyfile(sqlite_template, tmp_path / "there.db")
    async with open_site(tmp_path / "there", f"sqlite:///{tmp_path}/there.db") as opened:
        yield opened


async def mirrored(site: Site, there: Site) -> None:
    await site.mirror(f"http://{there.address}/acme", username="ada", password="secret")


async def tags(site: Site, query: str = "", repository: str = HERE) -> list[str]:
    status, body = await site.get(f"{repository}/tags/list{query}")
    assert status == 200, body
    return list(json.loads(body)["tags"])


async def referrers(site: Site, subject: Digest, query: str = "") -> set[str]:
    status, body = await site.get(f"{HERE}/referrers/{subject}{query}")
    assert status == 200, body
    return {each["digest"] for each in json.loads(body)["manifests"]}


def listing(upstream: Scripted, *names: str) -> None:
    upstream.contents["library/web/tags/list"] = json.dumps({"name": "library/web", "tags": names}).encode()


async def test_tags_that_nobody_pulled_are_listed(site: Site, own_foreign_registry: DockerRegistry) -> None:
    async with talking_to(own_foreign_registry.url) as client:
        for tag in ("2.0", "1.0", "latest"):
            await push_there(client, "library/web", tag)
    await site.mirror(f"{own_foreign_registry.url}/library")
    assert await tags(site) == ["1.0", "2.0", "latest"]
    assert (await site.get(f"{HERE}/manifests/1.0"))[0] == 200
    assert await tags(site) == ["1.0", "2.0", "latest"]
    assert await tags(site, "?n=2") == ["1.0", "2.0"]
    assert await tags(site, "?n=2&last=2.0") == ["latest"]
    assert len(own_foreign_registry.requests('"GET /v2/library/web/tags/list')) == 1
    own_foreign_registry.stop()
    site.clock.ahead += 3600
    assert await tags(site) == ["1.0", "2.0", "latest"], "what was listed before"
    site.clock.ahead += 2 * 86_400
    assert await tags(site) == ["1.0"], "what is here"


async def test_a_list_is_asked_for_again_when_it_is_old(site: Site) -> None:
    async with scripted_upstream() as upstream:
        listing(upstream, "1")
        await site.mirror(f"{upstream.url}/library", tag_ttl_seconds=0)
        assert await tags(site) == ["1"]
        listing(upstream, "1", "2")
        assert await tags(site) == ["1"], "the pages of one list are of one moment"
        site.clock.ahead += 11
        assert await tags(site) == ["1", "2"]


async def test_a_repository_that_is_nowhere_or_out_of_reach(site: Site) -> None:
    async with scripted_upstream() as upstream:
        await site.mirror(f"{upstream.url}/library")
        assert (await site.get(f"{HERE}/tags/list"))[0] == 404

        async def failing(_request: web.BaseRequest) -> web.StreamResponse:
            return web.Response(status=502)

        upstream.answer = failing
        status, body = await site.get(f"{HUB}/other/tags/list")
        assert (status, json.loads(body)["errors"][0]["code"]) == (503, "UNAVAILABLE")


async def test_a_list_that_everybody_asks_for_is_fetched_once(site: Site) -> None:
    async with scripted_upstream() as upstream:
        listing(upstream, "1", "not a tag", "2", "1")
        await site.mirror(f"{upstream.url}/library")
        assert await asyncio.gather(*(tags(site) for _ in range(20))) == [["1", "2"]] * 20
        assert upstream.asked["GET library/web/tags/list"] == 1


async def test_who_may_not_pull_learns_nothing_of_upstream(site: Site) -> None:
    async with scripted_upstream() as upstream:
        listing(upstream, "1")
        await site.mirror(f"{upstream.url}/library")
        for path in ("tags/list", f"referrers/{Digest.of(b'x')}"):
            status, _ = await site.get(f"{HERE}/{path}", Authorization="Bearer bob")
            assert status in (403, 404)
        assert not upstream.asked


async def test_what_refers_to_an_image_upstream_is_listed_and_fetched(site: Site, there: Site) -> None:
    image = await push_image(there.registry)
    sbom = await attach(there.registry, [(SBOM, b"a list", {})], subject=(image.digest, 1), artifact_type=SBOM)
    other = await attach(there.registry, [("a/b", b"x", {})], subject=(image.digest, 1), artifact_type="a/b")
    await mirrored(site, there)
    assert await referrers(site, image.digest) == {str(sbom), str(other)}
    assert await referrers(site, image.digest, f"?artifactType={SBOM}") == {str(sbom)}
    status, payload = await site.get(f"{HERE}/manifests/{sbom}")
    assert (status, Digest.of(payload)) == (200, sbom)
    assert await site.get(f"{HERE}/blobs/{Digest.of(b'a list')}") == (200, b"a list")
    later = await attach(there.registry, [("a/c", b"y", {})], subject=(image.digest, 1), artifact_type="a/c")
    site.clock.ahead += 61
    assert await referrers(site, image.digest) == {str(sbom), str(other), str(later)}


async def test_referrers_beyond_one_page_are_fetched(site: Site, there: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    image = await push_image(there.registry)
    expected = {
        str(await attach(there.registry, [("a/b", b"%d" % n, {})], subject=(image.digest, 1))) for n in range(5)
    }
    monkeypatch.setattr("control_plane.registry.v2.referrers.MAX_PAGE", 2)
    monkeypatch.setattr("control_plane.registry.v2.listings.MAX_PAGE", 2)
    await mirrored(site, there)
    await referrers(site, image.digest)
    monkeypatch.undo()
    assert await referrers(site, image.digest) == expected


async def test_referrers_of_an_upstream_without_the_api(site: Site, own_foreign_registry: DockerRegistry) -> None:
    engine = own_foreign_registry
    async with talking_to(engine.url) as client:
        payload, digest = await push_there(client, "library/web", "1.0")
        subject = descriptor(payload, "application/vnd.oci.image.manifest.v1+json")
        artifact = image_manifest(b"{}", (b"layer",), subject=subject, artifactType=SBOM)
        await client.push.manifest("library/web", "artifact", "application/vnd.oci.image.manifest.v1+json", artifact)
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(artifact, subject["mediaType"])]}
        tag = f"sha256-{digest.hex}"
        await client.push.manifest("library/web", tag, OCI_INDEX, json.dumps(index).encode())
    await site.mirror(f"{engine.url}/library")
    assert await referrers(site, digest) == {str(Digest.of(artifact))}
    engine.stop()
    site.clock.ahead += 3600
    assert await referrers(site, digest) == {str(Digest.of(artifact))}
    status, _ = await site.get(f"{HERE}/referrers/{Digest.of(b'never asked for')}")
    assert status == 503, "nothing is known, which is not the same as nothing"


async def test_a_referrer_that_is_no_manifest_hides_no_other(site: Site, there: Site) -> None:
    async with scripted_upstream() as upstream:
        subject = Digest.of(b"subject")
        good = image_manifest(b"{}", (), subject={"mediaType": "a/b", "digest": str(subject), "size": 7})
        named = [Digest.of(each) for each in (b"no manifest", b"absent", good)]
        upstream.hold("library/web", "bad", b"no manifest")
        upstream.hold("library/web", "good", good)
        listed = [{"mediaType": "a/b", "digest": str(each), "size": 1} for each in named]
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}
        upstream.contents[f"library/web/referrers/{subject}"] = json.dumps(document).encode()
        await site.mirror(f"{upstream.url}/library")
        assert await referrers(site, subject) == {str(Digest.of(good))}


@pytest.mark.parametrize("by_subject", [True, False], ids=["referrer", "tag"])
async def test_a_policy_is_satisfied_by_a_signature_that_is_upstream(site: Site, there: Site, by_subject: bool) -> None:
    signed = await push_image(there.registry)
    await push_image(there.registry, "unsigned", tag="unsigned")
    await cosign(there.registry, KEY, signed.digest, by_subject=by_subject)
    await mirrored(site, there)
    key = await site.signatures.add_key(ADA, "acme", "ci", public_pem(KEY))
    policy = SignaturePolicy("", "", "signed", repositories=("**",), key_ids=(key.key_id,))
    await site.signatures.add_policy(ADA, "acme", policy)
    assert await site.get(f"{HERE}/manifests/latest", Authorization="Bearer vera") == (200, signed.payload)
    status, body = await site.get(f"{HERE}/manifests/unsigned", Authorization="Bearer vera")
    assert (status, json.loads(body)["errors"][0]["code"]) == (403, "DENIED")
    (shown,) = await site.signatures.attachments(ADA, HERE, signed.digest)
    assert [each.name for each in shown.verified_by] == ["ci"]


async def test_a_signature_that_came_once_is_enough_while_upstream_is_away(site: Site, there: Site) -> None:
    image = await push_image(there.registry)
    await cosign(there.registry, KEY, image.digest)
    await mirrored(site, there)
    key = await site.signatures.add_key(ADA, "acme", "ci", public_pem(KEY))
    policy = SignaturePolicy("", "", "signed", repositories=("**",), key_ids=(key.key_id,))
    await site.signatures.add_policy(ADA, "acme", policy)
    assert (await site.get(f"{HERE}/manifests/latest", Authorization="Bearer vera"))[0] == 200
    await site.mirroring.service.change(ADA, HUB, credentials=("ada", "wrong"))
    site.clock.ahead += 3600
    assert (await site.get(f"{HERE}/manifests/latest", Authorization="Bearer vera"))[0] == 200


async def test_what_is_attached_upstream_is_shown_before_anybody_pulled_it(site: Site, there: Site) -> None:
    image = await push_image(there.registry)
    await attach(there.registry, [(SBOM, b"a list", {})], subject=(image.digest, 1), artifact_type=SBOM)
    await mirrored(site, there)
    assert (await site.get(f"{HERE}/manifests/latest"))[0] == 200
    shown = await site.signatures.attachments(ADA, HERE, image.digest)
    assert len(shown) == 1
    await site.mirroring.service.change(ADA, HUB, credentials=("ada", "wrong"))
    site.clock.ahead += 3600
    assert await site.signatures.attachments(ADA, HERE, image.digest) == shown


async def test_what_upstreams_are_asked_for_is_counted(site: Site, own_foreign_registry: DockerRegistry) -> None:
    engine, layer = own_foreign_registry, b"layer" * 1000
    async with talking_to(engine.url) as client:
        await push_there(client, "library/web", "1.0", (layer,))
    await site.mirror(f"{engine.url}/library")
    for path in ("manifests/1.0", f"blobs/{Digest.of(layer)}", f"blobs/{Digest.of(b'absent')}", "manifests/2.0"):
        await site.get(f"{HERE}/{path}")
    await tags(site)
    site.clock.ahead += 61
    await site.get(f"{HERE}/manifests/1.0")
    engine.stop()
    site.clock.ahead += 61
    assert (await site.get(f"{HERE}/manifests/1.0"))[0] == 200
    await site.get(f"{HERE}/manifests/3.0")
    for kind, outcome in (
        ("tag", "fetched"),
        ("tag", "unchanged"),
        ("tag", "absent"),
        ("tag", "stale"),
        ("tag", "failed"),
        ("blob", "fetched"),
        ("blob", "absent"),
        ("tags", "fetched"),
    ):
        assert site.counted(kind, outcome) == 1, (kind, outcome)
    assert site.metrics.get_sample_value("longshore_mirror_fetched_bytes_total") == len(layer)
