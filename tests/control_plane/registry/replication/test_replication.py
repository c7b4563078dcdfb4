"""Copying to Debian's docker-registry and from it, by rules."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.digest import Digest
from common.errors import NotFound
from control_plane.registry.manifests import OCI_INDEX, OCI_MANIFEST
from control_plane.registry.replication.model import Direction
from control_plane.registry.replication.selection import Filter, Naming
from tests.control_plane.registry.mirroring.sites import proxied
from tests.control_plane.registry.people import ADA, index_manifest
from tests.control_plane.registry.pushing import WEB, chunks_of, push_blob, push_image, push_index
from tests.control_plane.registry.remote.clients import push_image as push_there
from tests.control_plane.registry.remote.clients import talking_to
from tests.control_plane.registry.replication.places import Place, open_place, referrer_manifest
from tests.engines.docker_registry import PASSWORD, USERNAME, DockerRegistry

_numbers = itertools.count()


@pytest.fixture
def space() -> str:
    """A namespace that no other test uses."""
    return f"space{next(_numbers)}"


@pytest.fixture
async def place(tmp_path: Path, sqlite_url: str) -> AsyncIterator[Place]:
    async with open_place(tmp_path, sqlite_url) as opened:
        yield opened


async def test_a_run_copies_all_tags_and_a_second_one_nothing(
    place: Place, own_foreign_registry: DockerRegistry, space: str
) -> None:
    engine = own_foreign_registry
    image = await push_image(place.site.registry, tag="1.0")
    index, images = await push_index(place.site.registry)
    rule = await place.rule(await place.endpoint(engine.url), naming=Naming(space, 1))
    state, tasks = await place.run(rule)
    assert (state, [(each.reference, each.state.value, each.attempts) for each in tasks]) == (
        "succeeded",
        [("1.0", "succeeded", 1), ("multi", "succeeded", 1)],
    )
    async with talking_to(engine.url) as client:
        assert (await client.manifest(f"{space}/web", "1.0")).payload == image.payload
        assert (await client.manifest(f"{space}/web", "multi")).payload == index
        for each in images.values():
            assert (await client.manifest(f"{space}/web", each.digest)).payload == each.payload
            for layer in each.layers:
                assert await client.blob_size(f"{space}/web", Digest.of(layer)) == len(layer)
    before = len(engine.requests('"P'))
    state, tasks = await place.run(rule)
    assert (state, {each.detail for each in tasks}) == ("succeeded", {"it is there already"})
    assert len(engine.requests('"P')) == before
    assert place.topics().count("registry.replicated") == 2


async def test_a_push_is_copied_by_event_once(place: Place, foreign_registry: DockerRegistry, space: str) -> None:
    rule = await place.rule(await place.endpoint(foreign_registry.url), naming=Naming(space, 1), on_event=True)
    image = await push_image(place.site.registry, tag="1.0")
    await push_image(place.site.registry, "other", tag="1.0")
    last = await push_image(place.site.registry, tag="1.0")
    assert last == image
    assert await place.work() == 1
    async with talking_to(foreign_registry.url) as client:
        assert (await client.manifest(f"{space}/web", "1.0")).payload == image.payload
    messages = list(place.heard)
    assert await place.replication.hearing(messages) == 0, "what was heard is not heard again"
    assert rule.on_event


async def test_referrers_and_signatures_follow_their_subject_and_precede_the_tag(
    place: Place, own_foreign_registry: DockerRegistry, space: str
) -> None:
    engine, registry = own_foreign_registry, place.site.registry
    image = await push_image(registry, tag="1.0")
    await push_blob(registry, b"{}")
    sbom = referrer_manifest(image.payload, str(image.digest))
    signature = referrer_manifest(sbom, str(Digest.of(sbom)), "application/vnd.example.signature")
    for payload in (sbom, signature):
        await registry.images.push(ADA, WEB, payload, OCI_MANIFEST, digest=Digest.of(payload))
    cosign = await push_image(registry, "signature", tag=f"sha256-{image.digest.hex}.sig")
    rule = await place.rule(await place.endpoint(engine.url), naming=Naming(space, 1), source=Filter((WEB,), ("1.*",)))
    state, tasks = await place.run(rule)
    assert (state, [each.reference for each in tasks]) == ("succeeded", ["1.0"])
    async with talking_to(engine.url) as client:
        for payload in (sbom, signature):
            assert (await client.manifest(f"{space}/web", Digest.of(payload))).payload == payload
        assert [each.digest for each in await client.referrers(f"{space}/web", image.digest)] == [Digest.of(sbom)]
        assert (await client.manifest(f"{space}/web", f"sha256-{image.digest.hex}.sig")).payload == cosign.payload
    assert engine.requests('"PUT /v2/')[-1].find(f"/v2/{space}/web/manifests/1.0") > 0


async def test_a_signature_pushed_later_is_copied_by_event(
    place: Place, foreign_registry: DockerRegistry, space: str
) -> None:
    registry = place.site.registry
    await place.rule(await place.endpoint(foreign_registry.url), naming=Naming(space, 1), on_event=True)
    image = await push_image(registry, tag="1.0")
    await place.work()
    await push_blob(registry, b"{}")
    for note in ("one", "two"):
        later = referrer_manifest(image.payload, str(image.digest), note=note)
        await registry.images.push(ADA, WEB, later, OCI_MANIFEST, digest=Digest.of(later))
        await place.work()
    async with talking_to(foreign_registry.url) as client:
        listed = (await client.manifest(f"{space}/web", f"sha256-{image.digest.hex}")).payload
    assert [each["annotations"]["note"] for each in json.loads(listed)["manifests"]] == ["one", "two"]


async def test_a_tag_that_must_not_move_stays(place: Place, foreign_registry: DockerRegistry, space: str) -> None:
    endpoint = await place.endpoint(foreign_registry.url)
    rule = await place.rule(endpoint, naming=Naming(space, 1), override=False)
    async with talking_to(foreign_registry.url) as client:
        theirs, _ = await push_there(client, f"{space}/web", "1.0")
        await push_image(place.site.registry, tag="1.0")
        state, tasks = await place.run(rule)
        assert state == "succeeded"
        assert "moves no tags" in tasks[0].detail
        assert (await client.manifest(f"{space}/web", "1.0")).payload == theirs


async def test_wrong_credentials_fail_at_once_and_right_ones_do_not(
    place: Place, guarded_foreign_registry: DockerRegistry
) -> None:
    engine = guarded_foreign_registry
    assert engine.tls is not None
    image = await push_image(place.site.registry, tag="1.0")
    endpoint = await place.endpoint(engine.url, username=USERNAME, password="wrong", ca_pem=engine.tls.ca_pem)
    rule = await place.rule(endpoint)
    state, tasks = await place.run(rule)
    assert (state, tasks[0].state.value, tasks[0].attempts) == ("failed", "failed", 1)
    assert "credentials" in tasks[0].detail
    assert "wrong" not in tasks[0].detail
    assert place.topics().count("registry.replication_failed") == 1
    assert (await place.replication.endpoints.check(ADA, endpoint.endpoint_id)).trouble
    await place.replication.endpoints.set_credentials(ADA, endpoint.endpoint_id, USERNAME, PASSWORD)
    assert (await place.replication.endpoints.check(ADA, endpoint.endpoint_id)).trouble == ""
    assert (await place.run(rule))[0] == "succeeded"
    async with talking_to(engine.url, username=USERNAME, password=PASSWORD, ca_pem=engine.tls.ca_pem) as client:
        assert (await client.manifest(WEB, "1.0")).payload == image.payload


async def test_a_registry_that_is_away_is_waited_for(place: Place, own_foreign_registry: DockerRegistry) -> None:
    engine = own_foreign_registry
    rule = await place.rule(await place.endpoint(engine.url))
    image = await push_image(place.site.registry, tag="1.0")
    engine.stop()
    started = await place.replication.executions.start(ADA, rule.rule_id)
    await place.work(rounds=2)
    state, tasks = await place.outcome(started)
    assert (state, tasks[0].state.value) == ("running", "pending")
    assert tasks[0].attempts >= 1
    engine.start()
    place.site.clock.ahead += 1000
    await place.work()
    assert (await place.outcome(started))[0] == "succeeded"
    async with talking_to(engine.url) as client:
        assert (await client.manifest(WEB, "1.0")).payload == image.payload


async def test_deletions_are_copied_if_the_rule_says_so(
    place: Place, foreign_registry: DockerRegistry, space: str
) -> None:
    endpoint = await place.endpoint(foreign_registry.url)
    await place.rule(endpoint, naming=Naming(space, 1), on_event=True, also_delete=True)
    image = await push_image(place.site.registry, tag="1.0")
    await place.work()
    await place.site.registry.images.delete_manifest(ADA, WEB, image.digest)
    await place.work()
    async with talking_to(foreign_registry.url) as client:
        assert [each async for each in client.tags(f"{space}/web")] == []


async def test_a_blob_with_a_sha512_digest_is_copied(
    place: Place, foreign_registry: DockerRegistry, space: str
) -> None:
    """As its manifest says; docker-registry takes them too."""
    registry = place.site.registry
    config, layer = b"{}", b"long digest"
    digests = [Digest.of(data, "sha512") for data in (config, layer)]
    for data, digest in zip((config, layer), digests, strict=True):
        await registry.uploads.push_whole(ADA, WEB, digest, chunks_of(data))
    payload = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": str(digests[0]),
                "size": len(config),
            },
            "layers": [{"mediaType": "application/octet-stream", "digest": str(digests[1]), "size": len(layer)}],
        }
    ).encode()
    await registry.images.push(ADA, WEB, payload, OCI_MANIFEST, tags=["long"])
    rule = await place.rule(await place.endpoint(foreign_registry.url), naming=Naming(space, 1))
    state, tasks = await place.run(rule)
    assert (state, [each.detail for each in tasks]) == ("succeeded", [str(Digest.of(payload))])


async def test_a_run_pulls_all_tags_that_the_rule_takes(
    place: Place, own_foreign_registry: DockerRegistry, space: str
) -> None:
    layer = random.Random(3).randbytes(9_000_000)
    async with talking_to(own_foreign_registry.url) as client:
        one, _ = await push_there(client, f"{space}/a", "1.0", (layer,))
        await push_there(client, f"{space}/a", "nightly")
        two, _ = await push_there(client, f"{space}/b/deep", "1.1", (layer, b"more"))
    rule = await place.rule(
        await place.endpoint(own_foreign_registry.url),
        direction=Direction.PULL,
        source=Filter((f"{space}/**",), ("1.*",)),
        naming=Naming("acme/copies", 1),
    )
    state, tasks = await place.run(rule)
    assert (state, [(each.destination, each.reference) for each in tasks]) == (
        "succeeded",
        [("acme/copies/a", "1.0"), ("acme/copies/b/deep", "1.1")],
    )
    images = place.site.registry.images
    assert (await images.get("acme/copies/a", "1.0")).payload == one
    assert (await images.get("acme/copies/b/deep", "1.1")).payload == two
    assert (
        len(own_foreign_registry.requests(f'"GET /v2/{space}/a/blobs/{Digest.of(layer)}'))
        + len(own_foreign_registry.requests(f'"GET /v2/{space}/b/deep/blobs/{Digest.of(layer)}'))
        == 1
    ), "what is here already is mounted"
    state, tasks = await place.run(rule)
    assert (state, {each.detail for each in tasks}) == ("succeeded", {"it is here already"})
    assert [each.reference for each in tasks] == ["1.0", "1.1"]


async def test_a_pull_over_a_line_that_breaks_goes_on_where_it_was(
    place: Place, own_foreign_registry: DockerRegistry, space: str
) -> None:
    layer = random.Random(4).randbytes(10_000_000)
    async with talking_to(own_foreign_registry.url) as client:
        payload, _ = await push_there(client, f"{space}/a", "1", (layer,))
    async with proxied(own_foreign_registry.port) as proxy:
        proxy.cuts = [3_000_000, 3_000_000, 200, 3_000_000]
        rule = await place.rule(
            await place.endpoint(f"http://127.0.0.1:{proxy.port}"),
            direction=Direction.PULL,
            source=Filter((f"{space}/a",)),
            naming=Naming("acme", 1),
        )
        state, tasks = await place.run(rule)
    assert state == "succeeded"
    assert (await place.site.registry.images.get("acme/a", "1")).payload == payload
    assert tasks[0].bytes_done < len(layer) + 1_000_000, "what had arrived was fetched again"


async def test_a_push_over_a_line_that_breaks_arrives(
    place: Place, foreign_registry: DockerRegistry, space: str
) -> None:
    image = await push_image(place.site.registry, tag="1.0")
    async with proxied(foreign_registry.port) as proxy:
        proxy.cuts = [700, 100, 900, 50, 1200]
        rule = await place.rule(await place.endpoint(f"http://127.0.0.1:{proxy.port}"), naming=Naming(space, 1))
        started = await place.replication.executions.start(ADA, rule.rule_id)
        for _ in range(10):
            await place.work()
            place.site.clock.ahead += 1000
        assert (await place.outcome(started))[0] == "succeeded"
    async with talking_to(foreign_registry.url) as client:
        assert (await client.manifest(f"{space}/web", "1.0")).payload == image.payload


async def test_a_stopped_execution_ends_while_it_copies(
    place: Place, own_foreign_registry: DockerRegistry, space: str
) -> None:
    layer = random.Random(5).randbytes(10_000_000)
    async with talking_to(own_foreign_registry.url) as client:
        await push_there(client, f"{space}/a", "1", (layer,))
    async with proxied(own_foreign_registry.port) as proxy:
        proxy.pause_at = 4_000_000
        rule = await place.rule(
            await place.endpoint(f"http://127.0.0.1:{proxy.port}"),
            direction=Direction.PULL,
            source=Filter((f"{space}/a",)),
            naming=Naming("acme", 1),
        )
        started = await place.replication.executions.start(ADA, rule.rule_id)
        async with asyncio.TaskGroup() as group:
            working = group.create_task(place.work())
            await asyncio.wait_for(proxy.paused.wait(), 10)
            await place.replication.executions.stop(ADA, started.execution.execution_id)
            await asyncio.wait_for(working, 10)
        assert (await place.outcome(started))[0] == "stopped"
        with pytest.raises(NotFound):
            await place.site.registry.images.get("acme/a", "1")


async def test_of_an_index_only_the_wanted_platforms_are_pulled(
    place: Place, foreign_registry: DockerRegistry, space: str
) -> None:
    async with talking_to(foreign_registry.url) as client:
        images = [await push_there(client, f"{space}/a", each, (each.encode(),)) for each in ("amd64", "arm64")]
        index = index_manifest([(images[0][0], "amd64"), (images[1][0], "arm64")])
        await client.push.manifest(f"{space}/a", "multi", OCI_INDEX, index)
    rule = await place.rule(
        await place.endpoint(foreign_registry.url),
        direction=Direction.PULL,
        source=Filter((f"{space}/a",), ("multi",), platforms=("linux/arm64",)),
        naming=Naming("acme", 1),
    )
    assert (await place.run(rule))[0] == "succeeded"
    found = place.site.registry.images
    assert (await found.get("acme/a", "multi")).payload == index
    assert (await found.get("acme/a", images[1][1])).payload == images[1][0]
    with pytest.raises(NotFound):
        await found.get("acme/a", images[0][1])
