"""What verifies, and what never does: chosen forgeries, and arbitrary bytes."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from common.digest import Digest
from control_plane.registry.signatures.artifacts import looks_attached, read_artifact
from control_plane.registry.signatures.claims import COSIGN_PREDICATE, DSSE, SIMPLE_SIGNING, pre_authentication_encoding
from control_plane.registry.signatures.failures import KeyInvalid
from control_plane.registry.signatures.keys import Verifier, read_key, verifies
from control_plane.registry.signatures.model import (
    ArtifactKind,
    Identity,
    KeyKind,
    Proof,
    SignaturePolicy,
    names_repository,
    satisfied,
)
from control_plane.registry.signatures.notation import JWS
from control_plane.registry.signatures.verification import Evidence, prove
from tests.control_plane.registry.people import encode
from tests.control_plane.registry.signatures.signing import (
    BUNDLE,
    NOW,
    Authority,
    PrivateKey,
    b64,
    bundle,
    envelope,
    new_authority,
    new_key,
    notation_envelope,
    public_pem,
    sign,
    simple_payload,
    statement,
)

IMAGE, OTHER = Digest.of(b"image"), Digest.of(b"other")
ARTIFACT = Digest.of(b"artifact")
KEY, STRANGER = new_key(), new_key()
AUTHORITY = new_authority()


def verifier(key: PrivateKey | Authority = KEY, key_id: str = "k") -> Verifier:
    return Verifier(key_id, read_key(key.pem if isinstance(key, Authority) else public_pem(key)))


def simple(payload: bytes, signature: bytes | str) -> Evidence:
    text = signature if isinstance(signature, str) else b64(signature)
    return Evidence(ARTIFACT, SIMPLE_SIGNING, payload, text)


def proven(*evidence: Evidence, by: Verifier | None = None, image: Digest = IMAGE) -> tuple[Proof, ...]:
    return prove(image, evidence, [by or verifier()], NOW)


@pytest.mark.parametrize("kind", ["p256", "p384", "p521", "rsa", "ed25519"])
def test_every_kind_of_key_verifies_what_it_signed_and_nothing_else(kind: str) -> None:
    key, other = new_key(kind), new_key(kind)
    payload = simple_payload(IMAGE, "registry.example/acme/web")
    genuine = simple(payload, sign(key, payload))
    (proof,) = proven(genuine, by=verifier(key))
    assert proof == Proof(ARTIFACT, "k", counts=True, reference="registry.example/acme/web")
    assert proven(genuine, by=verifier(other)) == ()
    assert proven(genuine, by=verifier(key), image=OTHER) == ()
    assert proven(simple(payload + b" ", sign(key, payload)), by=verifier(key)) == ()


def test_larger_curves_may_sign_with_their_own_hash() -> None:
    for kind, algorithm in (("p384", hashes.SHA384()), ("p521", hashes.SHA512())):
        key = new_key(kind)
        payload = simple_payload(IMAGE)
        assert proven(simple(payload, sign(key, payload, algorithm)), by=verifier(key))


def test_a_signature_over_something_else_is_none() -> None:
    for payload in (
        simple_payload(IMAGE, type="atomic container signature"),
        simple_payload(IMAGE, image={}),
        encode({"critical": None}),
        encode([simple_payload(IMAGE).decode()]),
        simple_payload(IMAGE)[:-1] + b',"critical":{}}',
        b"[" * 100_000,
        b"",
    ):
        assert proven(simple(payload, sign(KEY, payload))) == ()


def test_a_signature_in_a_wrong_dress_is_none() -> None:
    payload = simple_payload(IMAGE)
    good = b64(sign(KEY, payload))
    # One length of three needs no padding, and the length of an ECDSA signature differs from one to the next.
    bare = good.replace("=", "") if "=" in good else good[:-1]
    for text in ("", "!", good[:-4], good + "=", good + "====", bare, bare + "\n", "\ud800", good[::-1]):
        assert proven(simple(payload, text)) == (), text
    assert proven(Evidence(ARTIFACT, SIMPLE_SIGNING, payload, None)) == ()
    assert proven(replace(simple(payload, good), media_type="application/json")) == ()


def test_envelopes_and_bundles_verify_and_say_whether_they_count() -> None:
    signed = Evidence(ARTIFACT, BUNDLE, bundle(KEY, statement(IMAGE, name="registry.example/acme/web")))
    assert proven(signed) == (Proof(ARTIFACT, "k", counts=True, reference="registry.example/acme/web"),)
    attested = Evidence(ARTIFACT, DSSE, encode(envelope(KEY, statement(IMAGE, "https://slsa.dev/provenance/v1"))))
    assert [proof.counts for proof in proven(attested)] == [False]
    for evidence in (signed, attested):
        assert proven(evidence, by=verifier(STRANGER)) == ()
        assert proven(evidence, image=OTHER) == ()


def test_the_pre_authentication_encoding_is_that_of_the_specification() -> None:
    assert pre_authentication_encoding("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_a_forged_envelope_proves_nothing() -> None:
    good = envelope(KEY, statement(IMAGE))
    forged: list[Any] = [
        good | {"payload": b64(statement(OTHER))},
        good | {"payload": b64(statement(IMAGE) + b" ")},
        good | {"payloadType": "application/json"},
        good | {"signatures": []},
        good | {"signatures": [{"sig": b64(sign(KEY, statement(IMAGE)))}]},
        good | {"signatures": "x"},
        envelope(KEY, statement(IMAGE), "text/plain"),
        envelope(KEY, encode({"subject": [{"digest": {"sha256": IMAGE.hex}}], "predicateType": COSIGN_PREDICATE})),
        envelope(STRANGER, statement(IMAGE)),
        [good],
        None,
    ]
    for each in forged:
        assert proven(Evidence(ARTIFACT, DSSE, encode(each))) == (), each
        document = {"mediaType": BUNDLE, "dsseEnvelope": each}
        assert proven(Evidence(ARTIFACT, BUNDLE, encode(document))) == (), each
    assert proven(Evidence(ARTIFACT, BUNDLE, encode({"dsseEnvelope": good}))) == ()
    assert proven(Evidence(ARTIFACT, BUNDLE, encode({"mediaType": BUNDLE, "dsseEnvelope": good})))


@pytest.mark.parametrize("kind", ["p256", "rsa"])
def test_notation_verifies_with_the_issuer_or_the_leaf(kind: str) -> None:
    authority = new_authority(kind)
    evidence = Evidence(ARTIFACT, JWS, notation_envelope(authority, IMAGE))
    assert proven(evidence, by=verifier(authority)) == (Proof(ARTIFACT, "k", counts=True),)
    leaf = authority.leaf.public_bytes(serialization.Encoding.PEM).decode()
    assert proven(evidence, by=Verifier("leaf", read_key(leaf)))
    assert proven(evidence, by=verifier(authority), image=OTHER) == ()
    assert proven(evidence, by=verifier(new_authority())) == ()
    assert prove(IMAGE, [evidence], [verifier(authority)], NOW + timedelta(days=31)) == ()
    assert prove(IMAGE, [evidence], [verifier(authority)], NOW - timedelta(days=2)) == ()


def test_a_notation_header_that_is_not_right_proves_nothing() -> None:
    expiry = "io.cncf.notary.expiry"
    good = {expiry: "2026-02-01T00:00:00Z", "crit": ["io.cncf.notary.signingScheme", expiry]}
    assert proven(Evidence(ARTIFACT, JWS, notation_envelope(AUTHORITY, IMAGE, **good)), by=verifier(AUTHORITY))
    wrongs: tuple[dict[str, Any], ...] = (
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "PS256"},
        {"cty": "text/plain"},
        {"crit": []},
        {"crit": ["io.cncf.notary.signingScheme", "unheard.of"], "unheard.of": 1},
        {"crit": ["io.cncf.notary.signingScheme", ["x"]]},
        {"crit": ["io.cncf.notary.signingScheme", expiry]},
        {"io.cncf.notary.signingScheme": "other"},
        {expiry: "2025-12-31T00:00:00Z"},
        {expiry: "2026-12-31T00:00:00"},
        {expiry: 7},
    )
    for wrong in wrongs:
        assert (
            proven(Evidence(ARTIFACT, JWS, notation_envelope(AUTHORITY, IMAGE, **wrong)), by=verifier(AUTHORITY)) == ()
        )


def test_a_certificate_for_something_else_proves_nothing() -> None:
    server = new_authority(usage=ExtendedKeyUsageOID.SERVER_AUTH)
    assert proven(Evidence(ARTIFACT, JWS, notation_envelope(server, IMAGE)), by=verifier(server)) == ()
    swapped = json.loads(notation_envelope(AUTHORITY, IMAGE))
    swapped["header"]["x5c"] = json.loads(notation_envelope(new_authority(), IMAGE))["header"]["x5c"]
    assert proven(Evidence(ARTIFACT, JWS, encode(swapped)), by=verifier(AUTHORITY)) == ()
    for chain in ([], ["AAAA"], [7], ["x"] * 9, "x5c"):
        swapped["header"]["x5c"] = chain
        assert proven(Evidence(ARTIFACT, JWS, encode(swapped)), by=verifier(AUTHORITY)) == ()
    payload = simple_payload(IMAGE)
    # The key of a certificate is for notation only.
    assert proven(simple(payload, sign(AUTHORITY.key, payload)), by=verifier(AUTHORITY)) == ()


GENUINE = [
    simple(simple_payload(IMAGE), sign(KEY, simple_payload(IMAGE))),
    Evidence(ARTIFACT, BUNDLE, bundle(KEY, statement(IMAGE))),
    Evidence(ARTIFACT, DSSE, encode(envelope(KEY, statement(IMAGE)))),
    Evidence(ARTIFACT, JWS, notation_envelope(AUTHORITY, IMAGE)),
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(GENUINE), st.data())
def test_a_genuine_signature_with_any_byte_changed_proves_nothing_for_another_image(
    genuine: Evidence, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(genuine.data) - 1))
    mask = data.draw(st.integers(1, 255))
    changed = bytearray(genuine.data)
    changed[place] ^= mask
    evidence = replace(genuine, data=bytes(changed))
    verifiers = [verifier(), verifier(AUTHORITY, "a")]
    assert prove(OTHER, [evidence], verifiers, NOW) == ()
    if genuine.media_type == SIMPLE_SIGNING:
        assert prove(IMAGE, [evidence], verifiers, NOW) == ()


_WORDS = ["critical", "image", "payload", "payloadType", "signatures", "sig", "mediaType", "dsseEnvelope", "protected"]
_WORDS += ["header", "x5c", "signature", "layers", "config", "digest", "size", "annotations", "crit"]
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(_WORDS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=200) | _json.map(encode),
    st.sampled_from([SIMPLE_SIGNING, BUNDLE, DSSE, JWS]),
    st.none() | st.text(max_size=100),
)
def test_arbitrary_evidence_neither_verifies_nor_raises(data: bytes, media_type: str, signature: str | None) -> None:
    assert prove(IMAGE, [Evidence(ARTIFACT, media_type, data, signature)], [verifier(), verifier(AUTHORITY)], NOW) == ()
    read_artifact(data)
    looks_attached(data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["p256", "rsa", "ed25519"]))
def test_arbitrary_signatures_verify_with_no_key(signature: bytes, kind: str) -> None:
    assert not verifies(_KEYS[kind], signature, b"data")


_KEYS = {kind: read_key(public_pem(new_key(kind))).key for kind in ("p256", "rsa", "ed25519")}


def test_a_key_is_read_however_it_is_spaced_and_has_one_fingerprint() -> None:
    pem = public_pem(KEY)
    assert read_key("\n\n" + pem + "\n").fingerprint == read_key(pem).fingerprint
    assert (read_key(pem).kind, read_key(AUTHORITY.pem).kind) == (KeyKind.PUBLIC_KEY, KeyKind.CERTIFICATE)


def private_pem() -> str:
    form = serialization.PrivateFormat.PKCS8
    return KEY.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def odd_pem(key: Any) -> str:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "pem",
    [
        "",
        "no key",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        public_pem(KEY) * 2,
        public_pem(KEY) + "x" * 20_000,
        private_pem(),
        odd_pem(rsa.generate_private_key(65537, 1024).public_key()),
        odd_pem(ec.generate_private_key(ec.SECP256K1()).public_key()),
        odd_pem(x25519.X25519PrivateKey.generate().public_key()),
        "\ud800-----BEGIN PUBLIC KEY-----",
    ],
)
def test_what_is_no_acceptable_key_is_refused(pem: str) -> None:
    with pytest.raises(KeyInvalid):
        read_key(pem)


@pytest.mark.parametrize(
    ("reference", "names"),
    [
        ("acme/web", True),
        ("registry.example/acme/web", True),
        ("registry.example:5000/acme/web:1.0", True),
        ("localhost/acme/web@sha256:00", True),
        ("acme/web:1.0", True),
        ("docker.io/evil/acme/web", False),
        ("evil/acme/web", False),
        ("acme/webs", False),
        ("acme/web/x", False),
        ("", False),
        (None, False),
    ],
)
def test_a_reference_names_the_repository_at_any_host(reference: str | None, names: bool) -> None:
    assert names_repository(reference, "acme/web") is names


def test_a_policy_counts_different_keys_that_it_names() -> None:
    policy = SignaturePolicy("p", "t", "two", ("**",), ("a", "b", "c"), needed=2)
    one, same, two = (Proof(ARTIFACT, key, counts=True, reference="acme/web") for key in ("a", "a", "b"))
    assert not satisfied(policy, "acme/web", [one, same])
    assert satisfied(policy, "acme/web", [one, two])
    assert not satisfied(policy, "acme/web", [one, replace(two, counts=False)])
    assert not satisfied(policy, "acme/web", [one, replace(two, key_id="x")])
    here = replace(policy, identity=Identity.REPOSITORY)
    assert satisfied(here, "acme/web", [one, two])
    assert not satisfied(here, "acme/api", [one, two])
    assert not satisfied(here, "acme/web", [one, replace(two, reference=None)])


def test_what_could_run_is_never_taken_for_an_attachment() -> None:
    layer = {"mediaType": SIMPLE_SIGNING, "digest": str(OTHER), "size": 1}
    image_layer = layer | {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"}
    assert looks_attached(encode({"layers": [layer]}))
    documents: tuple[dict[str, Any], ...] = (
        {"layers": [layer, image_layer], "artifactType": "application/vnd.dev.cosign.artifact.sig.v1+json"},
        {"layers": []},
        {"layers": [layer], "manifests": []},
        {"config": {"mediaType": "application/vnd.cncf.notary.signature"}},
        {"layers": [layer | {"mediaType": None}]},
        {"layers": [7]},
    )
    for document in documents:
        assert not looks_attached(encode(document))


@pytest.mark.parametrize(
    ("artifact_type", "layer_type", "kind", "form"),
    [
        (None, SIMPLE_SIGNING, ArtifactKind.SIGNATURE, "cosign"),
        (BUNDLE, BUNDLE, ArtifactKind.SIGNATURE, "sigstore-bundle"),
        ("application/vnd.cncf.notary.signature", JWS, ArtifactKind.SIGNATURE, "notation-jws"),
        ("application/vnd.cncf.notary.signature", "application/cose", ArtifactKind.SIGNATURE, "notation-cose"),
        (None, DSSE, ArtifactKind.ATTESTATION, "dsse"),
        (None, "application/vnd.in-toto+json", ArtifactKind.ATTESTATION, "in-toto"),
        ("application/spdx+json", "application/octet-stream", ArtifactKind.SBOM, "spdx"),
        (None, "application/vnd.cyclonedx+json", ArtifactKind.SBOM, "cyclonedx"),
        ("application/x", "application/y", ArtifactKind.OTHER, "application/x"),
    ],
)
def test_attachments_are_told_apart(artifact_type: str | None, layer_type: str, kind: str, form: str) -> None:
    layer = {"mediaType": layer_type, "digest": str(OTHER), "size": 1}
    document = {"layers": [layer]} | ({"artifactType": artifact_type} if artifact_type else {})
    found = read_artifact(encode(document))
    assert (found.kind, found.form) == (kind, form)
