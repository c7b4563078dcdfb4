"""HTTP for logging in and out, for who one is, and for the keys that check our tokens.

Login, refresh, logout and the public keys are open to everybody: they are how one stops being anonymous.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response

from control_plane.tenants.access import Permission
from control_plane.tenants.accounts import AccountService
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.tenants.schemas import LoginBody, LoginView, LogoutBody, OwnPasswordBody, PrincipalView, RefreshBody
from control_plane.tenants.sessions import SessionService
from control_plane.tenants.signing_keys import SigningKeys
from control_plane.web.addresses import client_of
from control_plane.web.envelope import Envelope

# Answers that carry tokens must not be kept by anybody on the way (RFC 6749 section 5.1).
_NO_STORE = {"Cache-Control": "no-store"}


class AuthRoutes:
    def __init__(self, sessions: SessionService, accounts: AccountService, keys: SigningKeys) -> None:
        self._sessions = sessions
        self._accounts = accounts
        self._keys = keys

    def add_to(self, router: APIRouter) -> None:
        router.add_api_route("/api/v1/auth/login", self.login, methods=["POST"], tags=["auth"])
        router.add_api_route("/api/v1/auth/refresh", self.refresh, methods=["POST"], tags=["auth"])
        router.add_api_route("/api/v1/auth/logout", self.logout, methods=["POST"], tags=["auth"], status_code=204)
        router.add_api_route("/api/v1/auth/me", self.me, methods=["GET"], tags=["auth"])
        router.add_api_route("/api/v1/auth/password", self.password, methods=["POST"], tags=["auth"], status_code=204)
        router.add_api_route("/.well-known/jwks.json", self.jwks, methods=["GET"], tags=["auth"])

    async def login(self, body: LoginBody, request: Request, response: Response) -> Envelope[LoginView]:
        """Exchange a name and a password for an access and a refresh token."""
        response.headers.update(_NO_STORE)
        made = await self._sessions.login(body.username, body.password.get_secret_value(), client_of(request))
        return Envelope(data=LoginView.of(made))

    async def refresh(self, body: RefreshBody, response: Response) -> Envelope[LoginView]:
        """Exchange a refresh token, once, for the next pair. Using it twice ends the login."""
        response.headers.update(_NO_STORE)
        return Envelope(data=LoginView.of(await self._sessions.refresh(body.refresh_token.get_secret_value())))

    async def logout(self, request: Request, body: Annotated[LogoutBody | None, Body()] = None) -> None:
        """End the login that the refresh token, or the access token that is sent, belongs to."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        given = body.refresh_token.get_secret_value() if body is not None and body.refresh_token is not None else None
        await self._sessions.logout(token.strip() if scheme.lower() == "bearer" else None, given)

    async def me(self, principal: CurrentPrincipal) -> Envelope[PrincipalView]:
        """Who the credential speaks for, and its roles by tenant."""
        principal.require(Permission.PLATFORM_READ)
        return Envelope(data=PrincipalView.of(principal))

    async def password(self, principal: CurrentPrincipal, body: OwnPasswordBody, request: Request) -> None:
        """Change one's own password. Every login ends, this one too."""
        principal.require(Permission.PLATFORM_READ)
        await self._accounts.change_own_password(
            principal,
            body.current_password.get_secret_value(),
            body.new_password.get_secret_value(),
            client_of(request),
        )

    async def jwks(self, response: Response) -> dict[str, Any]:
        """The public keys of our tokens (RFC 7517)."""
        response.headers["Cache-Control"] = "public, max-age=300"
        return await self._keys.jwks()
