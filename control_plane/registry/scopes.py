"""The scope grammar of the Docker token specification (docs/content/spec/auth/scope.md of distribution); pure.

    resourcescope := resourcetype [ "(" class ")" ] ":" resourcename ":" action *[ "," action ]

A resource name may itself contain one colon (a host's port), so it is split at the first and the last colon only. The
class is deprecated and ignored. Scopes that mean nothing to us are dropped, as the specification allows: a token for
less than was asked is a valid answer.

One type is our own: `blob:sha256-<hex>:pull` asks for any repository that holds the blob and that the user may pull
from. A mount that names no source needs it: who asks before the login cannot be told where the blob is. (A hyphen,
because there are clients that split a scope at every colon.)
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable

from common.digest import Digest, DigestInvalid
from common.reference import NameInvalid, check_repository_name
from control_plane.tenants.access import RepositoryScope

MAX_SCOPES = 32
PULL, PUSH, DELETE = "pull", "push", "delete"
ACTIONS = frozenset({PULL, PUSH, DELETE})
# `registry:catalog:*` has no repository; no repository can be named "*".
CATALOG = RepositoryScope("*", frozenset({"catalog"}))
_TYPE = re.compile(r"([a-z0-9]+)(?:\([a-z0-9]*\))?")


def parse_scopes(texts: Iterable[str]) -> tuple[RepositoryScope, ...]:
    """`texts` are the values of the `scope` parameters; each may hold several scopes separated by spaces."""
    merged: dict[str, frozenset[str]] = {}
    for text in " ".join(texts).split()[:MAX_SCOPES]:
        scope = _parse(text)
        if scope is not None:
            merged[scope.repository] = merged.get(scope.repository, frozenset()) | scope.actions
    return tuple(RepositoryScope(name, actions) for name, actions in merged.items())


def _parse(text: str) -> RepositoryScope | None:
    kind, first, rest = text.partition(":")
    name, last, actions = rest.rpartition(":")
    matched = _TYPE.fullmatch(kind)
    if not first or not last or matched is None:
        return None
    if (matched[1], name) == ("registry", "catalog"):
        return CATALOG
    if matched[1] != "repository":
        return None
    try:
        check_repository_name(name)
    except NameInvalid:
        return None
    asked = frozenset(actions.split(","))
    return RepositoryScope(name, ACTIONS if "*" in asked else asked & ACTIONS)


def parse_blobs(texts: Iterable[str]) -> tuple[Digest, ...]:
    """What the scopes of type `blob` name; `texts` as for `parse_scopes`."""
    found: dict[Digest, None] = {}
    for text in " ".join(texts).split()[:MAX_SCOPES]:
        kind, _, rest = text.partition(":")
        name, _, actions = rest.rpartition(":")
        if kind == "blob" and actions == PULL:
            with contextlib.suppress(DigestInvalid):
                found[Digest.parse(name.replace("-", ":", 1))] = None
    return tuple(found)


def show_blob(digest: Digest) -> str:
    return f"blob:{digest.algorithm}-{digest.hex}:{PULL}"


def show_scopes(scopes: Iterable[RepositoryScope]) -> str:
    """As a challenge or an OAuth2 answer writes them."""
    return " ".join(
        "registry:catalog:*" if scope == CATALOG else f"repository:{scope.repository}:{_show(scope.actions)}"
        for scope in scopes
    )


def _show(actions: frozenset[str]) -> str:
    return ",".join(action for action in (PULL, PUSH, DELETE) if action in actions)
