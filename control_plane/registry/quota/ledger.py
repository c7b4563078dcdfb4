"""The accounts, as transactions change them: gathered while they last, settled once right before the commit.

Invariant: whoever writes an account holds its row, and writes as the last thing before the commit, so that many pushes
of one tenant wait for each other for two statements and a commit, never for bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        if not due:
            return
        accounts = await store.hold_accounts(unit.connection, due, self.defaults)
        try:
            settled = [rules.settled(each, due[each.subject], changes.tenants[each.subject]) for each in accounts]
        except QuotaExceeded as refusal:
            self._metrics.refused(refusal)
            raise
        await self.write(unit, settled)

    async def reserve(self, unit: UnitOfWork, subjects: Sequence[Subject], step: Step) -> int:
        """How many bytes were reserved on top of what the upload has. Raises `QuotaExceeded`."""
        accounts = await store.hold_accounts(unit.connection, subjects, self.defaults)
        try:
            more = rules.granted(accounts, step.have, step.need, step.wish, step.tenant)
        except QuotaExceeded as refusal:
            self._metrics.refused(refusal)
            raise
        change = Change(reserved_bytes=more)
        await self.write(unit, [rules.settled(each, change, step.tenant) for each in accounts])
        return more

    async def write(self, unit: UnitOfWork, accounts: Sequence[Account]) -> None:
        """Accounts that the transaction holds, with the warnings that are due."""
        written = []
        for account in accounts:
            percent, announced = rules.warning(account)
            written.append(replace(account, warned_percent=percent))
            if announced:
                self._metrics.warned(percent)
                await unit.announce(_nearly_full(account, percent))
        await store.write_figures(unit.connection, written)


def _nearly_full(account: Account, percent: int) -> QuotaNearlyFull:
    subject, limit = account.subject, account.limits.storage_bytes or 0
    return QuotaNearlyFull(subject.kind.value, subject.subject_id, percent, account.used_bytes, limit)
