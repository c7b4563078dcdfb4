"""Queries over accounts, charges and reservations."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Row, and_, bindparam, delete, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from common.digest import Digest
from control_plane.database.locks import hold_rows
from control_plane.database.upserts import insert_by, insert_into, insert_or_ignore, insert_or_replace, inserted
from control_plane.registry.quota.model import Account, Change, Defaults, Kind, Limits, Subject
from control_plane.registry.quota.tables import quota_accounts, quota_charges, quota_reservations
from control_plane.registry.tables import manifests, repositories

_TAKING = (
    delete(quota_reservations)
    .where(quota_reservations.c.upload_id.in_(bindparam("upload_ids", expanding=True)))
    .returning(quota_reservations.c.tenant_id, quota_reservations.c.user_id, quota_reservations.c.bytes)
)
_FACTS = select(manifests.c.pushed_by, func.length(manifests.c.payload).label("bytes"), manifests.c.total_size).where(
    manifests.c.repository_id == bindparam("repository_id"), manifests.c.digest == bindparam("digest")
)


async def hold_accounts(
    connection: AsyncConnection, subjects: Collection[Subject], defaults: Defaults
) -> list[Account]:
    """In the order of locking, held until the transaction ends; made where there was none."""
    keys = [(subject.kind.value, subject.subject_id) for subject in sorted(subjects)]
    rows = await hold_rows(connection, quota_accounts, keys)
    if len(rows) < len(keys):
        found = {(row.kind, row.subject_id) for row in rows}
        missing = [{"kind": key[0], "subject_id": key[1]} for key in keys if key not in found]
        await insert_or_ignore(connection, quota_accounts, missing)
        rows = await hold_rows(connection, quota_accounts, keys)
    return [_account(row, defaults) for row in rows]


async def change_accounts(
    connection: AsyncConnection, subjects: Collection[Subject], change: Change, defaults: Defaults
) -> list[Account]:
    """The same change to each of them, whatever comes of it; how they are then, held until the transaction ends. One
    statement: what many pushes of a tenant wait for each other for.
    """
    rows = await _changed(connection, subjects, change)
    if len(rows) < len(subjects):
        found = {Subject(Kind(row.kind), row.subject_id) for row in rows}
        missing = sorted(set(subjects) - found)
        keys = [{"kind": each.kind.value, "subject_id": each.subject_id} for each in missing]
        await insert_or_ignore(connection, quota_accounts, keys)
        rows = [*rows, *await _changed(connection, missing, change)]
    return [_account(row, defaults) for row in rows]


async def _changed(connection: AsyncConnection, subjects: Collection[Subject], change: Change) -> Sequence[Row[Any]]:
    figures = {
        "keys": [(subject.kind.value, subject.subject_id) for subject in subjects],
        "more_used": change.used_bytes,
        "more_reserved": change.reserved_bytes,
        "more_images": change.images,
    }
    return (await connection.execute(_changing(connection.dialect.name), figures)).all()


@cache
def _changing(dialect: str) -> Any:
    table = quota_accounts
    chosen: Any = tuple_(table.c.kind, table.c.subject_id).in_(bindparam("keys", expanding=True))
    if dialect != "sqlite":
        # An UPDATE alone locks its rows in whatever order it finds them.
        held = select(table.c.kind, table.c.subject_id).where(chosen).order_by(table.c.kind, table.c.subject_id)
        locked = held.with_for_update().cte("held")
        chosen = and_(table.c.kind == locked.c.kind, table.c.subject_id == locked.c.subject_id)
    changed = {
        table.c.used_bytes: table.c.used_bytes + bindparam("more_used"),
        table.c.reserved_bytes: table.c.reserved_bytes + bindparam("more_reserved"),
        table.c.image_count: table.c.image_count + bindparam("more_images"),
    }
    return update(table).where(chosen).values(changed).returning(*table.columns)


async def write_figures(connection: AsyncConnection, accounts: Iterable[Account]) -> None:
    """Of accounts that the transaction holds."""
    statement = (
        update(quota_accounts)
        .where(quota_accounts.c.kind == bindparam("of_kind"), quota_accounts.c.subject_id == bindparam("of_subject"))
        .values(
            used_bytes=bindparam("used"),
            reserved_bytes=bindparam("reserved"),
            image_count=bindparam("images"),
            warned_percent=bindparam("warned"),
        )
    )
    rows = [
        {
            "of_kind": account.subject.kind.value,
            "of_subject": account.subject.subject_id,
            "used": account.used_bytes,
            "reserved": account.reserved_bytes,
            "images": account.images,
            "warned": account.warned_percent,
        }
        for account in accounts
    ]
    await connection.execute(statement, rows)


async def write_limits(connection: AsyncConnection, subject: Subject, limits: Limits | None) -> None:
    """None: the defaults. Of an account that the transaction holds."""
    chosen = limits or Limits()
    await connection.execute(
        update(quota_accounts)
        .where(quota_accounts.c.kind == subject.kind.value, quota_accounts.c.subject_id == subject.subject_id)
        .values(
            own_limits=limits is not None,
            max_storage_bytes=chosen.storage_bytes,
            max_image_count=chosen.images,
            max_image_size_bytes=chosen.image_bytes,
        )
    )


async def find_accounts(
    connection: AsyncConnection, subjects: Collection[Subject], defaults: Defaults
) -> dict[Subject, Account]:
    """Those who never stored anything and have no limits of their own have an account of zeros."""
    found = {subject: Account(subject, defaults.of(subject.kind)) for subject in subjects}
    for kind in Kind:
        ids = [subject.subject_id for subject in subjects if subject.kind is kind]
        if ids:
            query = select(quota_accounts).where(
                quota_accounts.c.kind == kind.value, quota_accounts.c.subject_id.in_(ids)
            )
            for row in await connection.execute(query):
                account = _account(row, defaults)
                found[account.subject] = account
    return found


async def subjects_after(connection: AsyncConnection, kind: Kind, after: str, limit: int) -> list[Subject]:
    """Who has an account, in order of id, from the one after `after`."""
    query = (
        select(quota_accounts.c.subject_id)
        .where(quota_accounts.c.kind == kind.value, quota_accounts.c.subject_id > after)
        .order_by(quota_accounts.c.subject_id)
        .limit(limit)
    )
    return [Subject(kind, subject_id) for subject_id in (await connection.execute(query)).scalars()]


async def charge(connection: AsyncConnection, tenant_id: str, digest: Digest, user_id: str, size: int) -> bool:
    """One more repository of the tenant links the blob; whether it is the first."""
    row = {"tenant_id": tenant_id, "digest": str(digest), "user_id": user_id, "size": size, "links": 1}
    return int((await connection.execute(_charging(connection.dialect.name), row)).scalar_one()) == 1


# Made once, like all statements of a push: building one costs more than executing it.
@cache
def _charging(dialect: str) -> Any:
    return (
        insert_by(dialect, quota_charges)
        .on_conflict_do_update(index_elements=["tenant_id", "digest"], set_={"links": quota_charges.c.links + 1})
        .returning(quota_charges.c.links)
    )


async def discharge(connection: AsyncConnection, tenant_id: str, digest: Digest) -> tuple[str, int] | None:
    """One repository of the tenant less links the blob; after the last one, who paid for it and how much."""
    which = (quota_charges.c.tenant_id == tenant_id, quota_charges.c.digest == str(digest))
    statement = update(quota_charges).where(*which).values(links=quota_charges.c.links - 1)
    left = (await connection.execute(statement.returning(*quota_charges.columns))).first()
    if left is None or left.links > 0:
        return None
    await connection.execute(delete(quota_charges).where(*which))
    return left.user_id, left.size


async def charged_size(connection: AsyncConnection, tenant_id: str, digest: Digest) -> int | None:
    """The size of a blob that the tenant pays for already."""
    query = select(quota_charges.c.size).where(
        quota_charges.c.tenant_id == tenant_id, quota_charges.c.digest == str(digest)
    )
    return (await connection.execute(query)).scalar_one_or_none()


async def hold_reservation(
    connection: AsyncConnection, upload_id: str, tenant_id: str, user_id: str, now: datetime
) -> int:
    """How much is reserved for the upload; its row is made if there is none, and held."""
    row = {"upload_id": upload_id, "tenant_id": tenant_id, "user_id": user_id, "bytes": 0, "renewed_at": now}
    statement = insert_into(connection, quota_reservations).values(row)
    statement = statement.on_conflict_do_update(
        index_elements=["upload_id"], set_={"renewed_at": now, "missing_since": None}
    )
    return int((await connection.execute(statement.returning(quota_reservations.c.bytes))).scalar_one())


async def first_reservation(
    connection: AsyncConnection, upload_id: str, tenant_id: str, user_id: str, size: int, now: datetime
) -> bool:
    """False if the upload has one."""
    row = {"upload_id": upload_id, "tenant_id": tenant_id, "user_id": user_id, "bytes": size, "renewed_at": now}
    return await inserted(connection, quota_reservations, row)


async def set_reservation(connection: AsyncConnection, upload_id: str, size: int) -> None:
    """Of a row that the transaction holds."""
    await connection.execute(
        update(quota_reservations).where(quota_reservations.c.upload_id == upload_id).values(bytes=size)
    )


async def take_reservations(connection: AsyncConnection, upload_ids: Sequence[str]) -> list[tuple[str, str, int]]:
    """Remove them; tenant, user and bytes of each that there was."""
    rows = await connection.execute(_TAKING, {"upload_ids": list(upload_ids)})
    return [(row[0], row[1], row[2]) for row in rows]


async def quiet_reservations(
    connection: AsyncConnection, before: datetime, after: str, limit: int
) -> list[tuple[str, datetime | None]]:
    """Upload and `missing_since` of reservations not renewed since `before`, in order, from the one after `after`."""
    query = (
        select(quota_reservations.c.upload_id, quota_reservations.c.missing_since)
        .where(quota_reservations.c.renewed_at < before, quota_reservations.c.upload_id > after)
        .order_by(quota_reservations.c.upload_id)
        .limit(limit)
    )
    return [(row.upload_id, row.missing_since) for row in await connection.execute(query)]


async def mark_missing(connection: AsyncConnection, upload_ids: Sequence[str], now: datetime) -> None:
    await connection.execute(
        update(quota_reservations).where(quota_reservations.c.upload_id.in_(upload_ids)).values(missing_since=now)
    )


async def manifest_facts(connection: AsyncConnection, repository_id: str, digest: Digest) -> tuple[str, int, int]:
    """Of a manifest that is there: who pushed it, the bytes of its payload, the bytes of its image."""
    row = (await connection.execute(_FACTS, {"repository_id": repository_id, "digest": str(digest)})).one()
    return row.pushed_by, row.bytes, row.total_size


async def payloads_in(connection: AsyncConnection, repository_id: str) -> list[tuple[str, int]]:
    """The bytes of the manifests of a repository, by who pushed them."""
    query = (
        select(manifests.c.pushed_by, func.sum(func.length(manifests.c.payload)).label("bytes"))
        .where(manifests.c.repository_id == repository_id)
        .group_by(manifests.c.pushed_by)
    )
    return [(row.pushed_by, int(row.bytes)) for row in await connection.execute(query)]


async def maker_of(connection: AsyncConnection, repository_id: str) -> str:
    """Of a repository that is there."""
    query = select(repositories.c.created_by).where(repositories.c.id == repository_id)
    return str((await connection.execute(query)).scalar_one())


async def put_charge(
    connection: AsyncConnection, tenant_id: str, digest: str, user_id: str, size: int, links: int
) -> None:
    """For repairs. The payer of a charge that is there stays."""
    which = (quota_charges.c.tenant_id == tenant_id, quota_charges.c.digest == digest)
    if links == 0:
        await connection.execute(delete(quota_charges).where(*which))
        return
    row = {"tenant_id": tenant_id, "digest": digest, "user_id": user_id, "size": size, "links": links}
    await insert_or_replace(connection, quota_charges, [row], only=["size", "links"])


def _account(row: Row[Any], defaults: Defaults) -> Account:
    subject = Subject(Kind(row.kind), row.subject_id)
    own = Limits(row.max_storage_bytes, row.max_image_count, row.max_image_size_bytes)
    return Account(
        subject,
        own if row.own_limits else defaults.of(subject.kind),
        row.own_limits,
        row.used_bytes,
        row.reserved_bytes,
        row.image_count,
        row.warned_percent,
    )
