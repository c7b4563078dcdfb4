"""How other registries fail us. Each says which registry it was, and what to do."""

from __future__ import annotations

from common.errors import Denied, Invalid, NotFound, RateLimited, Unavailable


class RemoteDenied(Denied):
    """The registry does not let us, or does not know our credentials."""

    code = "remote_denied"


class RemoteMissing(NotFound):
    """The registry has no such repository, manifest or blob (or none that we may see)."""

    code = "remote_missing"


class RemoteBusy(RateLimited):
    """The registry says that we ask too often."""

    code = "remote_busy"


class RemoteAway(Unavailable):
    """The registry fails, or breaks off again and again."""

    code = "remote_away"


class RemoteRejected(Invalid):
    """The registry refuses what we sent."""

    code = "remote_rejected"


class RemoteUntrue(Unavailable):
    """The registry sent what its own words or the digest contradict. None of it is used."""

    code = "remote_untrue"
