"""Which upstream has which path, and what may be kept how long; pure.

Invariant: the address that is asked is the configured one plus the names of the path: nothing that a client says
reaches its scheme, its host or its query.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from common.errors import Invalid, TooLarge, Unavailable

_SUFFIXES = (".deb", ".udeb", ".ddeb", ".dsc", ".gz", ".xz", ".bz2", ".zst", ".asc")
_RPM = (".rpm", ".drpm")
# createrepo names an index by the hash of its content.
_NAMED_BY_HASH = re.compile(r"[0-9a-f]{32,128}-[^/]+", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


class MirrorInvalid(Invalid):
    code = "mirror_invalid"


class UpstreamAway(Unavailable):
    code = "mirror_upstream_away"


class UpstreamRefuses(Unavailable):
    """It answered, with something that cannot be passed on."""

    code = "mirror_upstream_refuses"


class MirrorFull(TooLarge):
    code = "mirror_file_too_large"


class NotStored(Unavailable):
    """It came, and our disk could not take it."""

    code = "mirror_not_stored"


@dataclass(frozen=True, slots=True)
class Upstream:
    """`names`: the path below `/repos/`; `url` without a slash at its end."""

    names: tuple[str, ...]
    url: str

    def url_of(self, names: Sequence[str]) -> str:
        """Of a path below `/repos/` that begins with ours."""
        rest = names[len(self.names) :]
        return "/".join((self.url, *(quote(name, safe="~", errors="surrogateescape") for name in rest)))


def parse(text: str) -> tuple[Upstream, ...]:
    """`NAME=URL`, several separated by commas or spaces; longest names first. Raises `MirrorInvalid`."""
    found: dict[tuple[str, ...], Upstream] = {}
    for word in text.replace(",", " ").split():
        path, _, url = word.partition("=")
        names = tuple(name for name in path.split("/") if name)
        if not names or not all(_NAME.fullmatch(name) for name in names):
            raise MirrorInvalid(f"{path[:80]!r} is no path below /repos/", action="write debian/12=http://host/debian")
        if names in found:
            raise MirrorInvalid(f"/repos/{path[:80]} has two upstreams", action="name each path once")
        found[names] = Upstream(names, _checked(url))
    return tuple(sorted(found.values(), key=lambda upstream: -len(upstream.names)))


def _checked(url: str) -> str:
    parts = urlsplit(url)
    try:
        wrong = parts.port == 0
    except ValueError:
        wrong = True
    if wrong or parts.scheme not in ("http", "https") or not parts.hostname:
        raise MirrorInvalid(f"{url[:80]!r} is not an http:// or https:// URL", action="write http://host/path")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise MirrorInvalid(
            "the URL of a mirror carries a login, a query or a fragment", action="write http://host/path, nothing more"
        )
    return url.rstrip("/")


def upstream_of(upstreams: Sequence[Upstream], names: tuple[str, ...]) -> Upstream | None:
    """The one that a file belongs to; a directory has none, as there is nothing there to list."""
    return next(
        (each for each in upstreams if len(names) > len(each.names) and names[: len(each.names)] == each.names), None
    )


def immutable(names: Sequence[str]) -> bool:
    """Whether a repository never puts other bytes under this name: packages and what is named by its hash."""
    last = names[-1]
    if last.endswith(_RPM) or "by-hash" in names[:-1]:
        return True
    if "pool" in names[:-1] and last.endswith(_SUFFIXES):
        return True
    return "repodata" in names[:-1] and _NAMED_BY_HASH.fullmatch(last) is not None
