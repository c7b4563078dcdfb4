"""Users: made by the platform admin, disabled but never deleted (what they did keeps their name), with a password each.

Invariant: there is always a platform admin who can log in, and no password is ever a default: the first one is
generated and told once. Whatever changes what a user may ends everything that was issued to it before.
"""

from __future__ import annotations

import structlog

from common.clock import Clock
from common.errors import Conflict, NotFound
from common.identifiers import new_id
from control_plane.audit.service import AuditTrail
from control_plane.database import Database, UnitOfWork
from control_plane.tenants import user_store
from control_plane.tenants.access import Permission, Principal
from control_plane.tenants.acting import act_of
from control_plane.tenants.credentials import Credentials
from control_plane.tenants.messages import UserChanged, UserCreated
from control_plane.tenants.model import TenantSettings, User, check_user_name
from control_plane.tenants.passwords import Passwords, check_new_password, generate_password
from control_plane.tenants.standings import Standings
from control_plane.web.paging import Page, PageRequest

log = structlog.get_logger()

FIRST_ADMIN = "admin"


class UserExists(Conflict):
    code = "user_exists"


class UserUnknown(NotFound):
    code = "user_unknown"


class LastPlatformAdmin(Conflict):
    """Nobody could administer the platform afterwards."""

    code = "last_platform_admin"


