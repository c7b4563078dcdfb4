"""`WWW-Authenticate` of a registry (RFC 9110 section 11.6.1; distribution: docs/content/spec/auth/token.md), and
whether the token service that it names may see our credentials; pure.

A registry that is not honest, or an answer that somebody forged, could name any address as its `realm` and be sent the
password. So the realm must be on the registry's own host, be one of the pairs that everybody knows, or be named by
whoever gave us the credentials. It is asked by https unless it is the registry's own origin.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

# Public registries whose token service is on another host.
_KNOWN_PAIRS: Mapping[str, frozenset[str]] = {
    "registry-1.docker.io": frozenset({"auth.docker.io"}),
    "registry.gitlab.com": frozenset({"gitlab.com"}),
}
_MAX_LENGTH = 8192
_SCHEME = re.compile(r"[\s,]*([A-Za-z]+)(?:\s+|$)")
_PARAMETER = re.compile(r'[\s,]*([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


@dataclass(frozen=True, slots=True)
class Challenge:
    """`scheme` is lower-case, as are the names of the parameters."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(values: Iterable[str]) -> tuple[Challenge, ...]:
    """All that the headers hold; what is malformed ends the header it stands in."""
    return tuple(found for value in values for found in _parse(value[:_MAX_LENGTH]))


def _parse(value: str) -> list[Challenge]:
    found: list[Challenge] = []
    at = 0
    while at < len(value) and (scheme := _SCHEME.match(value, at)) is not None:
        at, parameters = scheme.end(), {}
        while (parameter := _PARAMETER.match(value, at)) is not None:
            quoted, bare = parameter[2], parameter[3]
            parameters[parameter[1].lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare
            at = parameter.end()
        found.append(Challenge(scheme[1].lower(), parameters))
    return found


def trusted_realm(realm: str, registry_url: str, auth_hosts: Iterable[str] = ()) -> bool:
    """Whether the token service belongs to the registry."""
    try:
        there, here = urlsplit(realm), urlsplit(registry_url)
        hosts = there.hostname, here.hostname
        same_origin = _origin(there) == _origin(here)
    except ValueError:
        return False
    if None in hosts or "@" in there.netloc or there.scheme not in ("http", "https"):
        return False
    if same_origin:
        return True
    if there.scheme != "https":
        return False
    return hosts[0] == hosts[1] or hosts[0] in {*_KNOWN_PAIRS.get(hosts[1] or "", ()), *map(str.lower, auth_hosts)}


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
