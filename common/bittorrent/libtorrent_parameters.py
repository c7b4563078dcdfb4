"""From a `Torrent` to what libtorrent takes, and from what libtorrent tells of a peer to a `Connection`.

Here sit libtorrent's quirks with v2 torrents of one file, each found by measuring 2.1.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import libtorrent as lt

from common.bittorrent import REGIONAL_FINGERPRINT, Torrent
from common.bittorrent.provenance import Connection, Kind


def parameters(torrent: Torrent, have: frozenset[int]) -> Any:
    """Parses the metainfo: call it in a thread.

    Without `no_verify_files` libtorrent would hash a file that it finds; with it, `have_pieces` is believed as it is.
    `seed_mode` is not used, because it hashes every piece once more when it is first asked for.
    """
    metainfo = torrent.metainfo
    wanted = lt.load_torrent_buffer(metainfo.encoded)
    wanted.save_path = str(torrent.directory)
    flags = lt.torrent_flags
    # Without `apply_ip_filter` a torrent lets banned addresses in. Neither paused nor managed: it begins at once.
    wanted.flags = flags.update_subscribe | flags.no_verify_files | flags.duplicate_is_error | flags.apply_ip_filter
    wanted.flags |= flags.disable_dht | flags.disable_lsd | flags.disable_pex
    if metainfo.authority_pem:
        wanted.flags |= flags.paused  # until it has its certificate
    if torrent.upload_only:
        wanted.flags |= flags.upload_mode
    if have:
        wanted.have_pieces = [index in have for index in range(metainfo.piece_count)]
    wanted.trackers = list(torrent.trackers)
    wanted.tracker_tiers = [0] * len(torrent.trackers)
    return wanted


def announce_list(urls: Sequence[str]) -> list[dict[str, str | int]]:
    return [{"url": url, "tier": 0} for url in urls]


def connections(peers: Sequence[Any]) -> list[Connection]:
    return [
        Connection(
            key=(*peer.ip, peer.pid.to_bytes()),
            kind=_kind(peer.pid.to_bytes()),
            received_bytes=peer.total_download,
        )
        for peer in peers
    ]


def departed_kind(peer_id: bytes) -> Kind | None:
    """No peer id (zeros) means that the handshake did not come to its end."""
    return _kind(peer_id) if any(peer_id) else None


def _kind(peer_id: bytes) -> Kind:
    return Kind.REGIONAL if peer_id.startswith(REGIONAL_FINGERPRINT) else Kind.AGENT
