"""Any order of pushes, mounts, deletions, crashes, expiries and changes of limits: hypothesis looks for one that makes
an account wrong. A crash is an upload whose process never says another word, at any of its steps.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as some
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from common.clock import ManualClock
from common.digest import Digest
from common.errors import Failure
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.database import Database, UnitOfWork
from control_plane.registry.manifests import OCI_MANIFEST
from control_plane.registry.model import Repository
from control_plane.registry.participants import Participant
from control_plane.registry.quota.model import Limits
from control_plane.tenants.access import Principal
from tests.control_plane.registry.people import ADA, BOB, BOTH, image_manifest
from tests.control_plane.registry.quota.quotas import ACME, ADAS, BIRCH, Ward, open_ward
from tests.engines.postgresql import PostgresEngine

BLOBS = [b"", *(random.Random(number).randbytes(number * 37 % 400) for number in range(1, 5))]
NAMES = ["acme/a", "acme/b", "birch/c"]
PEOPLE = [ADA, BOTH]
blobs_of_all, names, people = some.sampled_from(BLOBS), some.sampled_from(NAMES), some.sampled_from(PEOPLE)
limits = some.one_of(some.none(), some.integers(0, 1500))


class Died(BaseException):
    """kill -9: no handler of ours runs to its end."""


class Deadly(Participant):
    """Dies, or fails, in the middle of the transaction."""

    def __init__(self) -> None:
        self.armed: BaseException | None = None

    def _strike(self) -> None:
        armed, self.armed = self.armed, None
        if armed is not None:
            raise armed

    async def repository_made(self, unit: UnitOfWork, repository: Repository, by: Principal | None) -> None:
        self._strike()

    async def blob_linked(
        self, unit: UnitOfWork, repository: Repository, digest: Digest, size: int, by: Principal | None
    ) -> None:
        self._strike()

    async def blob_unlinked(self, unit: UnitOfWork, repository: Repository, digest: Digest, size: int) -> None:
        self._strike()


class FragileStore(MemoryBlobStore):
    """A store whose process can die before and after publishing; uploads it then cannot abort are left behind."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.dies_at = ""
        self.dead = False

    async def commit(self, upload_id: str, digest: Digest) -> int:
        self._strike("before")
        size = await super().commit(upload_id, digest)
        self._strike("after")
        return size

    async def abort(self, upload_id: str) -> None:
        if self.dead:
            raise Died
        await super().abort(upload_id)

    def _strike(self, moment: str) -> None:
        if self.dies_at == moment:
            self.dies_at, self.dead = "", True
            raise Died


