"""The accounts, as transactions change them: gathered while they last, settled once right before the commit.

Invariant: whoever writes an account holds its row, and writes as the last thing before the commit, so that many pushes
of one tenant wait for each other for one statement and a commit, never for bytes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from common.errors import QuotaExceeded
from control_plane.database import UnitOfWork
from control_plane.registry.quota import rules, store
from control_plane.registry.quota.messages import QuotaNearlyFull
from control_plane.registry.quota.metrics import QuotaMetrics
from control_plane.registry.quota.model import Account, Change, Defaults, Subject, subjects_of


class Changes:
    """What one transaction does to accounts."""

    def __init__(self) -> None:
        self.due: dict[Subject, Change] = {}
        self.tenants: dict[Subject, str] = {}

    def add(self, tenant: str, tenant_id: str, user_id: str, change: Change) -> None:
        """`tenant` is the name for whoever is refused."""
        for subject in subjects_of(tenant_id, user_id):
            self.add_to(subject, tenant, change)

    def add_to(self, subject: Subject, tenant: str, change: Change) -> None:
        self.due[subject] = self.due.get(subject, Change()) + change
        self.tenants[subject] = tenant or self.tenants.get(subject, "")


@dataclass(frozen=True, slots=True)
class Step:
    """What an upload that has `have` bytes reserved needs at least, and would like to have, in all."""

    tenant: str
    have: int
    need: int
    wish: int


class Ledger:
    def __init__(self, defaults: Defaults, metrics: QuotaMetrics) -> None:
        self.defaults = defaults
        self._metrics = metrics

    def changes(self, unit: UnitOfWork) -> Changes:
        return unit.gather(Changes, partial(self._settle, unit))

    async def _settle(self, unit: UnitOfWork, changes: Changes) -> None:
        due = {subject: change for subject, change in changes.due.items() if change.any}
        accounts: list[Account] = []
        # Tenant and user nearly always have the same change; else one after the other, in the order of locking.
        for change, subjects in _alike(due):
            accounts += await store.change_accounts(unit.connection, subjects, change, self.defaults)
        for after in accounts:
            change = due[after.subject]
            with self.counting():
                rules.settled(_before(after, change), change, changes.tenants[after.subject])
        await self.warn(unit, accounts)

    async def reserve_all(self, unit: UnitOfWork, subjects: Sequence[Subject], size: int, tenant: str) -> None:
        """All that a new upload says it needs. Raises `QuotaExceeded`."""
        change = Change(reserved_bytes=size)
        accounts = await store.change_accounts(unit.connection, subjects, change, self.defaults)
        before = sorted((_before(after, change) for after in accounts), key=lambda account: account.subject)
        rules.granted(before, 0, size, size, tenant)

    async def reserve(self, unit: UnitOfWork, subjects: Sequence[Subject], step: Step) -> int:
        """How many bytes were reserved on top of what the upload has. Raises `QuotaExceeded`."""
        accounts = await store.hold_accounts(unit.connection, subjects, self.defaults)
        more = rules.granted(accounts, step.have, step.need, step.wish, step.tenant)
        change = Change(reserved_bytes=more)
        await store.write_figures(unit.connection, [rules.settled(each, change, step.tenant) for each in accounts])
        return more

    async def warn(self, unit: UnitOfWork, accounts: Sequence[Account]) -> None:
        """Announce what is due of accounts that the transaction holds."""
        changed = []
        for account in accounts:
            percent, announced = rules.warning(account)
            if percent != account.warned_percent:
                changed.append(replace(account, warned_percent=percent))
            if announced:
                self._metrics.warned(percent)
                await unit.announce(_nearly_full(account, percent))
        if changed:
            await store.write_figures(unit.connection, changed)

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Count the refusal that ends the block, if one does."""
        try:
            yield
        except QuotaExceeded as refusal:
            self._metrics.refused(refusal)
            raise


def _alike(due: Mapping[Subject, Change]) -> list[tuple[Change, list[Subject]]]:
    if len(set(due.values())) == 1:
        return [(next(iter(due.values())), sorted(due))]
    return [(due[subject], [subject]) for subject in sorted(due)]


def _before(after: Account, change: Change) -> Account:
    return replace(
        after,
        used_bytes=after.used_bytes - change.used_bytes,
        reserved_bytes=after.reserved_bytes - change.reserved_bytes,
        images=after.images - change.images,
    )


def _nearly_full(account: Account, percent: int) -> QuotaNearlyFull:
    subject, limit = account.subject, account.limits.storage_bytes or 0
    return QuotaNearlyFull(subject.kind.value, subject.subject_id, percent, account.used_bytes, limit)
