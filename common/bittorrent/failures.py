"""What can go wrong with a torrent, as its callers see it."""

from __future__ import annotations

from common.errors import Conflict, Invalid, Stale, Unavailable


class TorrentKnown(Conflict):
    """The session has this torrent already."""

    code = "torrent_known"


class ContentMissing(Invalid):
    """The file is not what the caller said it is; nothing was added."""

    code = "content_missing"


class PieceRejected(Invalid):
    """The bytes are not that piece; nothing was announced."""

    code = "piece_rejected"


class TransportForeign(Invalid):
    """The swarm speaks TLS and this session does not, or the reverse."""

    code = "transport_foreign"


class AddressInvalid(Invalid):
    """A peer that cannot be asked."""

    code = "address_invalid"


class TorrentRemoved(Stale):
    code = "torrent_removed"


class SessionClosed(Unavailable):
    code = "session_closed"


class ListenFailed(Unavailable):
    code = "listen_failed"


class DiskFull(Unavailable):
    """What was verified and written stays; `complete()` called again goes on from there."""

    code = "disk_full"


class DiskFailed(Unavailable):
    """The file cannot be read or written; `complete()` called again tries once more."""

    code = "disk_failed"
