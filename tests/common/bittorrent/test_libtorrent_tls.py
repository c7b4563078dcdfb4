"""What the TLS listener of libtorrent says to those who do not belong there, on the wire."""

from __future__ import annotations

import asyncio
import base64
import ssl
from decimal import Decimal, localcontext
from pathlib import Path

import pytest

from common.bittorrent import Torrent
from common.bittorrent.credentials import Credentials
from common.bittorrent.failures import TransportForeign
from common.bittorrent.libtorrent_tls import DH_PARAMETERS_PEM
from common.bittorrent.metainfo import Metainfo
from tests.conformance.peer_certificates import HOUR, authority, credentials
from tests.conformance.peer_network import content, metainfo_of

pytestmark = pytest.mark.timeout(60)
SECONDS = 5.0


def handshake(metainfo: Metainfo) -> bytes:
    """BEP 3, for the first 20 bytes of a v2 info-hash, with the bit of BEP 52."""
    return b"\x13BitTorrent protocol" + bytes(7) + b"\x10" + metainfo.info_hash[:20] + b"-XX0000-" + bytes(12)


def outsider(shown: Credentials | None, scratch: Path) -> ssl.SSLContext:
    """A client that believes everybody."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if shown is not None:
        path = scratch / "shown.pem"
        path.write_bytes(shown.key_pem + shown.certificate_pem)
        context.load_cert_chain(path)
    return context


async def answer(port: int, metainfo: Metainfo, tls: ssl.SSLContext | None, name: str | None) -> bytes:
    """What comes back for a handshake; empty if the other side hangs up."""
    try:
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=name)
            writer.write(handshake(metainfo))
            got = await reader.read(68)
            writer.transport.abort()
            return got
    except (ssl.SSLError, ConnectionError):
        return b""


async def test_only_the_right_certificate_is_answered(libtorrent_lab, tmp_path):
    ours, theirs, data = authority(), authority(), content()
    metainfo = metainfo_of(data, authority_pem=ours.pem)
    (tmp_path / metainfo.name).write_bytes(data)
    session = await libtorrent_lab.session(tls=True)
    good = credentials(ours, [metainfo.name])
    seeder = await session.add(Torrent(metainfo, tmp_path, seed=True, credentials=good))
    swarm_name = metainfo.info_hash[:20].hex()
    refused = {
        "none": (None, swarm_name),
        "another name": (credentials(ours, ["another"]), swarm_name),
        "a beginning": (credentials(ours, [metainfo.name[:20]]), swarm_name),
        "a longer one": (credentials(ours, [metainfo.name + "0"]), swarm_name),
        "a common name": (credentials(ours, []), swarm_name),
        "another authority": (credentials(theirs, [metainfo.name]), swarm_name),
        "expired": (credentials(ours, [metainfo.name], life=-HOUR), swarm_name),
        "a swarm that is not there": (good, bytes(20).hex()),
        "no swarm": (good, "localhost"),
    }
    for why, (shown, name) in refused.items():
        assert await answer(session.listen_port, metainfo, outsider(shown, tmp_path), name) == b"", why
    assert (await answer(session.listen_port, metainfo, None, None))[:1] == b"\x15", "a plain peer gets TLS's alert"
    assert seeder.status().sent_bytes == 0
    assert (await answer(session.listen_port, metainfo, outsider(good, tmp_path), swarm_name))[28:48] == (
        metainfo.info_hash[:20]
    )


async def test_a_session_takes_swarms_of_its_own_kind_alone(libtorrent_lab, tmp_path):
    data = content()
    plain, secret = metainfo_of(data), metainfo_of(data, authority_pem=authority().pem)
    for tls, foreign in ((True, plain), (False, secret)):
        session = await libtorrent_lab.session(tls=tls)
        with pytest.raises(TransportForeign):
            await session.add(Torrent(foreign, tmp_path))


def test_the_diffie_hellman_group_is_ffdhe2048():
    with localcontext(prec=800):
        e = int(Decimal(2) ** 1918 * Decimal(1).exp())
    prime = 2**2048 - 2**1984 + (e + 560316) * 2**64 - 1  # RFC 7919 appendix A.1
    der = base64.b64decode("".join(DH_PARAMETERS_PEM.splitlines()[1:-1]))
    assert der == bytes.fromhex("3082010802820101" + "00") + prime.to_bytes(256) + bytes.fromhex("020102")
