"""Refusals and management calls in the audit trail, and what of the trail one may read."""

from __future__ import annotations

from datetime import datetime

import structlog
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.errors import Denied, Failure, Unauthenticated, Unavailable
from control_plane.audit.model import ANONYMOUS, Act, Outcome, Sight
from control_plane.audit.service import AuditTrail
from control_plane.database import Database
from control_plane.tenants import store
from control_plane.tenants.access import Permission
from control_plane.tenants.acting import act_of, asking, operator_of
from control_plane.tenants.credentials import CredentialsWrong
from control_plane.tenants.principals import credentials_of, principal_of
from control_plane.tenants.throttle import LoginsThrottled

log = structlog.get_logger()
_RECORDED = (Denied, Unauthenticated, LoginsThrottled)
_MAX_PATH = 250
_API = "/api/v1/"
_CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})


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
            details={"method": scope.get("method", ""), "path": scope["path"][:_MAX_PATH]},
        )
        try:
            await self._trail.refused(act)
        except Unavailable as error:
            # It is refused in any case; only a strict trail gets here.
            log.error("audit.lost", entries=1, operation=act.operation, error=str(error))


class CallsNoted:
    """Notes every management call that changed something, whichever domain it reached; pure ASGI, in front of the API
    and behind the access log. Domains that record their changes say more about them, under the same request id.
    """

    def __init__(self, app: ASGIApp, trail: AuditTrail) -> None:
        self._app = app
        self._trail = trail

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in _CHANGING or not scope["path"].startswith(_API):
            await self._app(scope, receive, send)
            return
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        await self._app(scope, receive, watched)
        # Logins and logouts are recorded where they happen; nobody knows yet who calls.
        if 200 <= status < 300 and asking(scope) is not None:
            self._trail.note(_called(scope, status))


def _called(scope: Scope, status: int) -> Act:
    path = scope["path"]
    tenant, repository = owner_in(path)
    details = {"method": scope["method"], "status": status}
    return act_of(
        asking(scope), "api.call", tenant=tenant, repository=repository, subject=path[:_MAX_PATH], details=details
    )


def owner_in(path: str) -> tuple[str, str]:
    """The tenant and the repository that an address of the API names, "" for none."""
    kind, _, rest = path.removeprefix(_API).partition("/")
    if kind == "tenants":
        return rest.partition("/")[0], ""
    if kind == "repositories":
        repository = rest.partition("/-/")[0]
        return repository.partition("/")[0], repository
    return "", ""


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
