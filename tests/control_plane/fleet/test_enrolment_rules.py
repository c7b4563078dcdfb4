"""Join tokens, names and certificates, on both databases, with time that stands still."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from common.clock import ManualClock
from common.errors import Denied, Failure, Unauthenticated
from common.join_token import JoinToken, JoinTokenMalformed
from common.tls import Name, certificate_name, new_key_and_request, private_key_pem, request_for
from control_plane.database import Database
from control_plane.events.memory import MemoryEventBus
from control_plane.fleet import store_certificates, store_members
from control_plane.fleet.authority import AuthorityBroken, ServerCertificates, open_authority, server_names
from control_plane.fleet.certificates import Issued, RequestInvalid, backdating, requested_key
from control_plane.fleet.enrolment import Application, Enrolled, NameTaken
from control_plane.fleet.join_tokens import JoinTokenExpired, JoinTokenGone, JoinTokenUsed, LifeInvalid
from control_plane.fleet.model import AddressInvalid, IdcExists, IdcInUse, IdcUnknown, NameInvalid, State
from control_plane.fleet.service import Fleet, FleetOptions, open_fleet
from control_plane.fleet.store_admission import IdentityUnknown, IdentityWasRevoked
from control_plane.rpc.peers import PeerIdentity, key_hash
from control_plane.sealing import SealBroken, SealedBox
from control_plane.sealing.keyring import KeyRing
from control_plane.web.paging import PageRequest
from tests.control_plane.fleet.plane import sealer

LIFE = timedelta(minutes=10)


@pytest.fixture
async def fleet(database: Database, clock: ManualClock) -> Fleet:
    fleet = await open_fleet(
        database, MemoryEventBus(), sealer(), clock, lambda: 0.5, FleetOptions(certificate_life=timedelta(hours=24))
    )
    await fleet.idcs.create("east")
    return fleet


async def token_of(fleet: Fleet, kind: str = "host", **more: object) -> str:
    wanted = {"name": None, "life": LIFE, "created_by": "root", **more}
    return (await fleet.join_tokens.make(kind, "east", **wanted)).text  # type: ignore


def application(token: str, key_pem: bytes, name: str = "e1", **more: object) -> Application:
    return replace(Application(token, request_for(key_pem), name, (), "1.0"), **more)  # type: ignore


def new_key() -> bytes:
    return new_key_and_request()[0]


def peer_of(enrolled: Enrolled | Issued, kind: str = "host", identity_id: str = "") -> PeerIdentity:
    issued = enrolled.issued if isinstance(enrolled, Enrolled) else enrolled
    return PeerIdentity(certificate_name(issued.pem), issued.serial, issued.key_hash)


async def test_an_enrolled_host_has_a_row_a_recorded_certificate_and_a_spent_token(fleet: Fleet) -> None:
    enrolled = await fleet.enrolment.enrol(application(await token_of(fleet), new_key()))

    certificate = x509.load_pem_x509_certificate(enrolled.issued.pem)
    assert certificate_name(enrolled.issued.pem) == Name("east", "host", enrolled.identity_id)
    assert enrolled.issued.expires_at - enrolled.issued.issued_at == timedelta(hours=24) + backdating(
        timedelta(hours=24)
    )
    uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [type(one) for one in names] == [x509.UniformResourceIdentifier]  # no address: nobody dials it as a server
    async with fleet.database.reading() as connection:
        assert not await store_certificates.revoked_among(connection, [enrolled.issued.serial])
        assert await store_certificates.has_key(connection, "host", enrolled.identity_id, enrolled.issued.key_hash)
    tokens = (await fleet.join_tokens.list(PageRequest())).items
    assert [(token.used_at is not None, token.identity_id) for token in tokens] == [(True, enrolled.identity_id)]


async def test_a_regionals_certificate_serves_at_its_addresses_and_a_hosts_at_none(fleet: Fleet) -> None:
    addresses = ["10.0.0.7", "fd00::7", "r1.example"]
    regional = await fleet.enrolment.enrol(
        application(await token_of(fleet, "regional"), new_key(), "r1", addresses=addresses)
    )
    host = await fleet.enrolment.enrol(application(await token_of(fleet), new_key(), addresses=addresses))

    assert _addresses(regional.issued) == {"10.0.0.7", "fd00::7", "r1.example"}
    assert _addresses(host.issued) == set()
    moved = await fleet.enrolment.renew(peer_of(regional), new_key_and_request()[1], ["10.0.0.8"])
    assert _addresses(moved) == {"10.0.0.8"}
    assert _addresses(await fleet.enrolment.renew(peer_of(regional), new_key_and_request()[1], [])) == {"10.0.0.8"}


async def test_only_a_hash_of_the_secret_is_stored(fleet: Fleet) -> None:
    text = await token_of(fleet)

    stored = (await fleet.join_tokens.list(PageRequest())).items[0]

    secret = JoinToken.parse(text).secret
    assert stored.secret_hash == hashlib.sha256(secret).hexdigest()
    assert secret.hex() not in repr(stored)


async def test_a_token_expires_to_the_second_also_for_a_retry(fleet: Fleet, clock: ManualClock) -> None:
    token, key = await token_of(fleet), new_key()
    clock.tick(599)
    await fleet.enrolment.enrol(application(token, key))
    clock.tick(1)

    with pytest.raises(JoinTokenExpired):
        await fleet.enrolment.enrol(application(token, key))


async def test_a_retry_with_the_same_key_is_the_same_identity_and_with_another_is_refused(fleet: Fleet) -> None:
    token, key = await token_of(fleet), new_key()
    first = await fleet.enrolment.enrol(application(token, key))
    again = await fleet.enrolment.enrol(application(token, key, name="other"))

    assert (again.identity_id, again.name) == (first.identity_id, "e1")
    assert again.issued.serial != first.issued.serial
    with pytest.raises(JoinTokenUsed):
        await fleet.enrolment.enrol(application(token, new_key()))


async def test_of_many_who_spend_one_token_at_once_one_gets_in(fleet: Fleet) -> None:
    token = await token_of(fleet)
    tries = [fleet.enrolment.enrol(application(token, new_key(), name=f"e{number}")) for number in range(8)]

    outcomes = await asyncio.gather(*tries, return_exceptions=True)

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Enrolled", *["JoinTokenUsed"] * 7]
    assert (await fleet.members.list("host", PageRequest())).total_count == 1


async def test_of_many_who_wish_for_one_name_at_once_one_gets_it(fleet: Fleet) -> None:
    tries = [fleet.enrolment.enrol(application(await token_of(fleet), new_key())) for _ in range(6)]

    outcomes = await asyncio.gather(*tries, return_exceptions=True)

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Enrolled", *["NameTaken"] * 5]


async def test_a_retry_after_the_removal_of_the_host_is_refused(fleet: Fleet) -> None:
    token, key = await token_of(fleet), new_key()
    await fleet.enrolment.enrol(application(token, key))
    await fleet.members.revoke("host", "east/e1")

    with pytest.raises(Denied):
        await fleet.enrolment.enrol(application(token, key))


async def test_a_name_that_is_taken_is_not_given_to_whoever_wishes_for_it(fleet: Fleet) -> None:
    await fleet.enrolment.enrol(application(await token_of(fleet), new_key()))
    token = await token_of(fleet)

    with pytest.raises(NameTaken):
        await fleet.enrolment.enrol(application(token, new_key()))

    await fleet.enrolment.enrol(application(token, new_key(), name="e2"))


async def test_a_new_token_and_the_old_key_are_the_same_machine(fleet: Fleet) -> None:
    key = new_key()
    first = await fleet.enrolment.enrol(application(await token_of(fleet), key))
    second = await fleet.enrolment.enrol(application(await token_of(fleet), key))

    assert second.identity_id == first.identity_id
    await fleet.presence.may_come_in(peer_of(first))


async def test_a_token_made_for_a_name_replaces_who_had_it(fleet: Fleet) -> None:
    first = await fleet.enrolment.enrol(application(await token_of(fleet), new_key()))
    second = await fleet.enrolment.enrol(application(await token_of(fleet, name="e1"), new_key(), name="wish"))

    assert (second.identity_id, second.name) == (first.identity_id, "e1")
    await fleet.presence.may_come_in(peer_of(second))
    with pytest.raises(IdentityWasRevoked):
        await fleet.presence.may_come_in(peer_of(first))


async def test_the_name_of_a_removed_host_is_free_again_and_its_row_stays(fleet: Fleet) -> None:
    first = await fleet.enrolment.enrol(application(await token_of(fleet), new_key()))
    await fleet.members.revoke("host", "east/e1")
    second = await fleet.enrolment.enrol(application(await token_of(fleet), new_key()))

    assert second.identity_id != first.identity_id
    assert (await fleet.members.get("host", "east/e1")).member.id == second.identity_id
    assert (await fleet.members.get("host", first.identity_id)).state is State.REVOKED
    with pytest.raises(IdentityWasRevoked):
        await fleet.presence.may_come_in(peer_of(first))


@pytest.mark.parametrize(
    ("change", "failure"),
    [
        ({"name": "../../etc/passwd"}, NameInvalid),
        ({"name": ""}, NameInvalid),
        ({"name": "x" * 64}, NameInvalid),
        ({"addresses": ("https://evil.example/",)}, AddressInvalid),
        ({"addresses": ("10.0.0.1",) * 40}, AddressInvalid),
        ({"csr_pem": b"junk"}, RequestInvalid),
        ({"join_token": "LSJOIN-1-short"}, JoinTokenMalformed),
    ],
)
async def test_a_wrong_application_changes_nothing(
    fleet: Fleet, change: dict[str, object], failure: type[Failure]
) -> None:
    token, key = await token_of(fleet), new_key()

    with pytest.raises(failure):
        await fleet.enrolment.enrol(replace(application(token, key), **change))  # type: ignore

    assert (await fleet.members.list("host", PageRequest())).total_count == 0
    await fleet.enrolment.enrol(application(token, key))


def test_requests_with_other_keys_than_p256_or_p384_are_refused() -> None:
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    weak = rsa.generate_private_key(65537, 1024)
    pem = request.sign(weak, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(RequestInvalid, match="another kind"):
        requested_key(pem)
    strong = ec.generate_private_key(ec.SECP384R1())
    assert key_hash(requested_key(request_for(private_key_pem(strong)))) == key_hash(strong.public_key())


async def test_join_tokens_are_checked_when_they_are_made(fleet: Fleet) -> None:
    with pytest.raises(IdcUnknown):
        await fleet.join_tokens.make("host", "nowhere", name=None, life=LIFE, created_by="root")
    with pytest.raises(NameInvalid):
        await token_of(fleet, name="Bad Name")
    for life in (timedelta(0), timedelta(days=8)):
        with pytest.raises(LifeInvalid):
            await token_of(fleet, life=life)


async def test_a_removed_join_token_is_worth_nothing(fleet: Fleet) -> None:
    text = await token_of(fleet)
    await fleet.join_tokens.remove(JoinToken.parse(text).id)

    with pytest.raises(Unauthenticated):
        await fleet.enrolment.enrol(application(text, new_key()))
    with pytest.raises(JoinTokenGone):
        await fleet.join_tokens.remove(JoinToken.parse(text).id)


async def test_a_certificate_of_nobody_known_is_refused_and_a_restored_database_locks_nobody_out(
    fleet: Fleet,
) -> None:
    enrolled = await fleet.enrolment.enrol(application(await token_of(fleet), new_key()))
    known = peer_of(enrolled)

    with pytest.raises(IdentityUnknown):
        await fleet.presence.may_come_in(replace(known, name=replace(known.name, id="nobody")))
    with pytest.raises(IdentityUnknown):
        await fleet.presence.may_come_in(replace(known, name=replace(known.name, idc="west")))
    await fleet.presence.may_come_in(replace(known, serial="renewed since the backup"))


async def test_only_who_exists_and_is_not_revoked_may_read_content(fleet: Fleet) -> None:
    enrolled = await fleet.enrolment.enrol(application(await token_of(fleet), new_key()))

    assert await fleet.members.may_read(f"host/{enrolled.identity_id}")
    assert not await fleet.members.may_read(f"regional/{enrolled.identity_id}")
    assert not await fleet.members.may_read("root/1")
    await fleet.members.revoke("host", enrolled.identity_id)
    await fleet.members.revoke("host", enrolled.identity_id)
    assert not await fleet.members.may_read(f"host/{enrolled.identity_id}")


async def test_idcs_are_unique_well_named_and_removed_only_when_empty(fleet: Fleet) -> None:
    with pytest.raises(IdcExists):
        await fleet.idcs.create("east")
    with pytest.raises(NameInvalid):
        await fleet.idcs.create("East/1")
    await fleet.enrolment.enrol(application(await token_of(fleet), new_key()))
    with pytest.raises(IdcInUse):
        await fleet.idcs.remove("east")
    await fleet.members.revoke("host", "east/e1")
    await fleet.idcs.remove("east")
    with pytest.raises(IdcUnknown):
        await fleet.idcs.get("east")


async def test_every_replica_opens_the_same_authority(
    fleet: Fleet, open_replica: Callable[[], Database], clock: ManualClock
) -> None:
    other = await open_authority(open_replica(), sealer(), clock, timedelta(hours=1))

    assert other.ca_hash == fleet.authority.ca_hash
    stranger = SealedBox(KeyRing({b"87654321": bytes(32)}))
    with pytest.raises(SealBroken):
        await open_authority(open_replica(), stranger, clock, timedelta(hours=1))


async def test_an_authority_whose_key_does_not_match_is_not_used(
    fleet: Fleet, database: Database, clock: ManualClock
) -> None:
    class WrongKey:
        def seal(self, plaintext: bytes, identity: str) -> bytes:
            return plaintext

        def open(self, sealed: bytes, identity: str) -> bytes:
            return new_key()

    with pytest.raises(AuthorityBroken):
        await open_authority(database, WrongKey(), clock, timedelta(hours=1))


async def test_the_listeners_certificate_is_renewed_at_half_of_its_life(fleet: Fleet, clock: ManualClock) -> None:
    shown = ServerCertificates(fleet.authority, server_names(["0.0.0.0", "10.0.0.1"], ["plane.example"]))
    first = shown()
    clock.tick(timedelta(days=44).total_seconds())
    assert shown() == first
    clock.tick(timedelta(days=2).total_seconds())
    second = shown()

    assert second.certificate_pem != first.certificate_pem
    certificate = x509.load_pem_x509_certificate(first.certificate_pem)
    assert _names(certificate) == {"plane.example", "10.0.0.1", "localhost", "127.0.0.1", "::1"}


async def test_old_certificates_are_forgotten_when_a_new_one_is_issued(fleet: Fleet, clock: ManualClock) -> None:
    enrolled = await fleet.enrolment.enrol(application(await token_of(fleet), new_key()))
    clock.tick(timedelta(days=30).total_seconds())
    await fleet.enrolment.renew(peer_of(enrolled), new_key_and_request()[1], [])

    async with fleet.database.reading() as connection:
        assert not await store_certificates.has_key(connection, "host", enrolled.identity_id, enrolled.issued.key_hash)
        assert await store_members.find_member(connection, "host", enrolled.identity_id) is not None


def _addresses(issued: Issued) -> set[str]:
    return _names(x509.load_pem_x509_certificate(issued.pem))


def _names(certificate: x509.Certificate) -> set[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(ip) for ip in names.get_values_for_type(x509.IPAddress)} | set(names.get_values_for_type(x509.DNSName))