class AccountService:
    def __init__(
        self,
        database: Database,
        clock: Clock,
        passwords: Passwords,
        credentials: Credentials,
        standings: Standings,
        settings: TenantSettings,
        trail: AuditTrail,
    ) -> None:
        self._trail = trail
        self._database = database
        self._clock = clock
        self._passwords = passwords
        self._credentials = credentials
        self._standings = standings
        self._minimum = settings.minimum_password_length

    async def ensure_platform_admin(self) -> str | None:
        """The generated password of the user `admin` if this call made it, else None. Of several at once, one does.

        A crash before the password was shown loses it; `reset_platform_admin` makes another.
        """
        async with self._database.reading() as connection:
            if await user_store.platform_admins(connection):
                return None
        password = generate_password()
        admin = await self._new_user(FIRST_ADMIN, password, "Platform administrator", None, platform_admin=True)
        async with self._database.transaction() as unit:
            if not await user_store.add_user(unit.connection, admin):
                return None
            await unit.announce(UserCreated(admin.id, admin.name))
            self._trail.record(unit, act_of(None, "tenants.user_created", subject=admin.name))
        return password

    async def reset_platform_admin(self) -> str:
        """For the operator at the machine: `admin` gets a new password, and is made or enabled if need be."""
        password = generate_password()
        admin = await self._new_user(FIRST_ADMIN, password, "Platform administrator", None, platform_admin=True)
        async with self._database.transaction() as unit:
            if not await user_store.add_user(unit.connection, admin):
                known = await self._get(unit, FIRST_ADMIN)
                await user_store.set_password(unit.connection, known.id, admin.password_hash)
                await user_store.set_state(unit.connection, known.id, disabled=False, platform_admin=True)
                await unit.announce(UserChanged(known.id, disabled=False, platform_admin=True))
                admin = known
            self._trail.record(unit, act_of(None, "tenants.admin_reset", subject=admin.name))
        await self._standings.forget([admin.id])
        return password

    async def create(
        self,
        principal: Principal,
        name: str,
        password: str,
        *,
        display_name: str = "",
        email: str | None = None,
        platform_admin: bool = False,
    ) -> User:
        """Raises `Denied`, `UserNameInvalid`, `PasswordWeak`, `UserExists`."""
        principal.require(Permission.PLATFORM_MANAGE)
        check_user_name(name)
        check_new_password(password, name, self._minimum)
        user = await self._new_user(name, password, display_name or name, email, platform_admin=platform_admin)
        async with self._database.transaction() as unit:
            if not await user_store.add_user(unit.connection, user):
                raise UserExists(f"there is a user {name!r} already", action="choose another name")
            await unit.announce(UserCreated(user.id, user.name))
            told = {"platform_admin": platform_admin}
            self._trail.record(unit, act_of(principal, "tenants.user_created", subject=name, details=told))
        return user

    async def list(self, principal: Principal, page: PageRequest) -> Page[User]:
        principal.require(Permission.PLATFORM_MANAGE)
        async with self._database.reading() as connection:
            return await user_store.list_users(connection, page)

    async def get(self, principal: Principal, name: str) -> User:
        """Raises `Denied`, `UserUnknown`."""
        principal.require(Permission.PLATFORM_MANAGE)
        async with self._database.reading() as connection:
            user = await user_store.find_user(connection, name)
        if user is None:
            raise _unknown(name)
        return user

    async def set_state(
        self, principal: Principal, name: str, *, disabled: bool | None = None, platform_admin: bool | None = None
    ) -> User:
        """None leaves as it is. Raises `Denied`, `UserUnknown`, `LastPlatformAdmin`."""
        principal.require(Permission.PLATFORM_MANAGE)
        async with self._database.transaction() as unit:
            # The admins first: two requests that each disable one of the last two must not both pass.
            admins = await user_store.platform_admins(unit.connection, lock=True)
            user = await self._get(unit, name)
            now_disabled = user.disabled if disabled is None else disabled
            now_admin = user.platform_admin if platform_admin is None else platform_admin
            if (now_disabled, now_admin) == (user.disabled, user.platform_admin):
                return user
            if (now_disabled or not now_admin) and [admin.name for admin in admins] == [name]:
                raise LastPlatformAdmin(
                    f"{name} is the last platform admin who can log in", action="make another platform admin first"
                )
            await user_store.set_state(unit.connection, user.id, disabled=now_disabled, platform_admin=now_admin)
            await unit.announce(UserChanged(user.id, disabled=now_disabled, platform_admin=now_admin))
            changed = await self._get(unit, name)
            told = {"disabled": now_disabled, "platform_admin": now_admin}
            self._trail.record(unit, act_of(principal, "tenants.user_changed", subject=name, details=told))
        await self._standings.forget([user.id])
        return changed

    async def set_password(self, principal: Principal, name: str, password: str) -> None:
        """The platform admin gives a user another password. Raises `Denied`, `UserUnknown`, `PasswordWeak`."""
        user = await self.get(principal, name)
        await self._change_password(principal, user, password)

    async def change_own_password(self, principal: Principal, current: str, new: str, client: str = "") -> None:
        """Ends every login of the principal, this one too.

        Raises `Denied`, `CredentialsWrong`, `LoginsThrottled`, `PasswordWeak`.
        """
        principal.require_whole()
        user = await self._credentials.check(principal.name, current, client)
        await self._change_password(principal, user, new)

    async def _change_password(self, principal: Principal, user: User, password: str) -> None:
        check_new_password(password, user.name, self._minimum)
        password_hash = await self._passwords.hash(password)
        async with self._database.transaction() as unit:
            await user_store.set_password(unit.connection, user.id, password_hash)
            await unit.announce(UserChanged(user.id, user.disabled, user.platform_admin))
            self._trail.record(unit, act_of(principal, "tenants.password_changed", subject=user.name))
        await self._standings.forget([user.id])
        log.info("password changed", user=user.name)

    async def _new_user(
        self, name: str, password: str, display_name: str, email: str | None, *, platform_admin: bool
    ) -> User:
        return User(
            id=new_id(self._clock),
            name=name,
            display_name=display_name,
            email=email,
            password_hash=await self._passwords.hash(password),
            platform_admin=platform_admin,
            disabled=False,
            token_generation=1,
            created_at=self._clock.now(),
        )

    async def _get(self, unit: UnitOfWork, name: str) -> User:
        user = await user_store.find_user(unit.connection, name)
        if user is None:
            raise _unknown(name)
        return user


def _unknown(name: str) -> UserUnknown:
    return UserUnknown(f"there is no user {name[:80]!r}", action="check the name with `longshore user list`")
