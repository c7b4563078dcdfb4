"""The services of this domain, wired to each other; `app` calls `build_tenancy` once and hands the parts on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.clock import Clock
from control_plane.audit.service import AuditTrail
from control_plane.cache import Cache
from control_plane.database import Database
from control_plane.sealing import SealedBox
from control_plane.tenants.accounts import AccountService
from control_plane.tenants.api_keys import ApiKeyService
from control_plane.tenants.authentication import AuthService
from control_plane.tenants.credentials import Credentials
from control_plane.tenants.directory import TenantDirectory
from control_plane.tenants.groups import GroupService
from control_plane.tenants.model import TenantSettings
from control_plane.tenants.owners import Owners
from control_plane.tenants.passwords import Passwords
from control_plane.tenants.registry_logins import RegistryLogins
from control_plane.tenants.registry_tokens import RegistryTokens
from control_plane.tenants.robot_keys import RobotKeys
from control_plane.tenants.robots import RobotService
from control_plane.tenants.service import TenantInUse, TenantService
from control_plane.tenants.sessions import SessionService
from control_plane.tenants.signing_keys import SigningKeys
from control_plane.tenants.standings import Standings
from control_plane.tenants.throttle import LoginThrottle
from control_plane.tenants.tokens import AccessTokens, TokenCodec


@dataclass(frozen=True, slots=True)
class Tenancy:
    """`auth` implements `principals.Authenticator`; `directory` and `registry_tokens` are for the domains above."""

    accounts: AccountService
    tenants: TenantService
    sessions: SessionService
    api_keys: ApiKeyService
    auth: AuthService
    registry_tokens: RegistryTokens
    registry_logins: RegistryLogins
    signing_keys: SigningKeys
    directory: TenantDirectory
    robots: RobotService
    groups: GroupService


def build_tenancy(
    database: Database,
    clock: Clock,
    cache: Cache,
    box: SealedBox,
    settings: TenantSettings,
    in_use: Sequence[TenantInUse] = (),
    trail: AuditTrail | None = None,
) -> Tenancy:
    """`in_use`: what higher domains may hold of a tenant; asked before one is deleted."""
    trail = trail or AuditTrail(database, clock)
    standings = Standings(database, cache, clock, settings)
    passwords = Passwords(settings.hashing_slots)
    directory = TenantDirectory(database, cache, settings)
    throttle = LoginThrottle(cache, clock, settings)
    credentials = Credentials(database, passwords, throttle, trail)
    signing_keys = SigningKeys(database, box, clock, settings)
    codec = TokenCodec(signing_keys, clock, settings.issuer)
    tokens = AccessTokens(codec, clock, settings)
    api_keys = ApiKeyService(database, clock, cache, standings, settings, trail)
    robot_keys = RobotKeys(database, clock, cache, settings)
    owners = Owners(standings, api_keys, robot_keys)
    logins = RegistryLogins(database, clock, owners, settings, trail)
    return Tenancy(
        accounts=AccountService(database, clock, passwords, credentials, standings, settings, trail),
        tenants=TenantService(database, clock, standings, directory, robot_keys, trail, in_use),
        sessions=SessionService(database, clock, credentials, standings, tokens, settings, trail),
        api_keys=api_keys,
        auth=AuthService(cache, credentials, standings, tokens, api_keys, robot_keys, throttle, trail, settings),
        registry_tokens=RegistryTokens(codec, clock, owners, logins, settings),
        registry_logins=logins,
        signing_keys=signing_keys,
        directory=directory,
        robots=RobotService(database, clock, robot_keys, trail),
        groups=GroupService(database, clock, standings, trail),
    )
