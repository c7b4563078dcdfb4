"""The fleet's gRPC services: who calls is read from the connection, what they want is done by the services, and
failures become status codes in `control_plane.rpc.errors`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import grpc.aio
from google.protobuf.message import DecodeError

from common.errors import Denied
from control_plane.fleet.dialects import AgentDialect, RegionalDialect
from control_plane.fleet.enrolment import Application, Enrolment
from control_plane.fleet.sessions import Sessions
from control_plane.rpc.peers import peer_of
from proto.agent.v1 import agent_pb2_grpc
from proto.enrolment.v1 import enrolment_pb2, enrolment_pb2_grpc
from proto.regional.v1 import regional_pb2_grpc

_HEAR_SECONDS = 5.0


class WrongService(Denied):
    """An agent called the regionals' service, or the other way round."""

    code = "wrong_service"


class EnrolmentService(enrolment_pb2_grpc.EnrolmentServicer):
    def __init__(self, enrolment: Enrolment) -> None:
        self._enrolment = enrolment

    async def Enrol(self, request: enrolment_pb2.EnrolRequest, context: Any) -> enrolment_pb2.EnrolReply:  # noqa: N802
        enrolled = await self._enrolment.enrol(
            Application(
                join_token=request.join_token,
                csr_pem=request.csr_pem,
                name=request.name,
                addresses=list(request.addresses),
                version=request.version,
                kind=request.kind,
            )
        )
        return enrolment_pb2.EnrolReply(
            identity_id=enrolled.identity_id,
            name=enrolled.name,
            idc=enrolled.idc,
            certificate_pem=enrolled.issued.pem,
            ca_pem=self._enrolment.ca_pem,
        )


class RenewalService(enrolment_pb2_grpc.RenewalServicer):
    def __init__(self, enrolment: Enrolment) -> None:
        self._enrolment = enrolment

    async def Renew(self, request: enrolment_pb2.RenewRequest, context: Any) -> enrolment_pb2.RenewReply:  # noqa: N802
        issued = await self._enrolment.renew(peer_of(context), request.csr_pem, list(request.addresses))
        return enrolment_pb2.RenewReply(certificate_pem=issued.pem, ca_pem=self._enrolment.ca_pem)


class AgentService(agent_pb2_grpc.AgentServicer):
    def __init__(self, sessions: Sessions, dialect: AgentDialect) -> None:
        self._sessions = sessions
        self._dialect = dialect

    # A coroutine that reads and writes its context instead of a generator: the tasks of a stream then have one owner.
    async def Attach(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]  # noqa: N802
        await _serve(self._sessions, self._dialect, context)


class RegionalService(regional_pb2_grpc.RegionalServicer):
    def __init__(self, sessions: Sessions, dialect: RegionalDialect) -> None:
        self._sessions = sessions
        self._dialect = dialect

    async def Attach(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]  # noqa: N802
        await _serve(self._sessions, self._dialect, context)


async def _serve(sessions: Sessions, dialect: AgentDialect | RegionalDialect, context: Any) -> None:
    peer = peer_of(context)
    if peer.name.kind != dialect.kind:
        # Heard out first: a client that is still writing is never told why (common/rpc_failures.py).
        with contextlib.suppress(TimeoutError, DecodeError):
            async with asyncio.timeout(_HEAR_SECONDS):
                await context.read()
        raise WrongService(f"{peer.name.uri()} called the service of {dialect.kind}s", action="call its own service")
    await sessions.serve(peer, dialect, context)


def enrolment_services(enrolment: Enrolment) -> Sequence[Callable[[grpc.aio.Server], None]]:
    """For the listener without client certificates."""
    return (lambda server: enrolment_pb2_grpc.add_EnrolmentServicer_to_server(EnrolmentService(enrolment), server),)


def attach_services(
    enrolment: Enrolment, sessions: Sessions, agents: AgentDialect, regionals: RegionalDialect
) -> Sequence[Callable[[grpc.aio.Server], None]]:
    """For the listener with mutual TLS."""
    return (
        lambda server: enrolment_pb2_grpc.add_RenewalServicer_to_server(RenewalService(enrolment), server),
        lambda server: agent_pb2_grpc.add_AgentServicer_to_server(AgentService(sessions, agents), server),
        lambda server: regional_pb2_grpc.add_RegionalServicer_to_server(RegionalService(sessions, regionals), server),
    )
