"""How a mirror refuses, and how it says that its upstream does."""

from __future__ import annotations

from common.errors import Conflict, Denied, Invalid, NotFound, Unavailable


class UpstreamInvalid(Invalid):
    """What was given as the upstream names no registry."""

    code = "upstream_invalid"


class MirrorUnknown(NotFound):
    code = "mirror_unknown"


class MirrorExists(Conflict):
    """The name, or one above or beneath it, is in use."""

    code = "mirror_exists"


class PushToMirror(Denied):
    """What the repository holds comes from its upstream only."""

    code = "push_to_mirror"


class UpstreamAway(Unavailable):
    """The upstream does not answer, fails, or wants us to wait; and nothing is here to serve instead."""

    code = "upstream_away"


class UpstreamDenies(Unavailable):
    """The upstream does not let the mirror in. Whoever pulls cannot mend it; the tenant's administrator can."""

    code = "upstream_denies"


class UpstreamUntrue(Unavailable):
    """What the upstream sent is not what it was asked for, or nothing that is stored here. None of it is kept."""

    code = "upstream_untrue"
