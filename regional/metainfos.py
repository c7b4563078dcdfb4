"""The metainfo of each tenant's swarm, with the statement that the centre signed for it: asked of the centre once, then
kept on disk, passed on unchanged, and looked up by info-hash.

Invariants: a metainfo is used and passed on only if its statement was verified when it came (common/content_statement);
one that was ever accepted survives a restart, so swarms go on while the centre is away. Concurrent questions for one
key become one request. A statement whose key has left the newest set is asked for again before it is passed on, for
agents would refuse it; while the centre is away the old one is all there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from common.bittorrent.metainfo import Metainfo
from common.clock import Clock
from common.content_statement import SignedMetainfo, StatementInvalid, StatementVerifier
from common.digest import Digest
from common.errors import Failure, Invalid
from regional.centre import Centre, CentreRefused
from regional.cooldown import Cooldown
from regional.directory import ContentDirectory
from regional.model import ContentKey

log = structlog.get_logger()

# Trackers and handshakes carry the first 20 bytes of a v2 info-hash (BEP 52).
WIRE_HASH_BYTES = 20


class Metainfos:
    """`refused`: how many the centre sent that were not accepted."""

    def __init__(
        self,
        directory: ContentDirectory,
        centre: Centre,
        clock: Clock,
        random: Callable[[], float],
        statements: StatementVerifier,
    ) -> None:
        self.refused = 0
        self._directory = directory
        self._centre = centre
        self._statements = statements
        self._cooldown: Cooldown[ContentKey] = Cooldown(clock, random)
        self._known: dict[ContentKey, SignedMetainfo | None] = {}
        self._by_hash: dict[bytes, ContentKey] = {}
        self._locks: dict[ContentKey, asyncio.Lock] = {}

    async def load(self) -> None:
        """What earlier processes kept; call once, before anything else."""
        for key, signed in (await asyncio.to_thread(self._directory.metainfos)).items():
            self._remember(key, signed)

    def known(self) -> dict[ContentKey, Metainfo | None]:
        return {key: signed.metainfo if signed is not None else None for key, signed in self._known.items()}

    def of(self, digest: Digest) -> list[ContentKey]:
        """By whose rights it was asked for, whether it has a swarm or not."""
        return [key for key in self._known if key.digest == digest]

    def key_of(self, wire_hash: bytes) -> ContentKey | None:
        """Whose swarm this 20-byte hash names."""
        return self._by_hash.get(wire_hash)

    async def get(self, key: ContentKey, token: str) -> Metainfo | None:
        """None: the content has no swarm. Raises the failures of `Centre.metainfo`, `MetainfoInvalid`, and
        `StatementInvalid` if what the centre sent is not what its key holders state.
        """
        signed = await self._found(key, token, lambda: key in self._known)
        return None if signed is None else signed.metainfo

    async def signed(self, key: ContentKey, token: str) -> SignedMetainfo | None:
        """To be passed on: with a statement that a verifier of today takes, if the centre can be asked. Raises as
        `get`.
        """
        if key not in self._known or self._verifiable(key):
            return await self._found(key, token, lambda: key in self._known)
        try:
            return await self._found(key, token, lambda: self._verifiable(key))
        except Failure as failure:
            log.info("statement not renewed", digest=str(key.digest), tenant=key.tenant_id, error=str(failure))
            return self._known.get(key)

    def forget(self, digest: Digest) -> list[Metainfo]:
        """Drop what is known of a content that left the disk; what was dropped."""
        gone = [key for key in self._known if key.digest == digest]
        metainfos = [signed.metainfo for key in gone if (signed := self._known.pop(key)) is not None]
        for metainfo in metainfos:
            self._by_hash.pop(metainfo.info_hash[:WIRE_HASH_BYTES], None)
        return metainfos

    def retry_now(self) -> None:
        self._cooldown.clear()

    async def _found(self, key: ContentKey, token: str, good: Callable[[], bool]) -> SignedMetainfo | None:
        """What is known once it is `good`, which one question of the centre at most is to make it."""
        if good():
            return self._known[key]
        lock = self._locks.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                if not good():
                    await self._ask(key, token)
                return self._known[key]
        finally:
            # The next one to ask makes a new lock; those who still wait hold this one.
            if not lock.locked():
                self._locks.pop(key, None)

    def _verifiable(self, key: ContentKey) -> bool:
        signed = self._known.get(key)
        return signed is None or self._statements.knows_key_of(signed.statement)

    async def _ask(self, key: ContentKey, token: str) -> None:
        self._cooldown.check(key)
        try:
            claimed = await self._centre.metainfo(key.digest, token)
            signed = None
            if claimed is not None:
                signed = await asyncio.to_thread(self._statements.accept, claimed, key.tenant_id, key.digest)
        except Failure as failure:
            # A refusal is about this token only; the next caller's may be good.
            if not isinstance(failure, CentreRefused):
                self._cooldown.failed(key, failure)
            if isinstance(failure, Invalid):
                self._refuse(key, failure)
            raise
        await asyncio.to_thread(self._directory.save_metainfo, key, signed)
        self._cooldown.succeeded(key)
        self._remember(key, signed)

    def _refuse(self, key: ContentKey, failure: Invalid) -> None:
        self.refused += 1
        log.error(
            "the centre's metainfo refused",
            digest=str(key.digest),
            tenant=key.tenant_id,
            code=failure.code,
            error=str(failure),
            stated=isinstance(failure, StatementInvalid),
        )

    def _remember(self, key: ContentKey, signed: SignedMetainfo | None) -> None:
        before = self._known.get(key)
        if before is not None:
            self._by_hash.pop(before.metainfo.info_hash[:WIRE_HASH_BYTES], None)
        self._known[key] = signed
        if signed is not None:
            self._by_hash[signed.metainfo.info_hash[:WIRE_HASH_BYTES]] = key
