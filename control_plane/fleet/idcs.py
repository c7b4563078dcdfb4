"""Data centres: made and removed by operators."""

from __future__ import annotations

import structlog

from common.clock import Clock
from common.discovery import keys
from common.identifiers import new_id
from control_plane.database import Database
from control_plane.fleet import store_idcs
from control_plane.fleet.model import Idc, IdcUnknown, NameInvalid, check_name
from control_plane.web.paging import Page, PageRequest

log = structlog.get_logger()

_LONGEST_DISPLAY_NAME = 255


class Idcs:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def create(self, name: str, display_name: str = "") -> Idc:
        """Raises `NameInvalid`, `IdcExists`."""
        check_name(name, "an IDC")
        keys.hosts_prefix(name)  # refuses the few names that mean something else in the directory
        if len(display_name) > _LONGEST_DISPLAY_NAME:
            raise NameInvalid(
                f"the display name has {len(display_name)} characters", action=f"use at most {_LONGEST_DISPLAY_NAME}"
            )
        idc = Idc(new_id(self._clock), name, display_name or name, self._clock.now())
        async with self._database.transaction() as unit:
            await store_idcs.insert_idc(unit.connection, idc)
        log.info("IDC created", idc=name, id=idc.id)
        return idc

    async def list(self, page: PageRequest) -> Page[Idc]:
        async with self._database.reading() as connection:
            found, total = await store_idcs.list_idcs(connection, page.offset, page.limit)
        return Page(found, total, page)

    async def get(self, name: str) -> Idc:
        """Raises `IdcUnknown`."""
        async with self._database.reading() as connection:
            found = await store_idcs.find_idc(connection, name)
        if found is None:
            raise _unknown(name)
        return found

    async def remove(self, name: str) -> None:
        """Raises `IdcUnknown`, `IdcInUse` while it has hosts or regionals that are not revoked."""
        async with self._database.transaction() as unit:
            found = await store_idcs.find_idc(unit.connection, name, locked=True)
            if found is None:
                raise _unknown(name)
            await store_idcs.delete_idc(unit.connection, found)
        log.info("IDC removed", idc=name, id=found.id)


def _unknown(name: str) -> IdcUnknown:
    return IdcUnknown(f"there is no IDC {name[:80]}", action="see `longshore idc list`")
