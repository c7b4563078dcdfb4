"""Signing as cosign and notation do, with `cryptography` alone: neither program is at hand here, so their formats are
written from their specifications (cosign SIGNATURE_SPEC, sigstore bundle v0.3, DSSE v1.0.0, Notary Project JWS).
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.digest import Digest
from control_plane.registry.manifests import OCI_MANIFEST
from control_plane.registry.service import RegistryService
from control_plane.registry.signatures.claims import COSIGN_PREDICATE, DSSE, SIGNATURE_ANNOTATION, SIMPLE_SIGNING
from tests.control_plane.registry.people import ADA, descriptor, encode
from tests.control_plane.registry.pushing import WEB, push_blob

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def new_key(kind: str = "p256") -> PrivateKey:
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    curves = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}
    return ec.generate_private_key(curves[kind])


def public_pem(key: PrivateKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def sign(key: PrivateKey, data: bytes, algorithm: hashes.HashAlgorithm | None = None) -> bytes:
    """As cosign signs: SHA-256 unless told otherwise, ASN.1, PKCS#1 v1.5, pure Ed25519."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), algorithm or hashes.SHA256())
    return key.sign(data, ec.ECDSA(algorithm or hashes.SHA256()))


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def simple_payload(digest: Digest, reference: str = f"registry.example/{WEB}", **critical: Any) -> bytes:
    return encode(
        {
            "critical": {
                "identity": {"docker-reference": reference},
                "image": {"docker-manifest-digest": str(digest)},
                "type": "cosign container image signature",
                **critical,
            },
            "optional": None,
        }
    )


def statement(digest: Digest, predicate: str = COSIGN_PREDICATE, name: str = "") -> bytes:
    subject = {"name": name, "digest": {digest.algorithm: digest.hex}} if name else {"digest": {"sha256": digest.hex}}
    kind = "https://in-toto.io/Statement/v1"
    return encode({"_type": kind, "subject": [subject], "predicateType": predicate, "predicate": {}})


def envelope(key: PrivateKey, payload: bytes, kind: str = "application/vnd.in-toto+json") -> dict[str, Any]:
    signed = b"DSSEv1 " + f"{len(kind)} {kind} {len(payload)} ".encode() + payload
    return {"payload": b64(payload), "payloadType": kind, "signatures": [{"sig": b64(sign(key, signed)), "keyid": ""}]}


def bundle(key: PrivateKey, payload: bytes) -> bytes:
    material = {"publicKey": {"hint": "ignored"}, "tlogEntries": []}
    return encode({"mediaType": BUNDLE, "verificationMaterial": material, "dsseEnvelope": envelope(key, payload)})


@dataclass(frozen=True)
class Authority:
    """A CA, a leaf of it that signs code, and the leaf's key."""

    certificate: x509.Certificate
    leaf: x509.Certificate
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def chain(self) -> list[x509.Certificate]:
        return [self.leaf, self.certificate]


def new_authority(
    kind: str = "p256", days: int = 30, usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CODE_SIGNING
) -> Authority:
    root, key = ec.generate_private_key(ec.SECP256R1()), new_key(kind)
    assert not isinstance(key, ed25519.Ed25519PrivateKey)

    def named(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    def build(name: str, public: Any, is_ca: bool, life: int) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named("root"))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(days=1))
            .not_valid_after(NOW + timedelta(days=life))
            .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
        )

    certificate = build("root", root.public_key(), True, 365).sign(root, hashes.SHA256())
    leaf = build("leaf", key.public_key(), False, days).add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return Authority(certificate, leaf.sign(root, hashes.SHA256()), key)


