"""Refusals in the audit trail, and what of the trail one may read."""

from __future__ import annotations

from datetime import datetime

import structlog
from starlette.requests import HTTPConnection
from starlette.types import Scope

from common.errors import Denied, Failure, Unauthenticated, Unavailable
from control_plane.audit.model import ANONYMOUS, Act, Outcome, Sight
from control_plane.audit.service import AuditTrail
from control_plane.database import Database
from control_plane.tenants import store
from control_plane.tenants.access import Permission
from control_plane.tenants.acting import asking, operator_of
from control_plane.tenants.credentials import CredentialsWrong
from control_plane.tenants.principals import credentials_of, principal_of
from control_plane.tenants.throttle import LoginsThrottled

log = structlog.get_logger()
_RECORDED = (Denied, Unauthenticated, LoginsThrottled)
_MAX_PATH = 400


class Refusals:
    """Called with every refusal before it is answered. A request without credentials that is asked for them is no
    event: every `docker pull` begins with one.
    """

    def __init__(self, trail: AuditTrail) -> None:
        self._trail = trail

    async def __call__(self, scope: Scope, failure: Failure, repository: str = "") -> None:
        # Wrong passwords are recorded where they are checked, with the user they were tried on.
        if not isinstance(failure, _RECORDED) or isinstance(failure, CredentialsWrong):
            return
        if isinstance(failure, Unauthenticated) and credentials_of(HTTPConnection(scope)) is None:
            return
        principal = asking(scope)
        act = Act(
            "denied",
            operator_of(principal) if principal is not None else ANONYMOUS,
            tenant=repository.partition("/")[0],
            repository=repository,
            outcome=Outcome.DENIED,
            error=f"{failure.code}: {failure.detail}",
            # Never the query: it may hold what must not be kept.
            details={"method": scope["method"], "path": scope["path"][:_MAX_PATH]},
        )
        try:
            await self._trail.refused(act)
        except Unavailable as error:
            # It is refused in any case; only a strict trail gets here.
            log.error("audit.lost", entries=1, operation=act.operation, error=str(error))


class AuditSight:
    """What of the trail a request may read: the platform admin everything, administrators of tenants what concerns
    those, others nothing.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def __call__(self, request: HTTPConnection) -> Sight:
        """Raises `Unauthenticated`, `Denied`."""
        principal = await principal_of(request)
        reader = operator_of(principal)
        if principal.may(Permission.PLATFORM_MANAGE):
            return Sight(reader, everything=True)
        names = [name for name in principal.roles if principal.may(Permission.TENANT_MANAGE, name)]
        if not names:
            if principal.anonymous:
                raise Unauthenticated("this needs a login", action="log in with `longshore login` or send an API key")
            raise Denied(f"{principal.name} may not read the audit trail", action="ask an administrator of the tenant")
        return Sight(reader, tenants=await self._made_at(names))

    async def _made_at(self, names: list[str]) -> dict[str, datetime]:
        """A tenant that had this name before is none of the reader's business."""
        found: dict[str, datetime] = {}
        async with self._database.reading() as connection:
            for name in names:
                tenant = await store.find_tenant(connection, name)
                if tenant is not None:
                    found[name] = tenant.created_at
        return found
