"""A control plane as a regional sees it: discovery, enrolment, attachment and contents, all over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc.aio
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from common.join_token import JoinToken
from common.tls import Name
from proto.content.v1 import content_pb2
from proto.enrolment.v1 import enrolment_pb2, enrolment_pb2_grpc
from proto.regional.v1 import machines_pb2, regional_pb2, regional_pb2_grpc
from regional.serving import listening
from tests.pace import BUSY_SECONDS

from .certificates import Authority
from .conftest import KEY_ID, FakeCentre

IDENTITY = Name("east", "regional", "r-1")


class Plane(enrolment_pb2_grpc.EnrolmentServicer, regional_pb2_grpc.RegionalServicer):
    """Everything it was told, and the orders and boot targets that it sends at every attachment. `forgets`: how many
    acknowledgements of machines' reports it owes and never sends.
    """

    def __init__(self, centre: FakeCentre) -> None:
        self.centre = centre
        self.authority = Authority()
        self.orders: list[regional_pb2.Order] = []
        self.generation = 1
        self.hellos: list[regional_pb2.Hello] = []
        self.phases: dict[str, int] = {}
        self.url = ""
        self.addresses: tuple[str, str] = ("", "")
        self.enrolled = 0
        self.targets: list[machines_pb2.BootTarget] = []
        self.machine_reports: list[machines_pb2.MachineReport] = []
        self.forgets = 0
        self.conditions: list[list[str]] = []

    @property
    def join_token(self) -> str:
        fingerprint = x509.load_pem_x509_certificate(self.authority.pem).fingerprint(hashes.SHA256()).hex()
        return str(JoinToken(fingerprint, "01890000-0000-7000-8000-000000000001", b"0123456789abcdef"))

    async def Enrol(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.join_token != self.join_token or request.kind != "regional":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "unknown token")
        self.enrolled += 1
        key = x509.load_pem_x509_csr(request.csr_pem).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        return enrolment_pb2.EnrolReply(
            identity_id=IDENTITY.id,
            name=request.name,
            idc=IDENTITY.idc,
            certificate_pem=self.authority.certificate(IDENTITY, key),
            ca_pem=self.authority.pem,
        )

    async def Attach(self, requests: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        first = await anext(aiter(requests))
        self.hellos.append(first.hello)
        keys = [content_pb2.VerifyingKey(key_id=KEY_ID, public_key_pem=self.centre.signer.public[KEY_ID])]
        welcome = regional_pb2.Welcome(
            session_id="s",
            heartbeat_seconds=1,
            regional_id=IDENTITY.id,
            idc="east",
            content_url=self.centre.url,
            verifying_keys=keys,
            smallest_swarm_bytes=1 << 20,
        )
        yield regional_pb2.PlaneMessage(welcome=welcome)
        orders = regional_pb2.OrderSet(results_in=self.generation, orders=self.orders, boot_targets=self.targets)
        yield regional_pb2.PlaneMessage(set=orders)
        async for message in requests:
            if message.HasField("reports"):
                for report in message.reports.orders:
                    self.phases[report.digest] = report.phase
                ack = regional_pb2.ReportsAck(sequence=message.reports.sequence)
                yield regional_pb2.PlaneMessage(reports_ack=ack)
            if message.HasField("condition"):
                self.conditions.append(list(message.condition.warnings))
            if message.HasField("machines"):
                self.machine_reports += message.machines.reports
                if self.forgets:
                    self.forgets -= 1
                    return
                taken = machines_pb2.MachineReportsAck(sequence=message.machines.sequence)
                yield regional_pb2.PlaneMessage(machines_ack=taken)

    async def well_known(self, _: web.Request) -> web.Response:
        enrolment, attach = self.addresses
        return web.json_response(
            {
                "name": "longshore",
                "version": "0",
                "enrolment": enrolment,
                "attach": attach,
                "ca_pem": self.authority.pem.decode(),
            }
        )


@asynccontextmanager
async def running_plane(centre: FakeCentre, again: Plane | None = None) -> AsyncIterator[Plane]:
    """`again`: one that was away comes back, at another address."""
    plane = again or Plane(centre)
    identity = plane.authority.identity(Name("plane", "regional", "server"))
    pair = [(identity.key_pem, identity.certificate_pem)]
    async with AsyncExitStack() as stack:
        enrolment, attach = grpc.aio.server(), grpc.aio.server()
        enrolment_pb2_grpc.add_EnrolmentServicer_to_server(plane, enrolment)
        regional_pb2_grpc.add_RegionalServicer_to_server(plane, attach)
        open_port = enrolment.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(pair))
        mutual = grpc.ssl_server_credentials(pair, plane.authority.pem, require_client_auth=True)
        mutual_port = attach.add_secure_port("127.0.0.1:0", mutual)
        for server in (enrolment, attach):
            await server.start()
            stack.push_async_callback(_stop, server)
        plane.addresses = f"127.0.0.1:{open_port}", f"127.0.0.1:{mutual_port}"
        app = web.Application()
        app.add_routes([web.get("/.well-known/longshore", plane.well_known)])
        plane.url = f"http://127.0.0.1:{await stack.enter_async_context(listening(app, '127.0.0.1', 0))}"
        yield plane


async def _stop(server: grpc.aio.Server) -> None:
    async with asyncio.timeout(BUSY_SECONDS):
        await server.stop(0.2)
