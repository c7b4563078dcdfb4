"""Pulls under a signature policy: what passes, what does not, and how soon a change is felt."""

from __future__ import annotations

import pytest

from common.digest import Digest
from common.reference import Reference
from control_plane.database import Database
from control_plane.registry.errors import oci_error_of
from control_plane.registry.manifests import OCI_INDEX, OCI_MANIFEST
from control_plane.registry.participants import Hooks
from control_plane.registry.service import RegistryService
from control_plane.registry.signatures.claims import DSSE, SIGNATURE_ANNOTATION, SIMPLE_SIGNING
from control_plane.registry.signatures.failures import SignatureRequired
from control_plane.registry.signatures.gate import SignatureGate
from control_plane.registry.signatures.model import Identity
from control_plane.registry.signatures.notation import JWS, NOTATION
from control_plane.tenants.access import Principal
from tests.control_plane.registry.people import ADA, BOB, OTTO, VERA, Directory, image_manifest, index_manifest
from tests.control_plane.registry.pushing import WEB, push_blob, push_image, push_index
from tests.control_plane.registry.signatures.conftest import World
from tests.control_plane.registry.signatures.signing import (
    attach,
    attestation,
    b64,
    cosign,
    cosign_bundle,
    new_authority,
    new_key,
    notation_envelope,
    sign,
    simple_payload,
)

KEY, OTHER = new_key(), new_key("ed25519")


async def pulls(world: World, reference: str | Digest, principal: Principal = VERA, repository: str = WEB) -> bool:
    try:
        await world.registry.images.find(principal, repository, reference)
    except SignatureRequired:
        return False
    return True


async def test_an_unsigned_image_is_not_handed_out_and_the_policy_is_named(world: World) -> None:
    image = await push_image(world.registry)
    policy = await world.demand(await world.trust("ci", KEY))
    for reference in ("latest", image.digest):
        with pytest.raises(SignatureRequired, match="the policy signed demands") as refused:
            await world.registry.images.find(VERA, WEB, reference)
    assert refused.value.facts["policy_id"] == policy.policy_id
    assert oci_error_of(SignatureRequired) == (403, "DENIED")
    await cosign(world.registry, KEY, image.digest)
    assert await pulls(world, "latest")
    assert await pulls(world, image.digest)


async def test_every_form_of_signature_opens_the_gate(world: World) -> None:
    authority = new_authority()
    await world.demand(await world.trust("ci", KEY), await world.trust("notary", authority.pem))
    for form in ("tag", "subject", "bundle", "notation"):
        image = await push_image(world.registry, form, tag=form)
        assert not await pulls(world, form)
        if form == "bundle":
            await cosign_bundle(world.registry, KEY, image.digest)
        elif form == "notation":
            layer = (
                JWS,
                notation_envelope(authority, image.digest),
                {"io.cncf.notary.x509chain.thumbprint#S256": "[]"},
            )
            await attach(
                world.registry, [layer], subject=(image.digest, 1), artifact_type=NOTATION, config_type=NOTATION
            )
        else:
            await cosign(world.registry, KEY, image.digest, by_subject=form == "subject")
        assert await pulls(world, form)


async def test_signatures_that_do_not_count_leave_it_shut(world: World) -> None:
    image, other = await push_image(world.registry), await push_image(world.registry, "other", tag="other")
    await world.demand(await world.trust("ci", KEY))
    await world.trust("not asked for", OTHER)
    await cosign(world.registry, OTHER, image.digest)  # trusted, but not by this policy
    await cosign(world.registry, KEY, image.digest, claimed=other.digest, by_subject=True)  # of another image
    await cosign(world.registry, new_key(), image.digest, by_subject=True)  # of nobody
    await attestation(world.registry, KEY, image.digest)  # signed, but no signature of the image
    await cosign_bundle(world.registry, KEY, image.digest, "https://cyclonedx.org/bom")
    payload = simple_payload(image.digest)
    layer = (SIMPLE_SIGNING, payload + b"\n", {SIGNATURE_ANNOTATION: b64(sign(KEY, payload))})
    await attach(world.registry, [layer], subject=(image.digest, 1))
    assert not await pulls(world, "latest")
    await cosign(world.registry, KEY, image.digest, by_subject=True)
    assert await pulls(world, "latest")
    assert not await pulls(world, "other")


