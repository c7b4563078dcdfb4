"""Certificates of a process: asked for once, kept, renewed in time, and put away when they are over."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from common.bittorrent import Torrent, TorrentHandle
from common.bittorrent.credential_book import CredentialBook
from common.bittorrent.credential_keeper import CredentialKeeper, NoCredentials
from common.bittorrent.credentials import CredentialsInvalid, PeerCertificate
from common.bittorrent.memory import MemorySwarm
from common.bittorrent.metainfo import Metainfo
from common.clock import ManualClock
from common.errors import Unavailable
from control_plane.fleet.certificates import requested_key
from tests.conformance.peer_certificates import HOUR, authority
from tests.conformance.peer_network import PIECE, content, metainfo_of, piece

LIFE = 12 * HOUR
TENANT = "t/1"


class Signer:
    """Stands in for the way to the control plane. `away`: it does not answer; `fails`: it says no."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.tenant = authority(clock.now())
        self.asked: list[str] = []
        self.away = self.fails = False
        self.further: tuple[str, ...] = ()

    async def sign(self, book: CredentialBook, metainfo: Metainfo) -> bytes:
        self.asked.append(metainfo.name)
        await asyncio.sleep(0)
        if self.away:
            await asyncio.get_running_loop().create_future()
        if self.fails:
            raise Unavailable("the centre is away")
        now = self.clock.now()
        return self.tenant.sign([metainfo.name, *self.further], requested_key(book.request()), now, now + LIFE)


class Process:
    def __init__(self, signer: Signer, directory: Path) -> None:
        self.signer = signer
        self.book = CredentialBook(directory, signer.clock)
        self.keeper = CredentialKeeper(
            self.book, lambda _, metainfo: signer.sign(self.book, metainfo), signer.clock, lambda: 0.5
        )


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def signer(clock: ManualClock) -> Signer:
    return Signer(clock)


@pytest.fixture
async def process(signer: Signer, tmp_path: Path) -> Process:
    process = Process(signer, tmp_path / "credentials")
    await process.book.load()
    return process


@pytest.fixture
def metainfo(signer: Signer) -> Metainfo:
    return metainfo_of(content(), authority_pem=signer.tenant.pem)


async def test_a_certificate_is_asked_for_once_and_kept_over_restarts(
    process: Process, signer: Signer, metainfo: Metainfo, tmp_path: Path
) -> None:
    first = await process.keeper.obtain(TENANT, metainfo)
    assert await process.keeper.obtain(TENANT, metainfo) == first
    later = Process(signer, tmp_path / "credentials")
    await later.book.load()
    signer.fails = True
    assert await later.keeper.obtain(TENANT, metainfo) == first
    assert signer.asked == [metainfo.name]
    assert (tmp_path / "credentials" / "key.pem").stat().st_mode & 0o777 == 0o600
    with pytest.raises(NoCredentials):
        await later.keeper.obtain("another tenant", metainfo)


async def test_contents_that_are_joined_together_cost_one_question(process: Process, signer: Signer) -> None:
    swarms = [metainfo_of(bytes([number]) * PIECE, authority_pem=signer.tenant.pem) for number in range(40)]
    signer.further = tuple(one.name for one in swarms)
    shown = await asyncio.gather(*(process.keeper.obtain(TENANT, one) for one in swarms))
    assert len(set(shown)) == len(signer.asked) == 1


async def test_plain_swarms_need_none(process: Process, signer: Signer) -> None:
    assert await process.keeper.obtain(TENANT, metainfo_of(content())) is None
    assert signer.asked == []


async def test_when_nobody_signs_the_others_wait_no_more(process: Process, signer: Signer, metainfo: Metainfo) -> None:
    signer.fails = True
    for _ in range(3):
        with pytest.raises(NoCredentials, match="the centre is away"):
            await process.keeper.obtain(TENANT, metainfo)
    assert len(signer.asked) == 1
    signer.fails = False
    process.keeper.retry_now()
    assert await process.keeper.obtain(TENANT, metainfo)


