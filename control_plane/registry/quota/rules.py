"""What an account permits; pure. Whoever calls holds the account's row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from common.errors import QuotaExceeded
from control_plane.registry.quota.model import Account, Change, Kind

WARN_AT = (90, 80)
# A warning can come again only after the use has fallen this far below its mark.
_REARM_POINTS = 5
# Room is taken ahead in steps, smaller ones where little is left, so that one upload does not keep others out.
STEP_BYTES = 32 << 20
_SHARE_OF_ROOM = 8


def settled(account: Account, change: Change, tenant: str) -> Account:
    """The account after the change. Raises `QuotaExceeded` if it grows beyond a limit; what shrinks is never refused,
    and neither is what was reserved before.
    """
    limits = account.limits
    after = replace(
        account,
        used_bytes=account.used_bytes + change.used_bytes,
        reserved_bytes=account.reserved_bytes + change.reserved_bytes,
        images=account.images + change.images,
    )
    growth = change.used_bytes + change.reserved_bytes
    if growth > 0 and limits.storage_bytes is not None and _taken(after) > limits.storage_bytes:
        given_back = replace(account, reserved_bytes=account.reserved_bytes + min(0, change.reserved_bytes))
        raise storage_exceeded(given_back, change.used_bytes + max(0, change.reserved_bytes), tenant)
    if change.images > 0 and limits.images is not None and after.images > limits.images:
        raise _images_exceeded(account, change.images, tenant)
    if limits.image_bytes is not None and change.largest_image > limits.image_bytes:
        raise image_exceeded(account, change.largest_image, tenant)
    return after


def granted(accounts: Sequence[Account], have: int, need: int, wish: int, tenant: str) -> int:
    """How many more bytes an upload that has `have` gets reserved: up to `wish` in all, at least `need` in all.
    Raises `QuotaExceeded` if there is not even room for `need`.
    """
    more = wish - have
    for account in accounts:
        if account.limits.image_bytes is not None and need > account.limits.image_bytes:
            raise image_exceeded(account, need, tenant)
        if account.limits.storage_bytes is None:
            continue
        room = account.limits.storage_bytes - _taken(account)
        if need - have > room:
            raise storage_exceeded(account, need - have, tenant)
        more = min(more, max(need - have, room // _SHARE_OF_ROOM))
    return more


def warning(account: Account) -> tuple[int, bool]:
    """The account's new `warned_percent`, and whether it is to be announced."""
    limit = account.limits.storage_bytes
    if limit is None:
        return 0, False
    reached = next((percent for percent in WARN_AT if account.used_bytes * 100 >= limit * percent), 0)
    if reached > account.warned_percent:
        return reached, True
    if account.used_bytes * 100 < limit * (account.warned_percent - _REARM_POINTS):
        return reached, False
    return account.warned_percent, False


def storage_exceeded(account: Account, needed: int, tenant: str) -> QuotaExceeded:
    limit = account.limits.storage_bytes
    reserved = f", {account.reserved_bytes} reserved by uploads" if account.reserved_bytes else ""
    return QuotaExceeded(
        f"the storage quota of {_owner(account, tenant)} is exceeded: {needed} bytes more are needed, "
        f"{account.used_bytes} of {limit} are used{reserved}",
        action=_ACTION,
        quota="storage_bytes",
        subject=account.subject.kind.value,
        tenant=tenant,
        limit=limit,
        used=account.used_bytes,
        reserved=account.reserved_bytes,
        needed=needed,
    )


def image_exceeded(account: Account, size: int, tenant: str) -> QuotaExceeded:
    limit = account.limits.image_bytes
    return QuotaExceeded(
        f"the image is too large for the quota of {_owner(account, tenant)}: it has {size} bytes or more, "
        f"{limit} are allowed",
        action="make the image smaller, or ask the platform's administrator for a higher limit",
        quota="image_bytes",
        subject=account.subject.kind.value,
        tenant=tenant,
        limit=limit,
        needed=size,
    )


def _images_exceeded(account: Account, needed: int, tenant: str) -> QuotaExceeded:
    limit = account.limits.images
    return QuotaExceeded(
        f"the image quota of {_owner(account, tenant)} is exceeded: {account.images} of {limit} images are there",
        action="delete an image, or ask the platform's administrator for a higher limit",
        quota="images",
        subject=account.subject.kind.value,
        tenant=tenant,
        limit=limit,
        used=account.images,
        needed=needed,
    )


_ACTION = "delete what is not needed, or ask the platform's administrator for a higher limit"


def _owner(account: Account, tenant: str) -> str:
    return f"tenant {tenant}" if account.subject.kind is Kind.TENANT else "the user who pushes"


def _taken(account: Account) -> int:
    return account.used_bytes + account.reserved_bytes
