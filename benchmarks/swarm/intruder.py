"""`python -m benchmarks.swarm.intruder`: try to get a blob from its swarm, with several certificates in turn.

Standard input: a JSON object (see outsider.py). Standard output: the bytes that each try received, as JSON. Tries are
fresh sessions with fresh folders; they dial the peers themselves again and again.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from common.bittorrent import AGENT_FINGERPRINT, Torrent, TorrentStatus
from common.bittorrent import metainfo as torrents
from common.bittorrent.credentials import Credentials
from common.bittorrent.libtorrent import LibtorrentSession
from common.bittorrent.metainfo import Metainfo
from common.errors import Failure

_DIAL_SECONDS = 0.5


def main() -> None:
    task: dict[str, Any] = json.loads(sys.stdin.read())
    metainfo = torrents.parse(Path(task["metainfo"]).read_bytes())
    tries = {
        "no certificate": None,
        "another authority": another_authority(metainfo.name),
        "another blob's": _from_disk(task["wrong name"]),
        "right": _from_disk(task["right"]),
    }
    got = {}
    for number, (name, credentials) in enumerate(tries.items()):
        folder = Path(task["folder"]) / str(number)
        folder.mkdir(parents=True)
        got[name] = asyncio.run(_try(task, metainfo, credentials, folder))
    print(json.dumps(got))


async def _try(task: dict[str, Any], metainfo: Metainfo, credentials: Credentials | None, folder: Path) -> int:
    async with LibtorrentSession(task["address"], 0, AGENT_FINGERPRINT, tls=True) as session:
        handle = await session.add(Torrent(metainfo, folder, credentials=credentials))
        for _ in range(int(task["seconds"] / _DIAL_SECONDS)):
            for host, port in task["peers"]:
                try:
                    await handle.connect_peer(host, port)
                except Failure as failure:
                    print(failure, file=sys.stderr)
            await asyncio.sleep(_DIAL_SECONDS)
            if handle.status().complete:
                break
        return _received(handle.status())


def _received(status: TorrentStatus) -> int:
    return max(status.held_bytes, status.from_agents_bytes + status.from_regionals_bytes)


def _from_disk(paths: dict[str, str]) -> Credentials:
    return Credentials(Path(paths["certificate"]).read_bytes(), Path(paths["key"]).read_bytes())


def another_authority(name: str) -> Credentials:
    """A certificate for that name, by an authority of our own."""
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)  # noqa: TID251  a certificate's life is told in the machine's time
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "another authority")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=True)
        .sign(authority, hashes.SHA256())
    )
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Credentials(certificate.public_bytes(Encoding.PEM), key_pem)


if __name__ == "__main__":
    main()
