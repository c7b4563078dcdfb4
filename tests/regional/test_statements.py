"""A regional uses and passes on no metainfo without its statement, and renews one whose key has rotated away."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from common.bittorrent.metainfo import Metainfo
from common.content_statement import StatementInvalid, sign, statement_of
from common.digest import Digest
from regional.model import ContentKey

from .conftest import KEY_ID, PIECE, FakeCentre, Rigs, sample

LARGE = sample(3 * PIECE + 5)
NEW_KEY = Ed25519PrivateKey.generate()
NEW = {"k2": NEW_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)}


def by_the_new_key(key: ContentKey, metainfo: Metainfo) -> str:
    return sign(statement_of(key.tenant_id, key.digest, metainfo), "k2", NEW_KEY)


def of_another_tenant(key: ContentKey, metainfo: Metainfo) -> str:
    return by_the_new_key(ContentKey(key.digest, "globex"), metainfo)


def of_another_digest(key: ContentKey, metainfo: Metainfo) -> str:
    return by_the_new_key(ContentKey(Digest.of(b"other"), key.tenant_id), metainfo)


def none(_key: ContentKey, _metainfo: Metainfo) -> str:
    return ""


@pytest.mark.parametrize("lie", [of_another_tenant, of_another_digest, none], ids=lambda lie: lie.__name__)
async def test_a_metainfo_that_is_not_stated_is_refused_and_the_content_comes_whole(
    rigs: Rigs, centre: FakeCentre, lie
) -> None:
    centre.publish(LARGE, "acme")
    centre.state = lie
    async with rigs() as rig:
        rig.statements.replace_keys({**rig.signer.public, **NEW})
        with pytest.raises(StatementInvalid):
            await rig.metainfos.get(LARGE.key(), rig.token(LARGE))
        assert rig.metainfos.refused == 1
        await rig.hold(LARGE)
        assert await rig.read(LARGE) == LARGE.data
        assert not rig.seeding.seeds(LARGE.key())
        assert rig.metainfos.known() == {}


async def test_a_statement_is_kept_over_a_restart_and_passed_on_unchanged(rigs: Rigs, centre: FakeCentre) -> None:
    centre.publish(LARGE, "acme")
    async with rigs() as rig:
        await rig.hold(LARGE)
        first = await rig.metainfos.signed(LARGE.key(), rig.token(LARGE))
    async with rigs() as rig:
        assert await rig.metainfos.signed(LARGE.key(), rig.token(LARGE)) == first
        assert first is not None
        assert first.statement == rig.signer.statement(LARGE.key(), LARGE.metainfo())
    assert centre.metainfo_gets == 1


async def test_a_statement_whose_key_rotated_away_is_renewed_before_it_is_passed_on(
    rigs: Rigs, centre: FakeCentre
) -> None:
    centre.publish(LARGE, "acme")
    async with rigs() as rig:
        await rig.hold(LARGE)
        rig.statements.replace_keys(NEW)
        centre.state = by_the_new_key
        token = rig.token(LARGE)
        assert await rig.metainfos.get(LARGE.key(), token) == LARGE.metainfo()  # what was verified goes on
        assert centre.metainfo_gets == 1
        for _ in range(2):
            signed = await rig.metainfos.signed(LARGE.key(), token)
            assert signed is not None
            assert signed.statement.startswith("k2.")
        assert centre.metainfo_gets == 2
        assert rig.seeding.seeds(LARGE.key())


async def test_while_the_centre_is_away_the_old_statement_is_passed_on(rigs: Rigs, centre: FakeCentre) -> None:
    centre.publish(LARGE, "acme")
    async with rigs() as rig:
        await rig.hold(LARGE)
        rig.statements.replace_keys(NEW)
        centre.metainfo_busy = (503, "1")
        signed = await rig.metainfos.signed(LARGE.key(), rig.token(LARGE))
        assert signed is not None
        assert signed.statement.startswith(f"{KEY_ID}.")


async def test_a_file_of_an_earlier_kind_is_asked_for_again(rigs: Rigs, centre: FakeCentre) -> None:
    centre.publish(LARGE, "acme")
    async with rigs() as rig:
        await rig.hold(LARGE)
        path = rig.directory.root / "metainfo" / LARGE.key().file_name()
    path.write_bytes(LARGE.metainfo().encoded)
    async with rigs() as rig:
        assert await rig.metainfos.signed(LARGE.key(), rig.token(LARGE)) is not None
    assert centre.metainfo_gets == 2


def test_a_statement_fits_into_a_header_line() -> None:
    """Servers take 8 KiB at most; the longest digest and tenant stay far below."""
    key = ContentKey(Digest.of(b"x", "sha512"), "t" * 36)
    assert len(by_the_new_key(key, LARGE.metainfo())) < 1000
