"""`POST /content/v1/{digest}/offences`: a host says that a peer of its swarm sent it false bytes; on the mutual-TLS
listener.

Invariant: an accusation counts for the process that proved its identity, and only in the swarm that its token is for;
the accused is found by the address from which it announced, never by what somebody says its name is. The answer is
that name, so that the accuser's report to the centre can carry it.
"""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass

import structlog
from aiohttp import web

from common.content_token import ContentVerifier
from common.digest import Digest
from common.errors import Invalid
from regional.content import NotInSwarm, authorised
from regional.metainfos import WIRE_HASH_BYTES, Metainfos
from regional.metrics import Metrics
from regional.model import ContentKey
from regional.offenders import Offenders
from regional.tracker import Endpoint, Tracker

log = structlog.get_logger()

_BODY_BYTES = 1024


class OffenceInvalid(Invalid):
    code = "offence_invalid"


@dataclass(frozen=True)
class OffenceRoutes:
    tracker: Tracker
    offenders: Offenders
    metainfos: Metainfos
    verifier: ContentVerifier
    metrics: Metrics

    def __post_init__(self) -> None:
        self.tracker.shuns = self.offenders.shuns
        self.metrics.gauge("peers_shunned", "Peers that the tracker names to nobody", self.offenders.count)

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/content/v1/{digest}/offences", self.accuse)]

    async def accuse(self, request: web.Request) -> web.Response:
        digest = Digest.parse(request.match_info["digest"])
        claim, token = authorised(request, self.verifier, digest)
        source = await _source(request)
        metainfo = await self.metainfos.get(ContentKey(digest, claim.tenant_id), token)
        if metainfo is None:
            raise NotInSwarm(f"{digest} is not spread by swarm", action="there is nobody to accuse")
        info_hash = metainfo.info_hash[:WIRE_HASH_BYTES]
        accused = self.tracker.bearer_at(info_hash, source)
        shunned = accused is not None and self.offenders.accuse(info_hash, claim.bearer, accused)
        outcome = "shunned" if shunned else "named" if accused is not None else "unknown"
        self.metrics.offences.labels(outcome).inc()
        log.warning(
            "peer accused of false bytes",
            accuser=claim.bearer,
            accused=accused or "",
            address=str(source.address),
            port=source.port,
            digest=str(digest),
            outcome=outcome,
        )
        return web.json_response({"accused": accused or ""})


async def _source(request: web.Request) -> Endpoint:
    """Raises `OffenceInvalid`."""
    try:
        fields = json.loads(await request.content.read(_BODY_BYTES))
        address, port = ipaddress.ip_address(fields["address"]), fields["port"]
        if type(port) is not int or not 0 < port < 1 << 16:
            raise ValueError("the port is none")
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise OffenceInvalid(
            "the body does not name a peer", action='send {"address": "10.0.0.1", "port": 6881}'
        ) from error
    return Endpoint(address, port)
