"""Keys and policies of tenants, and what is shown of an image."""

from __future__ import annotations

from dataclasses import replace

import pytest

from common.digest import Digest
from common.errors import Denied, NotFound
from control_plane.registry.failures import ManifestUnknown, RepositoryUnknown
from control_plane.registry.signatures.failures import (
    KeyExists,
    KeyInUse,
    KeyInvalid,
    KeyUnknown,
    PolicyInvalid,
    PolicyNameTaken,
    PolicyUnknown,
)
from control_plane.registry.signatures.model import ArtifactKind, SignaturePolicy
from tests.control_plane.registry.people import ADA, BOB, OTTO, VERA
from tests.control_plane.registry.pushing import WEB, push_image
from tests.control_plane.registry.signatures.conftest import World
from tests.control_plane.registry.signatures.signing import attach, cosign, cosign_bundle, new_key, public_pem


async def test_what_is_attached_is_shown_with_who_signed_it(world: World) -> None:
    image, key = await push_image(world.registry), new_key()
    trusted = await world.trust("ci", key)
    signature = await cosign(world.registry, key, image.digest)
    world.clock.tick(1)
    stranger = await cosign(world.registry, new_key(), image.digest, by_subject=True)
    world.clock.tick(1)
    provenance = await cosign_bundle(world.registry, key, image.digest, "https://slsa.dev/provenance/v1")
    world.clock.tick(1)
    sbom = await attach(
        world.registry,
        [("application/spdx+json", b"[]", {})],
        subject=(image.digest, 1),
        artifact_type="application/spdx+json",
    )
    found = await world.signatures.attachments(VERA, WEB, image.digest)
    assert [(each.digest, each.kind, each.form, [one.key_id for one in each.verified_by]) for each in found] == [
        (signature, ArtifactKind.SIGNATURE, "cosign", [trusted.key_id]),
        (stranger, ArtifactKind.SIGNATURE, "cosign", []),
        (provenance, ArtifactKind.ATTESTATION, "sigstore-bundle", [trusted.key_id]),
        (sbom, ArtifactKind.SBOM, "spdx", []),
    ]
    assert found[0].tag == f"sha256-{image.digest.hex}.sig"
    assert found[3].size_bytes == 2


async def test_who_may_not_pull_sees_no_attachments(world: World) -> None:
    image = await push_image(world.registry)
    with pytest.raises(RepositoryUnknown):
        await world.signatures.attachments(BOB, WEB, image.digest)
    with pytest.raises(RepositoryUnknown):
        await world.signatures.attachments(ADA, "acme/none", image.digest)
    with pytest.raises(ManifestUnknown):
        await world.signatures.attachments(ADA, WEB, Digest.of(b"none"))


async def test_a_key_is_kept_once_and_not_removed_while_it_is_needed(world: World) -> None:
    key = new_key()
    trusted = await world.trust("ci", key)
    with pytest.raises(KeyExists):
        await world.trust("again", key)
    with pytest.raises(KeyExists):
        await world.trust("ci", new_key())
    with pytest.raises(KeyInvalid):
        await world.trust("", new_key())
    policy = await world.demand(trusted)
    with pytest.raises(KeyInUse):
        await world.signatures.remove_key(ADA, "acme", trusted.key_id)
    await world.signatures.remove_policy(ADA, "acme", policy.policy_id)
    await world.signatures.remove_key(ADA, "acme", trusted.key_id)
    assert await world.signatures.keys(ADA, "acme") == []


async def test_a_policy_is_changed_whole_and_checked(world: World) -> None:
    one, two = await world.trust("one", new_key()), await world.trust("two", new_key())
    policy = await world.demand(one)
    with pytest.raises(PolicyNameTaken):
        await world.demand(two)
    changed = await world.signatures.replace_policy(
        ADA, "acme", policy.policy_id, replace(policy, key_ids=(one.key_id, two.key_id), needed=2, name="ignored")
    )
    assert (changed.name, changed.needed) == ("signed", 2)
    assert await world.signatures.policies(VERA, "acme") == [changed]
    for wrong in (
        replace(policy, key_ids=()),
        replace(policy, key_ids=(one.key_id, one.key_id)),
        replace(policy, needed=2),
        replace(policy, needed=0),
        replace(policy, repositories=()),
    ):
        with pytest.raises(PolicyInvalid):
            await world.signatures.replace_policy(ADA, "acme", policy.policy_id, wrong)
    assert await world.signatures.policy(ADA, "acme", policy.policy_id) == changed


async def test_keys_and_policies_of_other_tenants_do_not_exist(world: World) -> None:
    service = world.signatures
    mine = await world.trust("ci", new_key())
    policy = await world.demand(mine)
    theirs = await service.add_key(BOB, "birch", "ci", public_pem(new_key()))
    draft = SignaturePolicy("", "", "x", ("**",), (theirs.key_id,))
    for call in (
        lambda: service.policy(BOB, "birch", policy.policy_id),
        lambda: service.replace_policy(BOB, "birch", policy.policy_id, draft),
        lambda: service.remove_policy(BOB, "birch", policy.policy_id),
        lambda: service.policy(BOB, "birch", "' OR 1=1"),
    ):
        with pytest.raises(PolicyUnknown):
            await call()
    for missing in (
        lambda: service.remove_key(BOB, "birch", mine.key_id),
        lambda: service.add_policy(BOB, "birch", replace(draft, key_ids=(mine.key_id,))),
        lambda: service.add_policy(ADA, "acme", draft),
    ):
        with pytest.raises(KeyUnknown):
            await missing()
    with pytest.raises(NotFound):
        await service.keys(BOB, "acme")
    for principal in (VERA, OTTO):
        with pytest.raises(Denied):
            await service.add_key(principal, "acme", "x", public_pem(new_key()))
        with pytest.raises(Denied):
            await service.remove_policy(principal, "acme", policy.policy_id)


async def test_keys_and_policies_of_a_tenant_go_with_it(world: World) -> None:
    await world.demand(await world.trust("ci", new_key()))
    async with world.database.transaction() as unit:
        assert await world.signatures.tenant_going(unit, "t-acme") is None
    assert await world.signatures.policies(ADA, "acme") == []
    assert await world.signatures.keys(ADA, "acme") == []