async def test_a_signer_that_does_not_answer_is_given_up(
    process: Process, signer: Signer, metainfo: Metainfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.bittorrent.credential_keeper._ASK_SECONDS", 0.05)
    signer.away = True
    with pytest.raises(NoCredentials):
        await process.keeper.obtain(TENANT, metainfo)


async def test_what_is_not_for_our_key_or_not_for_the_swarm_is_not_used(
    process: Process, signer: Signer, metainfo: Metainfo, tmp_path: Path
) -> None:
    other = Process(signer, tmp_path / "other")
    await other.book.load()
    with pytest.raises(CredentialsInvalid):
        await process.book.keep(TENANT, await signer.sign(other.book, metainfo))
    stranger = Signer(signer.clock)
    await process.book.keep(TENANT, await stranger.sign(process.book, metainfo))
    assert process.book.find(TENANT, metainfo) is None
    (tmp_path / "credentials" / "t%2F1@1.crt").write_bytes(b"torn")
    await process.book.load()
    assert not (tmp_path / "credentials" / "t%2F1@1.crt").exists()


def _fill(place: Path, metainfo: Metainfo, held: int) -> None:
    place.mkdir()
    (place / metainfo.name).write_bytes(content()[: held * PIECE])


async def seeding(swarm: MemorySwarm, process: Process, metainfo: Metainfo, place: Path, held: int) -> TorrentHandle:
    _fill(place, metainfo, held)
    shown = await process.keeper.obtain(TENANT, metainfo)
    have = frozenset(range(held))
    return await swarm.session().add(Torrent(metainfo, place, have=have, trackers=["tracker"], credentials=shown))


async def test_it_is_renewed_before_it_ends_and_peers_go_on(
    process: Process, signer: Signer, metainfo: Metainfo, clock: ManualClock, tmp_path: Path
) -> None:
    handle = await seeding(MemorySwarm(clock), process, metainfo, tmp_path / "seed", 1)
    first = handle.credentials
    assert first is not None
    certificate = PeerCertificate.read(first.certificate_pem)
    life = certificate.ends_at - certificate.begins_at  # it began before it was made, for clocks that are late
    while handle.credentials == first:
        clock.tick(600)
        await process.keeper.round(lambda: [(TENANT, handle)])
    assert life * 0.18 < certificate.ends_at - clock.now() < life * 0.51
    assert len(signer.asked) == 2


async def test_one_that_cannot_be_renewed_leaves_the_swarm_and_comes_back(
    process: Process, signer: Signer, metainfo: Metainfo, clock: ManualClock, tmp_path: Path
) -> None:
    swarm, other = MemorySwarm(clock), Process(signer, tmp_path / "other")
    await other.book.load()
    seeder = await seeding(swarm, other, metainfo, tmp_path / "seed", 1)
    leecher = await seeding(swarm, process, metainfo, tmp_path / "leech", 0)
    await asyncio.sleep(0.01)
    assert leecher.status().held_bytes == PIECE
    members = [(TENANT, leecher)]
    signer.fails = True
    clock.tick((LIFE + timedelta(seconds=1)).total_seconds())
    await process.keeper.round(lambda: members)
    assert leecher.credentials is None
    # The other one went on by another way: what it has now does not reach us.
    signer.fails = False
    await other.keeper.round(lambda: [(TENANT, seeder)])
    await seeder.add_piece(1, piece(metainfo, content(), 1))
    await asyncio.sleep(0.01)
    assert leecher.status().held_bytes == PIECE
    clock.tick(60)
    await process.keeper.round(lambda: members)
    await asyncio.sleep(0.01)
    assert leecher.status().held_bytes == 2 * PIECE


async def test_connections_are_ended_every_hour_so_that_none_outlives_a_right_for_long(
    process: Process, signer: Signer, metainfo: Metainfo, clock: ManualClock, tmp_path: Path
) -> None:
    swarm, revoked = MemorySwarm(clock), Process(signer, tmp_path / "other")
    await revoked.book.load()
    leecher = await seeding(swarm, revoked, metainfo, tmp_path / "leech", 0)
    seeder = await seeding(swarm, process, metainfo, tmp_path / "seed", 1)
    await process.keeper.round(lambda: [(TENANT, seeder)])
    await asyncio.sleep(0.01)
    assert leecher.status().peers == 1
    gone_at = None
    begun_at = clock.now()
    while gone_at is None and clock.now() < begun_at + 2 * LIFE:
        clock.tick(300)
        await process.keeper.round(lambda: [(TENANT, seeder)])
        gone_at = clock.now() if leecher.status().peers == 0 else None
    assert gone_at is not None
    assert LIFE <= gone_at - begun_at <= LIFE + HOUR
