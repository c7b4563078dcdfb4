"""What every implementation of the port refuses before it does anything, and how it names a failing disk."""

from __future__ import annotations

import errno
from pathlib import Path

from common.bittorrent import Torrent
from common.bittorrent.credentials import Credentials, CredentialsInvalid, PeerCertificate, check_pair
from common.bittorrent.failures import AddressInvalid, ContentMissing, DiskFailed, DiskFull, TransportForeign
from common.bittorrent.metainfo import Metainfo

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def check_file(torrent: Torrent, have: frozenset[int]) -> None:
    """Raises `ContentMissing` if the file cannot hold what the caller says, else holes would be served.

    Blocking: call it in a thread.
    """
    metainfo, path = torrent.metainfo, torrent.directory / torrent.metainfo.name
    if not torrent.directory.is_dir():
        raise ContentMissing(f"the folder {torrent.directory} does not exist")
    if any(not 0 <= index < metainfo.piece_count for index in have):
        raise ContentMissing(f"{metainfo.name} has no more than {metainfo.piece_count} pieces")
    last = max(have, default=-1)
    needed = last * metainfo.piece_length + metainfo.piece_size(last) if have else 0
    size = _size(path)
    if not needed <= size <= metainfo.length:
        raise ContentMissing(
            f"{path} has {size} bytes, where {needed} to {metainfo.length} are needed",
            action="verify the file again, or remove it and start empty",
        )


def check_credentials(metainfo: Metainfo, credentials: Credentials | None) -> PeerCertificate | None:
    """What the certificate says. Raises `CredentialsInvalid` for a pair that does not fit, or that nobody asks for."""
    if credentials is None:
        return None
    if not metainfo.authority_pem:
        raise CredentialsInvalid(f"the swarm of {metainfo.name} has no authority", action="join it without credentials")
    return check_pair(credentials)


def check_transport(metainfo: Metainfo, *, tls: bool) -> None:
    """Raises `TransportForeign` unless the swarm speaks as the session does."""
    if bool(metainfo.authority_pem) != tls:
        raise TransportForeign(
            f"the swarm of {metainfo.name} speaks {'plainly' if tls else 'TLS'}, this peer does not",
            action="set swarm.tls of the control plane and swarm_tls of agents and regionals alike",
        )


def check_port(port: int) -> None:
    if not 0 < port < 65536:
        raise AddressInvalid(f"{port} is no port of a peer")


def disk_failure(metainfo: Metainfo, number: int, message: str) -> DiskFull | DiskFailed:
    """`number`: the errno; a spent quota is a full disk."""
    if number in _FULL:
        return DiskFull(
            f"no space is left for {metainfo.name}",
            action="free some, then go on",
            retry_after_seconds=10.0,
            name=metainfo.name,
        )
    return DiskFailed(f"the file of {metainfo.name} failed: {message}", name=metainfo.name, errno=number)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