async def test_several_signers_may_be_needed(world: World) -> None:
    image = await push_image(world.registry)
    await world.demand(await world.trust("ci", KEY), await world.trust("qa", OTHER), needed=2)
    await cosign(world.registry, KEY, image.digest)
    assert not await pulls(world, "latest")
    await cosign(world.registry, OTHER, image.digest, by_subject=True)
    assert await pulls(world, "latest")


async def test_every_policy_that_covers_a_repository_must_be_satisfied(world: World) -> None:
    image = await push_image(world.registry)
    await world.demand(await world.trust("ci", KEY))
    await world.demand(await world.trust("qa", OTHER), name="qa", repositories=("web",))
    await cosign(world.registry, KEY, image.digest)
    with pytest.raises(SignatureRequired, match="the policy qa"):
        await world.registry.images.find(VERA, WEB, "latest")
    await cosign(world.registry, OTHER, image.digest, by_subject=True)
    assert await pulls(world, "latest")


async def test_a_signature_may_have_to_name_the_repository(world: World) -> None:
    image = await push_image(world.registry)
    await world.demand(await world.trust("ci", KEY), identity=Identity.REPOSITORY)
    await cosign(world.registry, KEY, image.digest, reference="registry.example/birch/web")
    await cosign_bundle(world.registry, KEY, image.digest)
    assert not await pulls(world, "latest")
    await cosign(world.registry, KEY, image.digest, by_subject=True)
    assert await pulls(world, "latest")


async def test_other_repositories_and_tenants_are_untouched(world: World) -> None:
    await push_image(world.registry, "api", repository="acme/api")
    await push_image(world.registry, "team", repository="acme/team/web")
    await push_image(world.registry, "birch", repository="birch/web", principal=BOB)
    await world.demand(await world.trust("ci", KEY), repositories=("web", "team/**"))
    assert await pulls(world, "latest", repository="acme/api")
    assert await pulls(world, "latest", BOB, "birch/web")
    assert not await pulls(world, "latest", repository="acme/team/web")


async def test_a_signed_index_covers_its_images_and_signed_images_their_index(world: World) -> None:
    await world.demand(await world.trust("ci", KEY))
    payload, images = await push_index(world.registry)
    digests = [image.digest for image in images.values()]
    references: list[str | Digest] = ["multi", *digests]
    assert not any([await pulls(world, each) for each in references])
    await cosign(world.registry, KEY, digests[0], by_subject=True)
    assert [await pulls(world, each) for each in references] == [False, True, False]
    await cosign(world.registry, KEY, digests[1], by_subject=True)
    assert all([await pulls(world, each) for each in references])
    single = await push_image(world.registry, "single", tag=None)
    outer = index_manifest([(single.payload, "amd64")])
    await world.registry.images.push(ADA, WEB, outer, OCI_INDEX, tags=["outer"])
    assert not await pulls(world, single.digest)
    await cosign(world.registry, KEY, Digest.of(outer))
    assert await pulls(world, "outer")
    assert await pulls(world, single.digest)
    assert payload != outer


async def test_signatures_and_attestations_themselves_can_be_pulled(world: World) -> None:
    image = await push_image(world.registry)
    signature = await cosign(world.registry, KEY, image.digest)
    bundle = await cosign_bundle(world.registry, KEY, image.digest)
    provenance = await attestation(world.registry, KEY, image.digest)
    await world.demand(await world.trust("other", OTHER))
    for reference in (signature, bundle, provenance, f"sha256-{image.digest.hex}.sig"):
        assert await pulls(world, reference)
    assert not await pulls(world, image.digest)


async def test_an_image_dressed_up_as_a_signature_is_not_handed_out(world: World) -> None:
    """What a runtime that looks at the config only could unpack: layers that are no JSON under a signature's type."""
    await world.demand(await world.trust("ci", KEY))
    subject = (Digest.of(b"whatever"), 1)
    tar = b"bin/sh\x00" + b"\x00" * 600
    dresses: list[list[tuple[str, bytes, dict[str, str]]]] = [
        [(SIMPLE_SIGNING, tar, {})],
        [(DSSE, b"{}", {}), (DSSE, tar, {})],
        [(SIMPLE_SIGNING, b"{}", {}), ("application/vnd.oci.image.layer.v1.tar", tar, {})],
    ]
    for layers in dresses:
        digest = await attach(
            world.registry, layers, subject=subject, artifact_type="application/vnd.dev.cosign.artifact.sig.v1+json"
        )
        assert not await pulls(world, digest)
    empty = image_manifest(b"{}", [], subject={"mediaType": OCI_MANIFEST, "digest": str(subject[0]), "size": 1})
    await push_blob(world.registry, b"{}")
    await world.registry.images.push(ADA, WEB, empty, OCI_MANIFEST, tags=["empty"])
    assert not await pulls(world, "empty")