def notation_envelope(authority: Authority, digest: Digest, **protected: Any) -> bytes:
    header = {
        "alg": "ES256" if isinstance(authority.key, ec.EllipticCurvePrivateKey) else "PS256",
        "cty": "application/vnd.cncf.notary.payload.v1+json",
        "crit": ["io.cncf.notary.signingScheme"],
        "io.cncf.notary.signingScheme": "notary.x509",
        "io.cncf.notary.signingTime": "2026-01-01T00:00:00Z",
        **protected,
    }
    payload = {"targetArtifact": {"mediaType": OCI_MANIFEST, "digest": str(digest), "size": 1}}
    first, second = _url(encode(header)), _url(encode(payload))
    data = f"{first}.{second}".encode()
    if isinstance(authority.key, rsa.RSAPrivateKey):
        raw = authority.key.sign(data, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    else:
        halves = decode_dss_signature(authority.key.sign(data, ec.ECDSA(hashes.SHA256())))
        raw = b"".join(half.to_bytes(32, "big") for half in halves)
    chain = [b64(each.public_bytes(serialization.Encoding.DER)) for each in authority.chain]
    return encode({"payload": second, "protected": first, "header": {"x5c": chain}, "signature": _url(raw)})


def _url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


async def attach(
    registry: RegistryService,
    layers: list[tuple[str, bytes, dict[str, str]]],
    *,
    subject: tuple[Digest, int] | None = None,
    tag: str | None = None,
    artifact_type: str | None = None,
    config_type: str = IMAGE_CONFIG,
    repository: str = WEB,
    annotations: dict[str, str] | None = None,
) -> Digest:
    """Push an artifact of these layers: (media type, bytes, annotations)."""
    config = b"{}"
    for data in (config, *(data for _, data, _ in layers)):
        await push_blob(registry, data, repository)
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(config, config_type),
        "layers": [descriptor(data, kind, annotations=notes) for kind, data, notes in layers],
    }
    if artifact_type is not None:
        document["artifactType"] = artifact_type
    if annotations is not None:
        document["annotations"] = annotations
    if subject is not None:
        document["subject"] = {"mediaType": OCI_MANIFEST, "digest": str(subject[0]), "size": subject[1]}
    payload = encode(document)
    digest = Digest.of(payload)
    await registry.images.push(ADA, repository, payload, OCI_MANIFEST, digest=digest, tags=[tag] if tag else [])
    return digest


async def cosign(
    registry: RegistryService,
    key: PrivateKey,
    image: Digest,
    *,
    claimed: Digest | None = None,
    reference: str = f"registry.example/{WEB}",
    repository: str = WEB,
    by_subject: bool = False,
) -> Digest:
    """`cosign sign --key`: by the tag scheme, or as a referrer."""
    payload = simple_payload(claimed or image, reference)
    layer = (SIMPLE_SIGNING, payload, {SIGNATURE_ANNOTATION: b64(sign(key, payload))})
    if by_subject:
        kind = "application/vnd.dev.cosign.artifact.sig.v1+json"
        return await attach(registry, [layer], subject=(image, 1), artifact_type=kind, repository=repository)
    return await attach(registry, [layer], tag=f"sha256-{image.hex}.sig", repository=repository)


async def cosign_bundle(
    registry: RegistryService, key: PrivateKey, image: Digest, predicate: str = COSIGN_PREDICATE, name: str = ""
) -> Digest:
    """`cosign sign --new-bundle-format`, or `cosign attest` with another predicate."""
    return await attach(
        registry,
        [(BUNDLE, bundle(key, statement(image, predicate, name)), {})],
        subject=(image, 1),
        artifact_type=BUNDLE,
        config_type=EMPTY,
        annotations={"dev.sigstore.bundle.predicateType": predicate},
    )


async def attestation(registry: RegistryService, key: PrivateKey, image: Digest) -> Digest:
    """`cosign attest` of old: a DSSE envelope under the `.att` tag."""
    data = json.dumps(envelope(key, statement(image, "https://slsa.dev/provenance/v1"))).encode()
    return await attach(registry, [(DSSE, data, {})], tag=f"sha256-{image.hex}.att")
