"""Join tokens: made for one host or regional, shown once, spent once.

Invariant: only a hash of the secret is stored, so a stolen database lets nobody in. The secret has 160 random bits;
a slow password hash would protect nothing and cost every enrolment.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from common.clock import Clock
from common.errors import Conflict, Invalid, NotFound, Unauthenticated
from common.identifiers import RandomBytes, new_id
from common.join_token import JoinToken
from common.tls import IdentityKind
from control_plane.database import Database
from control_plane.fleet import store_idcs, store_join_tokens
from control_plane.fleet.model import IdcUnknown, StoredJoinToken, check_name
from control_plane.web.paging import Page, PageRequest

log = structlog.get_logger()

DEFAULT_LIFE = timedelta(minutes=10)
LONGEST_LIFE = timedelta(days=7)
_SECRET_BYTES = 20
# How long a spent or expired token is listed, for whoever wonders what became of it.
_LISTED_AFTER_EXPIRY = timedelta(days=7)


class JoinTokenUnknown(Unauthenticated):
    """No such token, or its secret or CA is wrong: which of them is nobody's business."""

    code = "join_token_unknown"


class JoinTokenUsed(Unauthenticated):
    code = "join_token_used"


class JoinTokenExpired(Unauthenticated):
    code = "join_token_expired"


class JoinTokenForOther(Conflict):
    """A regional's token in an agent's hands, or the other way round; it was not spent."""

    code = "join_token_for_other"


class JoinTokenGone(NotFound):
    code = "join_token_unknown"


class LifeInvalid(Invalid):
    code = "ttl_invalid"


@dataclass(frozen=True, slots=True)
class MadeJoinToken:
    stored: StoredJoinToken
    text: str


class JoinTokens:
    """What operators do with join tokens; spending them is `enrolment`'s."""

    def __init__(
        self, database: Database, clock: Clock, ca_hash: str, random_bytes: RandomBytes = secrets.token_bytes
    ) -> None:
        self._database = database
        self._clock = clock
        self._ca_hash = ca_hash
        self._random_bytes = random_bytes

    async def make(
        self, kind: IdentityKind, idc: str, *, name: str | None, life: timedelta, created_by: str
    ) -> MadeJoinToken:
        """Raises `IdcUnknown`, `NameInvalid`, `LifeInvalid`. A token with the name of a member that exists lets that
        member's machine enrol again, as the same identity.
        """
        if not timedelta(0) < life <= LONGEST_LIFE:
            raise LifeInvalid(
                f"a join token cannot live for {life.total_seconds():.0f} s", action="choose 1 second to 7 days"
            )
        if name is not None:
            check_name(name, f"a {kind}")
        now = self._clock.now()
        token = JoinToken(self._ca_hash, new_id(self._clock, self._random_bytes), self._random_bytes(_SECRET_BYTES))
        async with self._database.transaction() as unit:
            found = await store_idcs.find_idc(unit.connection, idc, locked=True)
            if found is None:
                raise IdcUnknown(f"there is no IDC {idc}", action="see `longshore idc list`")
            stored = StoredJoinToken(
                id=token.id,
                kind=kind,
                idc_id=found.id,
                idc=found.name,
                name=name,
                secret_hash=secret_hash(token.secret),
                created_by=created_by,
                created_at=now,
                expires_at=now + life,
            )
            await store_join_tokens.delete_expired(unit.connection, now - _LISTED_AFTER_EXPIRY)
            await store_join_tokens.insert_token(unit.connection, stored)
        log.info("join token made", id=token.id, kind=kind, idc=idc, name=name, created_by=created_by)
        return MadeJoinToken(stored, str(token))

    async def list(self, page: PageRequest) -> Page[StoredJoinToken]:
        async with self._database.reading() as connection:
            tokens, total = await store_join_tokens.list_tokens(connection, page.offset, page.limit)
        return Page(tokens, total, page)

    async def remove(self, token_id: str) -> None:
        """A token that was spent may go too; who joined with it stays. Raises `JoinTokenGone`."""
        async with self._database.transaction() as unit:
            if not await store_join_tokens.delete_token(unit.connection, token_id):
                raise JoinTokenGone(f"there is no join token {token_id}", action="see `longshore join-token list`")


def secret_hash(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()


def check_spendable(
    token: StoredJoinToken | None, shown: JoinToken, ca_hash: str, key_hash: str, kind: str, now: datetime
) -> StoredJoinToken:
    """The token if `shown` may be spent for the key now; pure. Raises `JoinTokenUnknown`, `JoinTokenExpired`,
    `JoinTokenForOther`, `JoinTokenUsed`.
    """
    # Compared even if there is no such token, so that the time taken does not tell.
    genuine = hmac.compare_digest(secret_hash(shown.secret), token.secret_hash if token is not None else "0" * 64)
    if token is None or not genuine or shown.ca_hash != ca_hash:
        raise JoinTokenUnknown(
            "the join token is not known here", action="make a new one: `longshore join-token create`"
        )
    if now >= token.expires_at:
        raise JoinTokenExpired(
            f"the join token expired at {token.expires_at:%Y-%m-%dT%H:%M:%SZ}",
            action="make a new one: `longshore join-token create`",
        )
    if kind and kind != token.kind:
        raise JoinTokenForOther(
            f"the join token is for a {token.kind}, not for a {kind}", action="make one of this kind"
        )
    # Lost replies are repeated: the same key may ask again, another one may not.
    if token.used_key_hash is not None and not hmac.compare_digest(token.used_key_hash, key_hash):
        raise JoinTokenUsed(
            f"the join token was spent at {token.used_at:%Y-%m-%dT%H:%M:%SZ}",
            action="make one token for each machine: `longshore join-token create`",
        )
    return token