async def test_who_may_push_may_read_what_it_is_about_to_sign(world: World) -> None:
    await push_image(world.registry)
    key = await world.trust("ci", KEY)
    lenient = await world.demand(key)
    assert [await pulls(world, "latest", each) for each in (VERA, OTTO, ADA)] == [False, True, True]
    await world.demand(key, name="strict", pushers_may_pull=False)
    assert [await pulls(world, "latest", each) for each in (VERA, OTTO, ADA)] == [False, False, False]
    assert lenient.pushers_may_pull


async def test_no_instance_is_made_of_an_unsigned_image_whoever_asks(world: World) -> None:
    payload, images = await push_index(world.registry)
    await world.demand(await world.trust("ci", KEY))
    reference = Reference.parse(f"{WEB}:multi")
    with pytest.raises(SignatureRequired):
        await world.registry.resolve(reference)
    await cosign(world.registry, KEY, Digest.of(payload))
    assert (await world.registry.resolve(reference)).manifest.digest == images["amd64"].digest


async def test_a_change_is_felt_at_once(world: World) -> None:
    image = await push_image(world.registry)
    assert await pulls(world, "latest")
    key = await world.trust("ci", KEY)
    policy = await world.demand(key)
    assert not await pulls(world, "latest")
    signature = await cosign(world.registry, KEY, image.digest)
    assert await pulls(world, "latest")
    await world.registry.images.delete_manifest(ADA, WEB, signature)
    assert not await pulls(world, "latest")
    await cosign(world.registry, KEY, image.digest)
    await world.registry.images.delete_tag(ADA, WEB, f"sha256-{image.digest.hex}.sig")
    assert not await pulls(world, "latest")
    await world.signatures.remove_policy(ADA, "acme", policy.policy_id)
    assert await pulls(world, "latest")


async def test_a_change_on_another_replica_is_felt_within_seconds(world: World) -> None:
    image = await push_image(world.registry)
    tenants = Directory("acme", "birch")
    gate = SignatureGate(world.database, world.blobs, tenants, world.clock)
    elsewhere = RegistryService(world.database, world.blobs, tenants, world.clock, Hooks((gate,), gate=gate))
    await world.demand(await world.trust("ci", KEY))
    assert not await pulls(world, "latest")
    await cosign(elsewhere, KEY, image.digest)
    world.clock.tick(6)
    assert await pulls(world, "latest")


async def test_a_verdict_is_kept_and_a_repository_without_policy_costs_no_query(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = await push_image(world.registry)
    free = await push_image(world.registry, "free", repository="acme/api")
    await world.demand(await world.trust("ci", KEY), repositories=("web",))
    await cosign(world.registry, KEY, image.digest)
    manifests = {
        WEB: await world.registry.images.find(VERA, WEB, image.digest),
        "acme/api": await world.registry.images.find(VERA, "acme/api", free.digest),
    }

    def forbidden(_self: Database) -> None:
        raise AssertionError("a query")

    monkeypatch.setattr(Database, "reading", forbidden)
    monkeypatch.setattr(Database, "transaction", forbidden)
    for repository, manifest in manifests.items():
        await world.gate.admit(VERA, repository, manifest)


async def test_a_damaged_signature_is_none(world: World) -> None:
    image = await push_image(world.registry)
    await world.demand(await world.trust("ci", KEY))
    await cosign(world.registry, KEY, image.digest)
    payload = simple_payload(image.digest)
    world.blobs.damage(Digest.of(payload), payload[:-1])
    world.gate.forget_all()
    assert not await pulls(world, "latest")


async def test_a_flood_of_junk_is_bounded_and_does_not_crowd_out_what_was_there(world: World) -> None:
    image = await push_image(world.registry)
    await world.demand(await world.trust("ci", KEY))
    await cosign(world.registry, KEY, image.digest)
    world.clock.tick(1)
    for number in range(70):
        payload = simple_payload(image.digest, reference=f"junk/{number}")
        layer = (SIMPLE_SIGNING, payload, {SIGNATURE_ANNOTATION: "AAAA"})
        await attach(world.registry, [layer], subject=(image.digest, 1))
    assert await pulls(world, "latest")
    assert len(await world.signatures.attachments(VERA, WEB, image.digest)) == 64
