"""Tags that are made once, whoever comes."""

from __future__ import annotations

import pytest

from common.errors import Denied, NotFound
from control_plane.registry.errors import oci_error_of
from control_plane.registry.manifests import OCI_MANIFEST
from control_plane.registry.patterns import PatternInvalid
from control_plane.registry.retention.failures import RuleInvalid, RuleUnknown, TagImmutable
from control_plane.registry.retention.model import TagSelector
from tests.control_plane.registry.people import ADA, BOB, OTTO, ROOT, VERA
from tests.control_plane.registry.pushing import WEB, push_image
from tests.control_plane.registry.retention.conftest import World


async def frozen(world: World, *tags: str, besides: tuple[str, ...] = ()) -> str:
    rule = await world.retention.rules.add(ADA, "acme", ["**"], TagSelector(tags or ("v*",), besides))
    return rule.rule_id


async def test_an_immutable_tag_is_made_once_and_neither_moves_nor_goes(world: World) -> None:
    rule_id = await frozen(world)
    first = await push_image(world.registry, "one", tag="v1")
    with pytest.raises(TagImmutable, match=rule_id) as refused:
        await push_image(world.registry, "two", tag="v1")
    assert refused.value.facts == {"rule": rule_id, "repository": WEB, "tag": "v1"}
    assert oci_error_of(TagImmutable) == (409, "DENIED")
    with pytest.raises(TagImmutable):
        await world.registry.images.delete_tag(ADA, WEB, "v1")
    with pytest.raises(TagImmutable):
        await world.registry.images.delete_manifest(ADA, WEB, first.digest)
    assert (await world.registry.images.find(ADA, WEB, "v1")).digest == first.digest


async def test_pushing_the_same_image_again_is_fine(world: World) -> None:
    await frozen(world)
    image = await push_image(world.registry, "one", tag="v1")
    await world.registry.images.push(ADA, WEB, image.payload, OCI_MANIFEST, tags=["v1", "v2"])


async def test_a_push_of_several_tags_that_moves_an_immutable_one_changes_nothing(world: World) -> None:
    await frozen(world)
    await push_image(world.registry, "one", tag="v1")
    second = await push_image(world.registry, "two", tag=None)
    with pytest.raises(TagImmutable):
        await world.registry.images.push(ADA, WEB, second.payload, OCI_MANIFEST, tags=["edge", "v1"])
    assert await world.registry.images.tag_names(ADA, WEB, "", 10) == ["v1"]


async def test_latest_is_a_tag_like_others(world: World) -> None:
    """CVE-2026-31801 was a registry that let `latest` be overwritten by who might only create."""
    await frozen(world, "*")
    await push_image(world.registry, "one")
    for principal in (OTTO, ADA, ROOT):
        with pytest.raises(TagImmutable):
            await push_image(world.registry, f"by {principal.name}", principal=principal)


async def test_excepted_tags_and_other_repositories_move(world: World) -> None:
    await world.retention.rules.add(ADA, "acme", ["web", "team/**"], TagSelector(("*",), ("latest", "dev-*")))
    for tag in ("latest", "dev-7"):
        await push_image(world.registry, "one", tag=tag)
        await push_image(world.registry, "two", tag=tag)
    for name in ("one", "two"):
        await push_image(world.registry, name, tag="1", repository="acme/api")
        await push_image(world.registry, name, tag="1", repository="birch/web", principal=BOB)
    await push_image(world.registry, "one", tag="1", repository="acme/team/a/b")
    with pytest.raises(TagImmutable):
        await push_image(world.registry, "two", tag="1", repository="acme/team/a/b")


async def test_a_rule_of_the_platform_holds_in_every_tenant(world: World) -> None:
    rule = await world.retention.rules.add(ROOT, None, ["*/web"], TagSelector(("stable",)))
    await push_image(world.registry, "one", tag="stable", repository="birch/web", principal=BOB)
    with pytest.raises(TagImmutable, match="the platform's rule"):
        await push_image(world.registry, "two", tag="stable", repository="birch/web", principal=BOB)
    await world.retention.rules.remove(ROOT, None, rule.rule_id)
    await push_image(world.registry, "two", tag="stable", repository="birch/web", principal=BOB)


async def test_a_removed_rule_holds_nothing(world: World) -> None:
    rule_id = await frozen(world)
    await push_image(world.registry, "one", tag="v1")
    await world.retention.rules.remove(ADA, "acme", rule_id)
    await push_image(world.registry, "two", tag="v1")
    assert await world.retention.rules.list(ADA, "acme") == []


async def test_the_rule_of_another_tenant_does_not_exist(world: World) -> None:
    """Harbor's CVE-2022-31669: the id of a rule was not checked against the project in the path."""
    rule_id = await frozen(world)
    platform = await world.retention.rules.add(ROOT, None, ["**"], TagSelector(("x",)))
    rules = world.retention.rules
    for foreign in (rule_id, platform.rule_id, "", "../x", "7f000000-0000-7000-8000-000000000000"):
        with pytest.raises(RuleUnknown):
            await rules.get(BOB, "birch", foreign)
        with pytest.raises(RuleUnknown):
            await rules.remove(BOB, "birch", foreign)
    for principal, failure in ((BOB, NotFound), (VERA, Denied), (OTTO, Denied)):
        with pytest.raises(failure):
            await rules.remove(principal, "acme", rule_id)
        with pytest.raises(failure):
            await rules.add(principal, "acme", ["**"], TagSelector())
    with pytest.raises(Denied):
        await rules.remove(ADA, None, platform.rule_id)
    assert [rule.rule_id for rule in await rules.list(VERA, "acme")] == [rule_id]


async def test_a_rule_that_means_nothing_is_refused(world: World) -> None:
    for repositories, selector in ((["("], TagSelector()), (["**"], TagSelector(("(a+)+",)))):
        with pytest.raises(PatternInvalid):
            await world.retention.rules.add(ADA, "acme", repositories, selector)
    with pytest.raises(RuleInvalid):
        await world.retention.rules.add(ADA, "acme", [], TagSelector())
