"""What a rule copied goes when its source does; what it did not copy stays, whoever runs it how often."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.errors import NotFound
from control_plane.registry.replication.model import Direction, Rule, Task
from control_plane.registry.replication.selection import Filter, Naming
from tests.control_plane.registry.people import ADA
from tests.control_plane.registry.pushing import WEB, push_image
from tests.control_plane.registry.remote.clients import push_image as push_there
from tests.control_plane.registry.remote.clients import talking_to
from tests.control_plane.registry.replication.places import Place, open_place
from tests.engines.docker_registry import DockerRegistry

_numbers = itertools.count()


@pytest.fixture
def space() -> str:
    """A namespace that no other test uses."""
    return f"deleting{next(_numbers)}"


@pytest.fixture
async def place(tmp_path: Path, sqlite_url: str) -> AsyncIterator[Place]:
    async with open_place(tmp_path / "one", sqlite_url) as opened:
        yield opened


@pytest.fixture
async def other(sqlite_template: Path, tmp_path: Path) -> AsyncIterator[Place]:
    """Another registry of ours."""
    shutil.copyfile(sqlite_template, tmp_path / "other.db")
    async with open_place(tmp_path / "other", f"sqlite:///{tmp_path}/other.db") as opened:
        yield opened


async def tags_at(url: str, repository: str) -> list[str]:
    async with talking_to(url) as client:
        return [tag async for tag in client.tags(repository)]


def details(outcome: tuple[str, list[Task]]) -> dict[tuple[str, str], str]:
    assert outcome[0] == "succeeded"
    return {(each.work.value, each.reference): each.detail for each in outcome[1]}


async def deleting_rule(place: Place, url: str, space: str, **more: object) -> Rule:
    naming = Naming(space, 1)
    return await place.rule(await place.endpoint(url), naming=naming, also_delete=True, **more)  # type: ignore[arg-type]


async def test_a_run_deletes_what_it_copied_and_is_gone_here(
    place: Place, foreign_registry: DockerRegistry, space: str
) -> None:
    rule = await deleting_rule(place, foreign_registry.url, space)
    gone = await push_image(place.site.registry, "gone", tag="1.0")
    await push_image(place.site.registry, "kept", tag="2.0")
    await place.run(rule)
    async with talking_to(foreign_registry.url) as client:
        await push_there(client, f"{space}/web", "theirs", (b"pushed there by hand",))
    await place.site.registry.images.delete_manifest(ADA, WEB, gone.digest)
    said = details(await place.run(rule))
    assert said["delete", str(gone.digest)] == "deleted there"
    assert sorted(await tags_at(foreign_registry.url, f"{space}/web")) == ["2.0", "theirs"]
    said = details(await place.run(rule))
    assert ("delete", str(gone.digest)) not in said, "what was deleted is not asked for again"


async def test_a_tag_that_is_gone_goes_where_the_registry_deletes_tags(place: Place, other: Place) -> None:
    """On a second registry of ours: docker-registry 2 deletes by digest only."""
    url = f"http://{other.site.address}"
    endpoint = await place.endpoint(url, username="ada", password="secret")
    rule = await place.rule(endpoint, naming=Naming("acme/copies", 1), also_delete=True)
    await push_image(place.site.registry, tag="1.0")
    await push_image(place.site.registry, tag="also")
    await place.run(rule)
    await place.site.registry.images.delete_tag(ADA, WEB, "also")
    assert details(await place.run(rule))["delete", "also"] == "deleted there"
    images = other.site.registry.images
    assert await images.tag_names(ADA, "acme/copies/web", "", 10) == ["1.0"]


async def test_what_was_there_before_and_what_others_moved_stays(place: Place, other: Place) -> None:
    url = f"http://{other.site.address}"
    endpoint = await place.endpoint(url, username="ada", password="secret")
    rule = await place.rule(endpoint, naming=Naming("acme/copies", 1), also_delete=True)
    same = await push_image(place.site.registry, "same", tag="1.0")
    await push_image(place.site.registry, "moved", tag="moved")
    await push_image(place.site.registry, "twice", tag="twice")
    await push_image(other.site.registry, "same", tag="1.0", repository="acme/copies/web")
    await place.run(rule)
    theirs = await push_image(other.site.registry, "by others", tag="moved", repository="acme/copies/web")
    for tag in ("1.0", "moved", "twice"):
        await place.site.registry.images.delete_tag(ADA, WEB, tag)
    said = details(await place.run(rule))
    assert "before" in said["delete", "1.0"]
    assert "has not copied" in said["delete", "moved"]
    assert said["delete", "twice"] == "deleted there"
    images = other.site.registry.images
    assert (await images.get("acme/copies/web", "1.0")).digest == same.digest
    assert (await images.get("acme/copies/web", "moved")).digest == theirs.digest


async def test_a_manifest_that_somebody_elses_tag_names_stays(
    place: Place, foreign_registry: DockerRegistry, space: str
) -> None:
    rule = await deleting_rule(place, foreign_registry.url, space)
    image = await push_image(place.site.registry, tag="1.0")
    await place.run(rule)
    async with talking_to(foreign_registry.url) as client:
        held = await client.manifest(f"{space}/web", image.digest)
        await client.push.manifest(f"{space}/web", "pinned", held.media_type, held.payload)
    await place.site.registry.images.delete_manifest(ADA, WEB, image.digest)
    assert "pinned there names it" in details(await place.run(rule))["delete", str(image.digest)]
    assert "pinned" in await tags_at(foreign_registry.url, f"{space}/web")


async def test_what_another_rule_wants_there_is_left_to_it(
    place: Place, foreign_registry: DockerRegistry, space: str
) -> None:
    endpoint = await place.endpoint(foreign_registry.url)
    image = await push_image(place.site.registry, tag="1.0")
    await push_image(place.site.registry, tag="1.0", repository="acme/twin/web")
    rules = [
        await place.rule(endpoint, name, source=Filter((source,)), naming=Naming(space, -1), also_delete=True)
        for name, source in (("first", WEB), ("second", "acme/twin/web"))
    ]
    for rule in rules:
        await place.run(rule)
    await place.site.registry.images.delete_manifest(ADA, WEB, image.digest)
    assert details(await place.run(rules[0]))["delete", str(image.digest)] == "another rule wants it"
    assert await tags_at(foreign_registry.url, f"{space}/web") == ["1.0"]
    await place.site.registry.images.delete_manifest(ADA, "acme/twin/web", image.digest)
    assert details(await place.run(rules[1]))["delete", str(image.digest)] == "deleted there"


async def test_only_what_the_rule_covers_and_only_if_it_says_so(place: Place, other: Place) -> None:
    url = f"http://{other.site.address}"
    endpoint = await place.endpoint(url, username="ada", password="secret")
    naming = Naming("acme/copies", 1)
    silent = await place.rule(endpoint, "silent", naming=naming, source=Filter((WEB,), ("1.*",)))
    rule = await place.rule(endpoint, "deleting", naming=naming, source=Filter((WEB,), ("2.*",)), also_delete=True)
    for tag in ("1.0", "2.0", "2.1"):
        await push_image(place.site.registry, tag, tag=tag)
    for each in (silent, rule):
        await place.run(each)
    for tag in ("1.0", "2.0"):
        await place.site.registry.images.delete_tag(ADA, WEB, tag)
    for each in (silent, rule):
        await place.run(each)
    assert await other.site.registry.images.tag_names(ADA, "acme/copies/web", "", 10) == ["1.0", "2.1"]


async def test_a_rule_that_pulls_deletes_what_is_gone_there(
    place: Place, own_foreign_registry: DockerRegistry, other: Place
) -> None:
    registry = other.site.registry
    endpoint = await place.endpoint(f"http://{other.site.address}", username="ada", password="secret")
    rule = await place.rule(
        endpoint,
        direction=Direction.PULL,
        source=Filter(("acme/web",)),
        naming=Naming("acme/fetched", 1),
        also_delete=True,
    )
    for tag in ("1.0", "2.0"):
        await push_image(registry, tag, tag=tag)
    await place.run(rule)
    ours = await push_image(place.site.registry, "ours", tag="ours", repository="acme/fetched/web")
    await registry.images.delete_tag(ADA, WEB, "1.0")
    assert details(await place.run(rule))["delete", "1.0"] == "deleted here"
    images = place.site.registry.images
    assert await images.tag_names(ADA, "acme/fetched/web", "", 10) == ["2.0", "ours"]
    assert (await images.get("acme/fetched/web", "ours")).digest == ours.digest


async def test_a_registry_that_hides_a_repository_takes_nothing_from_us(
    place: Place, own_foreign_registry: DockerRegistry
) -> None:
    async with talking_to(own_foreign_registry.url) as client:
        payload, _ = await push_there(client, "shown/a", "1")
    rule = await place.rule(
        await place.endpoint(own_foreign_registry.url),
        direction=Direction.PULL,
        source=Filter(("shown/*",)),
        naming=Naming("acme", 1),
        also_delete=True,
    )
    await place.run(rule)
    own_foreign_registry.stop()
    own_foreign_registry.forget()
    own_foreign_registry.start()
    said = details(await place.run(rule))
    assert "does not show shown/a" in said["delete", "1"]
    assert (await place.site.registry.images.get("acme/a", "1")).payload == payload


async def test_deletions_are_heard_of_for_rules_of_some_tags_too(place: Place, other: Place) -> None:
    endpoint = await place.endpoint(f"http://{other.site.address}", username="ada", password="secret")
    await place.rule(
        endpoint, naming=Naming("acme/copies", 1), source=Filter((WEB,), ("1.*",)), on_event=True, also_delete=True
    )
    taken = await push_image(place.site.registry, "taken", tag="1.0")
    left = await push_image(place.site.registry, "left", tag="2.0")
    await push_image(other.site.registry, "left", tag="2.0", repository="acme/copies/web")
    await place.work()
    for image in (taken, left):
        await place.site.registry.images.delete_manifest(ADA, WEB, image.digest)
    await place.work()
    assert await other.site.registry.images.tag_names(ADA, "acme/copies/web", "", 10) == ["2.0"]
    with pytest.raises(NotFound):
        await other.site.registry.images.get("acme/copies/web", taken.digest)
