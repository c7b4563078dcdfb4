"""The referrers API over HTTP (distribution specification, "Listing Referrers"): an image index of descriptors."""

from __future__ import annotations

import json
from urllib.parse import urlencode

from common.digest import Digest
from control_plane.registry.manifests import OCI_INDEX
from control_plane.registry.referrer_store import Referrer
from control_plane.registry.referrers import ReferrerPage, ReferrerService
from control_plane.registry.v2.exchange import Exchange
from control_plane.registry.v2.listings import MAX_PAGE, page_asked
from control_plane.registry.v2.paths import referrers_path
from control_plane.tenants.access import Principal

_FILTER = "artifactType"


class ReferrerEndpoints:
    def __init__(self, referrers: ReferrerService) -> None:
        self._referrers = referrers

    async def get(self, exchange: Exchange, principal: Principal) -> None:
        """GET and HEAD. `n` and `last` page as they do for tags; the specification only knows our `Link`."""
        subject = Digest.parse(exchange.target.item)
        limit, after = page_asked(exchange)
        # A "+" that the client did not escape arrives as a space, which no media type has; most have a "+".
        artifact_type = exchange.query.get(_FILTER, "").replace(" ", "+") or None
        page = await self._referrers.page(
            principal,
            exchange.target.repository,
            subject,
            artifact_type=artifact_type,
            after=after,
            limit=limit or MAX_PAGE,
        )
        headers = {"Content-Type": OCI_INDEX, "Cache-Control": "private, no-cache"}
        if artifact_type is not None:
            headers["OCI-Filters-Applied"] = _FILTER
        if page.more:
            headers["Link"] = _next(exchange.target.repository, subject, artifact_type, page, limit or MAX_PAGE)
        await exchange.answer(200, headers, _index(page))


def _index(page: ReferrerPage) -> bytes:
    # Annotations are JSON already: they are put in as they are stored, neither parsed nor written again.
    manifests = ",".join(map(_descriptor, page.referrers))
    return f'{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{manifests}]}}'.encode()


def _descriptor(referrer: Referrer) -> str:
    found: dict[str, object] = {
        "mediaType": referrer.media_type,
        "digest": str(referrer.digest),
        "size": referrer.size,
    }
    if referrer.artifact_type:
        found["artifactType"] = referrer.artifact_type
    text = json.dumps(found, separators=(",", ":"))
    return text if referrer.annotations is None else f'{text[:-1]},"annotations":{referrer.annotations}}}'


def _next(repository: str, subject: Digest, artifact_type: str | None, page: ReferrerPage, limit: int) -> str:
    query = {"last": str(page.referrers[-1].digest), "n": str(limit)}
    if artifact_type is not None:
        query[_FILTER] = artifact_type
    return f'<{referrers_path(repository, subject)}?{urlencode(query)}>; rel="next"'