class QuotaMachine(RuleBasedStateMachine):
    """`url_of` makes a fresh database, `drop` removes it."""

    @staticmethod
    def fresh() -> tuple[str, object]:
        raise NotImplementedError

    @staticmethod
    def drop(token: object) -> None:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        url, self.token = self.fresh()
        self.database = Database(url, self.clock, pool_size=2)
        self.blobs, self.deadly = FragileStore(self.clock), Deadly()
        self.ward: Ward = open_ward(self.database, self.blobs, self.clock, others=[self.deadly])
        self.limit: int | None = None
        self.linked: list[tuple[str, bytes]] = []
        self.images: list[tuple[str, bytes]] = []
        self.open: list[tuple[Principal, str, str, bytes]] = []

    def teardown(self) -> None:
        self.runner.run(self.database.close())
        self.runner.close()
        self.drop(self.token)

    def run(self, work) -> bool:  # type: ignore[no-untyped-def]
        """Whether it worked; every deliberate failure and every death is allowed, none may make an account wrong. What
        grows stays within the limit.
        """
        before = self.taken()
        try:
            self.runner.run(work)
        except (Failure, Died, ConnectionError):
            return False
        finally:
            self.deadly.armed, self.blobs.dies_at, self.blobs.dead = None, "", False
            after = self.taken()
            assert after <= before or self.limit is None or after <= self.limit
        return True

    def taken(self) -> int:
        account = self.runner.run(self.ward.account())
        return account.used_bytes + account.reserved_bytes

    @initialize(tenant=limits, user=limits)
    def begin(self, tenant: int | None, user: int | None) -> None:
        self.change_limit(tenant)
        self.runner.run(self.ward.limit_user(Limits(storage_bytes=user, images=1)))

    @rule(who=people, name=names, data=blobs_of_all, says=some.booleans())
    def push_whole(self, who: Principal, name: str, data: bytes, says: bool) -> None:
        declared = len(data) if says else None
        if self.run(self.ward.registry.uploads.push_whole(who, name, Digest.of(data), pieces(data), declared)):
            self.linked.append((name, data))

    @rule(
        who=people, name=names, data=blobs_of_all, share=some.floats(0, 1), breaks=some.booleans(), says=some.booleans()
    )
    def start(self, who: Principal, name: str, data: bytes, share: float, breaks: bool, says: bool) -> None:
        async def go() -> None:
            upload = await self.ward.registry.uploads.start(who, name)
            self.open.append((who, name, upload.upload_id, data))
            sent = data[: int(len(data) * share)]
            declared = len(data if breaks else sent) if says else None
            await self.ward.registry.uploads.append(
                who, name, upload.upload_id, pieces(sent, breaks), declared=declared
            )

        self.run(go())

    @precondition(lambda self: self.open)
    @rule(which=some.integers(0, 99), truthful=some.booleans())
    def finish(self, which: int, truthful: bool) -> None:
        who, name, upload_id, data = self.open.pop(which % len(self.open))

        async def go() -> None:
            uploads = self.ward.registry.uploads
            held = await uploads.size(who, name, upload_id)
            digest = Digest.of(data if truthful else data + b"!")
            await uploads.append(who, name, upload_id, pieces(data[held:]), held, digest=digest)
            await uploads.finish(who, name, upload_id, digest)
            await uploads.finish(who, name, upload_id, digest)

        self.run(go())

    @precondition(lambda self: self.open)
    @rule(which=some.integers(0, 99))
    def cancel(self, which: int) -> None:
        who, name, upload_id, _ = self.open.pop(which % len(self.open))
        self.run(self.ward.registry.uploads.cancel(who, name, upload_id))

    @rule(who=people, name=names, data=blobs_of_all, moment=some.sampled_from(["before", "after", "linking"]))
    def die_while_pushing(self, who: Principal, name: str, data: bytes, moment: str) -> None:
        self.deadly.armed = Died() if moment == "linking" else None
        self.blobs.dies_at = moment
        self.run(self.ward.registry.uploads.push_whole(who, name, Digest.of(data), pieces(data), len(data)))

    @rule(name=names, data=blobs_of_all, source=names)
    def mount(self, name: str, data: bytes, source: str) -> None:
        if self.run(self.ward.registry.uploads.mount(BOTH, name, Digest.of(data), source)):
            self.linked.append((name, data))

    @precondition(lambda self: self.linked)
    @rule(which=some.integers(0, 99), fails=some.sampled_from([False, False, True]))
    def unlink(self, which: int, fails: bool) -> None:
        name, data = self.linked[which % len(self.linked)]
        self.deadly.armed = Died() if fails else None
        self.run(self.ward.registry.contents.unlink_blob(ADMINS[name], name, Digest.of(data)))

    @rule(who=people, name=names, config=blobs_of_all, layer=blobs_of_all)
    def push_image(self, who: Principal, name: str, config: bytes, layer: bytes) -> None:
        payload = image_manifest(config, [layer])
        for data in (config, layer):
            self.push_whole(who, name, data, True)
        if self.run(self.ward.registry.images.push(who, name, payload, OCI_MANIFEST, tags=["latest"])):
            self.images.append((name, payload))

    @precondition(lambda self: self.images)
    @rule(which=some.integers(0, 99))
    def delete_manifest(self, which: int) -> None:
        name, payload = self.images[which % len(self.images)]
        self.run(self.ward.registry.images.delete_manifest(ADMINS[name], name, Digest.of(payload)))

    @rule(tenant=some.sampled_from(["t-acme", "t-birch"]))
    def clear_tenant(self, tenant: str) -> None:
        async def go() -> None:
            async with self.database.transaction() as unit:
                await self.ward.registry.tenant_in_use(unit, tenant)

        self.run(go())

    @rule(limit=limits)
    def change_limit(self, limit: int | None) -> None:
        self.limit = limit
        self.runner.run(self.ward.limit(Limits(storage_bytes=limit)))

    @rule(hours=some.integers(1, 30))
    def time_passes(self, hours: int) -> None:
        self.clock.tick(hours * 3600)
        self.run(self.ward.registry.uploads.expire())
        self.run(self.ward.quota.recount.sweep())

    @invariant()
    def every_account_is_right(self) -> None:
        self.runner.run(self.ward.check_exact())

    @invariant()
    def nothing_is_negative(self) -> None:
        for subject in (ACME, BIRCH, ADAS):
            account = self.runner.run(self.ward.account(subject))
            assert min(account.used_bytes, account.reserved_bytes, account.images) >= 0

    @rule()
    def at_rest_nothing_is_reserved(self) -> None:
        self.open.clear()
        for _ in range(3):
            self.time_passes(25)
        assert self.runner.run(self.ward.account()).reserved_bytes == 0


ADMINS = {"acme/a": ADA, "acme/b": ADA, "birch/c": BOB}


async def pieces(data: bytes, breaks: bool = False) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 64):
        yield data[start : start + 64]
    if breaks:
        raise ConnectionError


def test_no_order_of_things_makes_an_account_wrong_on_sqlite(sqlite_url: str) -> None:
    template = Path(sqlite_url.removeprefix("sqlite:///"))

    class OnSqlite(QuotaMachine):
        @staticmethod
        def fresh() -> tuple[str, object]:
            directory = Path(tempfile.mkdtemp(dir=template.parent))
            shutil.copy(template, directory / "longshore.db")
            return f"sqlite:///{directory}/longshore.db", directory

        @staticmethod
        def drop(token: object) -> None:
            shutil.rmtree(str(token))

    run_state_machine_as_test(OnSqlite, settings=chosen(15))


def test_no_order_of_things_makes_an_account_wrong_on_postgresql(postgresql_template: PostgresEngine) -> None:
    numbers = iter(range(10_000))

    class OnPostgresql(QuotaMachine):
        @staticmethod
        def fresh() -> tuple[str, object]:
            name = f"quota_machine_{next(numbers)}"
            return postgresql_template.create_database(name, "longshore_template"), name

        @staticmethod
        def drop(token: object) -> None:
            postgresql_template.drop_database(str(token))

    run_state_machine_as_test(OnPostgresql, settings=chosen(6))


def chosen(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=25,
        deadline=None,
        # A machine with a database takes minutes to shrink; a failure is to be seen at once.
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        database=None,
    )


pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
