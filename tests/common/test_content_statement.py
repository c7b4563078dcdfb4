"""A statement has one spelling and one meaning; every kind of lie is refused."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from common.bittorrent.merkle import MerkleBuilder
from common.bittorrent.metainfo import Metainfo, MetainfoInvalid, build
from common.content_statement import (
    PAYLOAD_TYPE,
    ClaimedMetainfo,
    ContentStatement,
    SignedMetainfo,
    StatementFalse,
    StatementInvalid,
    StatementUnsigned,
    StatementVerifier,
    parse,
    pre_authentication,
    sign,
    statement_of,
)
from common.digest import Digest
from common.errors import Failure

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
DATA = bytes(range(256)) * 512
DIGEST = Digest.of(DATA)
TENANT = "01890000-0000-7000-8000-000000000001"


def pem(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def metainfo_of(data: bytes, salt: bytes = b"a tenant's salt!", piece_length: int = 1 << 14) -> Metainfo:
    builder = MerkleBuilder(piece_length)
    builder.update(data)
    return build(Digest.of(data).hex, *builder.finish(), piece_length, salt)


METAINFO = metainfo_of(DATA)
TRUTH = statement_of(TENANT, DIGEST, METAINFO)

statements = st.builds(
    ContentStatement,
    tenant_id=st.text(max_size=40).filter(lambda text: text.isprintable()),
    digest=st.binary(max_size=9).map(Digest.of),
    length=st.integers(1, 1 << 62),
    piece_length=st.integers(1, 1 << 40),
    pieces_root=st.binary(min_size=32, max_size=32),
    info_hash=st.binary(min_size=32, max_size=32),
)


@pytest.fixture
def verifier() -> StatementVerifier:
    verifier = StatementVerifier()
    verifier.replace_keys({"k1": pem(KEY), "k2": pem(OTHER_KEY)})
    return verifier


def claimed(
    statement: ContentStatement = TRUTH, key_id: str = "k1", encoded: bytes = METAINFO.encoded
) -> ClaimedMetainfo:
    return ClaimedMetainfo(sign(statement, "k1", KEY), encoded)


@given(statement=statements)
def test_what_is_written_is_read_and_nothing_else(statement: ContentStatement) -> None:
    assert parse(statement.encode()) == statement


@given(statement=statements, at=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_a_changed_byte_is_another_statement_or_none(statement: ContentStatement, at: int, byte: int) -> None:
    payload = bytearray(statement.encode())
    payload[at % len(payload)] = byte
    try:
        read = parse(bytes(payload))
    except StatementInvalid:
        return
    assert (read == statement) == (bytes(payload) == statement.encode())


@given(payload=st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_garbage_is_refused_as_invalid(payload: bytes) -> None:
    with pytest.raises(StatementInvalid):
        parse(payload)


@given(text=st.text(max_size=400) | st.from_regex(r"k1\.[A-Za-z0-9_-]{0,80}\.[A-Za-z0-9_-]{86}", fullmatch=True))
def test_no_text_that_we_did_not_sign_is_accepted(text: str) -> None:
    verifier = StatementVerifier()
    verifier.replace_keys({"k1": pem(KEY)})
    with pytest.raises(StatementInvalid):
        verifier.verify(text)


@given(statement=statements, cut=st.integers(1, 200), at=st.integers(0, 10_000))
def test_a_damaged_statement_is_refused(statement: ContentStatement, cut: int, at: int) -> None:
    verifier = StatementVerifier()
    verifier.replace_keys({"k1": pem(KEY)})
    whole = sign(statement, "k1", KEY)
    assert verifier.verify(whole) == statement
    place = at % len(whole)
    swapped = whole[:place] + ("A" if whole[place] != "A" else "B") + whole[place + 1 :]
    for damaged in (whole[:-cut], swapped, whole + "A", whole + "="):
        with pytest.raises(StatementInvalid):
            verifier.verify(damaged)


def test_the_truth_is_accepted_and_passed_on_unchanged(verifier: StatementVerifier) -> None:
    truth = claimed()
    signed = verifier.accept(truth, TENANT, DIGEST, len(DATA))
    assert signed == SignedMetainfo(truth.statement, METAINFO)
    assert SignedMetainfo.unpack(signed.pack()) == signed


@pytest.mark.parametrize(
    "lie",
    [
        replace(TRUTH, digest=Digest.of(b"other")),
        replace(TRUTH, tenant_id="another tenant"),
        replace(TRUTH, length=TRUTH.length + 1),
        replace(TRUTH, piece_length=TRUTH.piece_length * 2),
        replace(TRUTH, pieces_root=bytes(32)),
        replace(TRUTH, info_hash=bytes(32)),
    ],
    ids=["digest", "tenant", "length", "piece length", "root", "info-hash"],
)
def test_a_statement_about_anything_else_is_refused(verifier: StatementVerifier, lie: ContentStatement) -> None:
    with pytest.raises(StatementFalse):
        verifier.accept(claimed(lie), TENANT, DIGEST)


@pytest.mark.parametrize(
    "other",
    [metainfo_of(DATA[::-1]), metainfo_of(DATA, b"another's salt!!"), metainfo_of(DATA, piece_length=1 << 15)],
    ids=["bytes", "salt", "piece length"],
)
def test_a_metainfo_that_is_not_the_stated_one_is_refused(verifier: StatementVerifier, other: Metainfo) -> None:
    with pytest.raises(StatementFalse):
        verifier.accept(claimed(encoded=other.encoded), TENANT, DIGEST)


def test_a_content_of_another_length_is_refused(verifier: StatementVerifier) -> None:
    with pytest.raises(StatementFalse):
        verifier.accept(claimed(), TENANT, DIGEST, len(DATA) + 1)


@pytest.mark.parametrize("encoded", [b"", b"d4:infoe", METAINFO.encoded[:-1], METAINFO.encoded + b"e"])
def test_a_truncated_metainfo_is_refused(verifier: StatementVerifier, encoded: bytes) -> None:
    with pytest.raises(MetainfoInvalid):
        verifier.accept(claimed(encoded=encoded), TENANT, DIGEST)


def test_a_forged_piece_layer_is_refused(verifier: StatementVerifier) -> None:
    forged = METAINFO.encoded.replace(METAINFO.piece_layer[0], bytes(32))
    with pytest.raises(MetainfoInvalid):
        verifier.accept(claimed(encoded=forged), TENANT, DIGEST)


def test_a_signature_by_another_key_is_refused(verifier: StatementVerifier) -> None:
    stranger = Ed25519PrivateKey.generate()
    for statement in (sign(TRUTH, "k1", stranger), sign(TRUTH, "k2", KEY), sign(TRUTH, "k3", stranger)):
        with pytest.raises(StatementUnsigned):
            verifier.accept(ClaimedMetainfo(statement, METAINFO.encoded), TENANT, DIGEST)


def test_a_key_that_rotated_away_verifies_no_more(verifier: StatementVerifier) -> None:
    statement = claimed().statement
    assert verifier.knows_key_of(statement)
    verifier.replace_keys({"k2": pem(OTHER_KEY)})
    assert not verifier.knows_key_of(statement)
    with pytest.raises(StatementUnsigned):
        verifier.accept(claimed(), TENANT, DIGEST)


@pytest.mark.parametrize("statement", ["", "k1", "k1..", "k1.a.b.c", "k1.a=.b", "k1.é.b", "a" * 5000, ".a.b", "\n"])
def test_what_is_no_statement_is_refused(verifier: StatementVerifier, statement: str) -> None:
    with pytest.raises(StatementInvalid):
        verifier.accept(ClaimedMetainfo(statement, METAINFO.encoded), TENANT, DIGEST)


def test_a_signature_over_something_else_does_not_fit(verifier: StatementVerifier) -> None:
    """Neither over the bare payload nor over another type: only over the pre-authentication encoding."""
    payload = TRUTH.encode()
    for signed in (payload, pre_authentication("application/json", payload), PAYLOAD_TYPE.encode() + payload):
        parts = ["k1", *(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (payload, KEY.sign(signed)))]
        with pytest.raises(StatementUnsigned):
            verifier.verify(".".join(parts))


def test_the_encoding_before_the_signature_is_that_of_dsse() -> None:
    """The example of the specification (protocol.md, "Test vectors")."""
    assert pre_authentication("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields | {"more": 1},
        lambda fields: {name: value for name, value in fields.items() if name != "length"},
        lambda fields: fields | {"length": True},
        lambda fields: fields | {"length": -1},
        lambda fields: fields | {"length": 1.0},
        lambda fields: fields | {"pieces_root": "00"},
        lambda fields: fields | {"info_hash": fields["info_hash"].upper()},
        lambda fields: [fields],
    ],
)
def test_fields_that_do_not_belong_are_refused(change) -> None:
    fields = json.loads(TRUTH.encode())
    with pytest.raises(StatementInvalid):
        parse(json.dumps(change(fields), sort_keys=True, separators=(",", ":")).encode())


@pytest.mark.parametrize("packed", [b"", b"no newline", b"\xff\nd", b"k1.a.b\n"])
def test_a_file_that_holds_none_is_refused(packed: bytes) -> None:
    with pytest.raises(Failure):
        SignedMetainfo.unpack(packed)
