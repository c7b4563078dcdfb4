"""Which store an upload lives in. It is never moved: made in one hot store, committed or aborted there.

What is remembered is a hint, lost with the process; then the stores are asked.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from datetime import datetime

from common.errors import Failure, Unavailable
from control_plane.blobs import PendingUpload, UploadUnknown
from control_plane.blobs.store_set.members import Member, Members

_REMEMBERED = 10_000


class UploadPlaces:
    def __init__(self, members: Members) -> None:
        self._members = members
        self._places: OrderedDict[str, Member] = OrderedDict()

    async def create(self, upload_id: str) -> None:
        """In the first hot store that takes it."""
        failure: Unavailable | None = None
        for member in self._members.in_order(None, self._members.hot):
            try:
                await member.store.create_upload(upload_id)
            except Unavailable as error:
                self._members.failed(member)
                failure = failure or error
                continue
            self._remember(upload_id, member)
            return
        assert failure is not None  # noqa: S101  there is a hot store
        raise failure

    async def of(self, upload_id: str) -> Member:
        """Raises `UploadUnknown`, or `Unavailable` if a store that may have it is away."""
        if len(self._members.all) == 1:
            return self._members.primary
        known = self._places.get(upload_id)
        if known is not None:
            return known
        unknown, away = None, None
        for member in self._members.all:
            try:
                await member.store.upload_size(upload_id)
            except UploadUnknown as failure:
                unknown = unknown or failure
            except Unavailable as failure:
                away = away or failure
            else:
                self._remember(upload_id, member)
                return member
        raise away or unknown or UploadUnknown("there is no such upload", action="start a new upload")

    def ended(self, upload_id: str) -> None:
        self._places.pop(upload_id, None)

    async def abort(self, upload_id: str) -> None:
        known = self._places.pop(upload_id, None)
        if known is not None:
            await known.store.abort(upload_id)
            return
        ended = await asyncio.gather(
            *(each.store.abort(upload_id) for each in self._members.all), return_exceptions=True
        )
        raise_first(ended)

    async def pending(self, older_than: datetime) -> Iterable[PendingUpload]:
        """Of all stores: copies that were broken off are uploads, too."""
        found: list[PendingUpload] = []
        failure: Failure | None = None
        for member in self._members.all:
            try:
                found += await member.store.pending_uploads(older_than)
            except Unavailable as error:
                failure = error
        if failure is not None and not found:
            raise failure
        return found

    def _remember(self, upload_id: str, member: Member) -> None:
        self._places[upload_id] = member
        if len(self._places) > _REMEMBERED:
            self._places.popitem(last=False)


def raise_first(ended: Iterable[object]) -> None:
    """Of what `asyncio.gather` returned."""
    for each in ended:
        if isinstance(each, BaseException):
            raise each
