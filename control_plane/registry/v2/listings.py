"""Lists of tags and of repositories, in pages that continue after `last` (distribution specification, "Listing tags").

A page is bounded whatever `n` says (CVE-2023-2253: a huge `n` made distribution allocate for it).
"""

from __future__ import annotations

from urllib.parse import urlencode

from common.errors import Unauthenticated
from control_plane.registry.failures import PageInvalid
from control_plane.registry.service import RegistryService
from control_plane.registry.v2.exchange import Exchange
from control_plane.registry.v2.paths import PREFIX
from control_plane.tenants.access import Principal

MAX_PAGE = 1000


class ListingEndpoints:
    def __init__(self, registry: RegistryService) -> None:
        self._registry = registry

    async def base(self, exchange: Exchange, principal: Principal) -> None:
        """`/v2/` tells clients that this is a registry, and whether their credentials are good."""
        if principal.anonymous and principal.scopes is None:
            raise Unauthenticated("this needs a login", action="log in, for example with `docker login`")
        await exchange.answer_json({})

    async def tags(self, exchange: Exchange, principal: Principal) -> None:
        repository = exchange.target.repository
        limit, after = page_asked(exchange)
        names = await self._registry.images.tag_names(principal, repository, after, limit + 1)
        headers = _next(f"{PREFIX}{repository}/tags/list", names, limit)
        await exchange.answer_json({"name": repository, "tags": names[:limit]}, headers)

    async def catalogue(self, exchange: Exchange, principal: Principal) -> None:
        if principal.anonymous:
            raise Unauthenticated("this needs a login", action="log in, for example with `docker login`")
        limit, after = page_asked(exchange)
        names = await self._registry.catalogue(principal, after, limit + 1)
        await exchange.answer_json({"repositories": names[:limit]}, _next(f"{PREFIX}_catalog", names, limit))


def page_asked(exchange: Exchange) -> tuple[int, str]:
    """`n`, at most `MAX_PAGE`, and `last`. Raises `PageInvalid`."""
    text = exchange.query.get("n")
    # PostgreSQL takes no NUL. No name holds one, so that those after "a\0b" are those after "a".
    last = exchange.query.get("last", "").partition("\0")[0]
    if text is None:
        return MAX_PAGE, last
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise PageInvalid(f"n={text[:40]!r} is not a number of entries", action=f"use 0 to {MAX_PAGE}")
    return min(int(text), MAX_PAGE), last


def _next(path: str, names: list[str], limit: int) -> dict[str, str]:
    if limit == 0 or len(names) <= limit:
        return {}
    return {"Link": f'<{path}?{urlencode({"last": names[limit - 1], "n": limit})}>; rel="next"'}
