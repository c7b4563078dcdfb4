"""`POST /content/v1/certificates`: a certificate for a tenant's swarms; common/swarm_certificate.py says what is asked.

Reached by hosts and regionals, and by regionals on behalf of hosts; what counts is in the body.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from common.errors import NotFound, TooLarge
from common.swarm_certificate import MAXIMUM_BYTES, PATH, CertificateRequest
from control_plane.swarm.minting import CertificateMint


class SwarmsPlain(NotFound):
    code = "swarms_plain"


class CertificateRoutes:
    """`mint` None: swarms speak plainly here."""

    def __init__(self, mint: CertificateMint | None) -> None:
        self._mint = mint

    def routes(self) -> list[Route]:
        return [Route(PATH, self.certificate, methods=["POST"])]

    async def certificate(self, request: Request) -> Response:
        if self._mint is None:
            raise SwarmsPlain("swarms do not use TLS here", action="set swarm_tls to false on hosts and regionals")
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAXIMUM_BYTES:
                raise TooLarge(f"a certificate request has at most {MAXIMUM_BYTES} bytes", action="ask in parts")
        minted = await self._mint.mint(CertificateRequest.decode(body))
        return JSONResponse(
            {
                "certificate": minted.pem.decode("ascii"),
                "names": list(minted.names),
                "expires_at": minted.ends_at.isoformat(),
            },
            headers={"Cache-Control": "no-store"},
        )
